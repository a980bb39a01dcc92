//! Files that a command is given; `-` is standard input.

use std::io::Read;
use std::path::Path;

use prost::Message;
use serde_json::Value;

use super::about::Given;
use crate::cli::Failure;
use crate::grpc::json;
use crate::yaml;

/// The text of a file.
pub(in crate::cli) fn read(path: &Path) -> Result<String, Failure> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| Failure::unusable(format!("{}: {error}", name(path))))
}

/// The one line that a file holds: a credential.
pub(in crate::cli) fn read_line(path: &Path) -> Result<String, Failure> {
    let text = read(path)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains('\n') {
        return Err(Failure::unusable(format!("{}: must hold the value alone, on one line", name(path))));
    }
    Ok(line.to_owned())
}

/// How a file is called in a message.
pub(in crate::cli) fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// What a file of JSON or YAML holds, in its one or more documents.
pub(in crate::cli) fn documents(path: &Path) -> Result<Vec<Value>, Failure> {
    documents_of(&read(path)?).map_err(|reason| Failure::unusable(format!("{}: {reason}", name(path))))
}

/// The one document that a file of JSON or YAML holds.
pub(in crate::cli) fn document(path: &Path) -> Result<Value, Failure> {
    match <[Value; 1]>::try_from(documents(path)?) {
        Ok([value]) => Ok(value),
        Err(many) => Err(Failure::unusable(format!("{}: must hold one document, not {}", name(path), many.len()))),
    }
}

/// The message that a file of JSON or YAML describes, and which of its `editable` fields the file names. `id` replaces the file's.
pub(in crate::cli) fn message<T: Message + Default>(
    path: &Path,
    full_name: &str,
    editable: &[&'static str],
    id: Option<String>,
) -> Result<(T, Given), Failure> {
    let mut value = document(path)?;
    let given = Given::in_file(&value, editable);
    if let (Value::Object(fields), Some(id)) = (&mut value, id) {
        fields.insert("id".to_owned(), Value::String(id));
    }
    let message = json::from_json(full_name, value).map_err(|reason| Failure::unusable(format!("{}: {reason}", name(path))))?;
    Ok((message, given))
}

fn documents_of(text: &str) -> Result<Vec<Value>, String> {
    let as_json = match serde_json::from_str(text) {
        Ok(value) => {
            // JSON is YAML, and only that reader tells of repeated keys. What it cannot read is JSON all the same.
            let repeated = yaml::parse(text).map_or(Ok(()), |document| once(&document));
            return repeated.map(|()| vec![value]);
        }
        Err(error) => error,
    };
    let values: Result<Vec<Value>, String> = parts(text).iter().map(|part| from_yaml(part)).collect();
    if text.trim_start().starts_with('{') { values.map_err(|_| as_json.to_string()) } else { values }
}

fn from_yaml(text: &str) -> Result<Value, String> {
    let document = yaml::parse(text).map_err(|error| error.to_string())?;
    once(&document)?;
    document.root.to_json().map_err(|error| error.to_string())
}

fn once(document: &yaml::Document) -> Result<(), String> {
    match document.repeated.first() {
        Some(yaml::Repeated { line, key }) => Err(format!("line {line}: `{key}` is there already")),
        None => Ok(()),
    }
}

/// The documents of a YAML text, each with as many empty lines before it that its own lines keep their numbers. Those without content are
/// left out, unless there is no other.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for (at, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            parts.push("\n".repeat(at));
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let says_something = |part: &String| part.lines().any(|line| !line.is_empty() && line != "---" && !line.starts_with(['#', '%']));
    let found: Vec<String> = parts.into_iter().filter(says_something).collect();
    if found.is_empty() { vec![String::new()] } else { found }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::documents_of;

    #[test]
    fn a_file_is_json_or_yaml_of_several_documents() {
        let one = json!({"a": 1, "b": ["x"]});
        assert_eq!(documents_of("{\"a\": 1,\n\t\"b\": [\"x\"]}"), Ok(vec![one.clone()]), "tabs too");
        assert_eq!(documents_of("# say\n---\na: 1\nb: [x]\n"), Ok(vec![one.clone()]));
        assert_eq!(documents_of("{a: 1, b: [x]}"), Ok(vec![one.clone()]));
        assert_eq!(documents_of("a: 1\nb: [x]\n---\n# nothing\n--- # two\nc: |\n  -- -\n"), Ok(vec![one, json!({"c": "-- -\n"})]));
        assert_eq!(documents_of(""), Ok(vec![json!(null)]));
        assert_eq!(documents_of("# nothing\n"), Ok(vec![json!(null)]));
    }

    #[test]
    fn mistakes_are_found_on_their_lines() {
        for (text, said) in [
            ("{\"a\": 1,}\n", ""),
            ("{\"a\": [1, }", "line 1 column 11"),
            ("{\"a\": 1, \"a\": 2}", "line 1: `a` is there already"),
            ("a: 1\na: 2\n", "line 2: `a` is there already"),
            ("a: 1\n---\nb: 1\nb: 2\n", "line 4: `b` is there already"),
            ("a: 1\n---\nb: [\n", "line "),
        ] {
            match documents_of(text) {
                Ok(_) => assert!(said.is_empty(), "{text}"),
                Err(error) => assert!(!said.is_empty() && error.contains(said), "{text}: {error}"),
            }
        }
    }
}
