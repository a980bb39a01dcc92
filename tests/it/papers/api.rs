//! `docs/api.md` is what the comments of the contract say.

use std::collections::HashMap;
use std::fmt::Write;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    ServiceDescriptor,
};
use tollgate::grpc::TOLLGATE_DESCRIPTORS;

use super::{cell, hold_part};

/// The files of the contract, gateways first.
const FILES: [&str; 2] = ["tollgate/v1/decision.proto", "tollgate/v1/usage_plans.proto"];

/// The comments of a file, by the path of what they are about.
struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptor) -> Self {
        let places = &file.file_descriptor_proto().source_code_info.as_ref().unwrap().location;
        let text = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let comments =
            places.iter().map(|place| (place.path.clone(), text(place.leading_comments())));
        Self(comments.collect())
    }

    fn text(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", |text| text.trim())
    }

    fn cell(&self, path: &[i32]) -> String {
        cell(self.text(path)).replace('<', "\\<")
    }

    /// Paragraphs and lists, with lines of their own.
    fn paragraphs(&self, path: &[i32]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut open = false;
        for line in self.text(path).replace('<', "\\<").lines() {
            match parts.last_mut().filter(|_| open && !line.starts_with("- ")) {
                Some(part) if !line.is_empty() => {
                    part.push(' ');
                    part.push_str(line);
                }
                _ if line.is_empty() => open = false,
                _ => {
                    parts.push(line.to_owned());
                    open = true;
                }
            }
        }
        let mut out = String::new();
        for (index, part) in parts.iter().enumerate() {
            let follows = |at: usize| parts.get(at).is_some_and(|other| other.starts_with("- "));
            out.push_str(&super::page::wrapped(part));
            out.push_str(if follows(index) && follows(index + 1) { "\n" } else { "\n\n" });
        }
        out.trim_end().to_owned()
    }
}

/// A name within its package.
fn short(full_name: &str) -> &str {
    full_name.strip_prefix("tollgate.v1.").unwrap_or(full_name)
}

fn link(full_name: &str) -> String {
    let name = short(full_name);
    match full_name.starts_with("tollgate.v1.") {
        true => format!("[`{name}`](#{})", name.to_lowercase().replace('.', "")),
        false => format!("`{name}`"),
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => link(message.full_name()),
        Kind::Enum(values) => link(values.full_name()),
        scalar => format!("`{}`", format!("{scalar:?}").to_lowercase()),
    }
}

fn field_type(field: &FieldDescriptor) -> String {
    if field.is_map() {
        let entry = field.kind().as_message().cloned().unwrap();
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map of {} to {}", kind(&key.kind()), kind(&value.kind()));
    }
    let one_of = field.containing_oneof();
    let before = match &one_of {
        _ if field.is_list() => "repeated ".to_owned(),
        Some(parts) if parts.is_synthetic() => "optional ".to_owned(),
        Some(parts) => format!("one of `{}`: ", parts.name()),
        None => String::new(),
    };
    before + &kind(&field.kind())
}

fn service(out: &mut String, comments: &Comments, service: &ServiceDescriptor) {
    writeln!(out, "## {}\n\n{}\n", service.name(), comments.paragraphs(service.path())).unwrap();
    out.push_str("| method | takes | gives | |\n|---|---|---|---|\n");
    for method in service.methods() {
        let stream = |streams| if streams { "stream of " } else { "" };
        let (takes, gives) = (method.input(), method.output());
        writeln!(
            out,
            "| `{}` | {}{} | {}{} | {} |",
            method.name(),
            stream(method.is_client_streaming()),
            link(takes.full_name()),
            stream(method.is_server_streaming()),
            link(gives.full_name()),
            comments.cell(method.path())
        )
        .unwrap();
    }
    out.push('\n');
}

fn message(out: &mut String, comments: &Comments, shown: &MessageDescriptor) {
    if shown.is_map_entry() {
        return;
    }
    let name = short(shown.full_name());
    writeln!(out, "### {name}\n\n{}\n", comments.paragraphs(shown.path())).unwrap();
    if shown.fields().len() > 0 {
        out.push_str("| field | type | |\n|---|---|---|\n");
    }
    for field in shown.fields() {
        let (name, meaning) = (field.name(), comments.cell(field.path()));
        writeln!(out, "| `{name}` | {} | {meaning} |", field_type(&field)).unwrap();
    }
    out.push('\n');
    shown.child_enums().for_each(|inner| values(out, comments, &inner));
    shown.child_messages().for_each(|inner| message(out, comments, &inner));
}

fn values(out: &mut String, comments: &Comments, shown: &EnumDescriptor) {
    let name = short(shown.full_name());
    writeln!(out, "### {name}\n\n{}\n", comments.paragraphs(shown.path())).unwrap();
    out.push_str("| value | number | |\n|---|---|---|\n");
    for value in shown.values() {
        let meaning = comments.cell(value.path());
        writeln!(out, "| `{}` | {} | {meaning} |", value.name(), value.number()).unwrap();
    }
    out.push('\n');
}

#[test]
fn the_reference_is_what_the_contract_says() {
    let pool = DescriptorPool::decode(TOLLGATE_DESCRIPTORS).unwrap();
    let mut out = String::from("\n");
    for name in FILES {
        let file = pool.get_file_by_name(name).unwrap();
        let comments = Comments::of(&file);
        file.services().for_each(|shown| service(&mut out, &comments, &shown));
    }
    for name in FILES {
        let file = pool.get_file_by_name(name).unwrap();
        let comments = Comments::of(&file);
        writeln!(out, "## Messages of `{name}`\n").unwrap();
        file.messages().for_each(|shown| message(&mut out, &comments, &shown));
        file.enums().for_each(|shown| values(&mut out, &comments, &shown));
    }
    hold_part("docs/api.md", "api", &out);
}
