//! Files that a command is given; `-` is standard input.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use serde_json::Value;

use super::about::Given;
use super::place;
use crate::cli::Failure;
use crate::decide::invalid::Invalid;
use crate::grpc::json;
use crate::plain_file;
use crate::yaml::{self, Node, YamlError};

/// The text of a file.
pub(in crate::cli) fn read(path: &Path) -> Result<String, Failure> {
    let text = if path.as_os_str() == "-" {
        plain_file::read_long_text(std::io::stdin().lock())
    } else {
        plain_file::open(path, "file to read (`-` reads standard input)")
            .and_then(plain_file::read_long_text)
    };
    text.map_err(|error| Failure::unusable(format!("{}: {error}", name(path))))
}

/// The one line that a file holds: a credential.
pub(in crate::cli) fn read_line(path: &Path) -> Result<String, Failure> {
    let text = read(path)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() || line.contains('\n') {
        return Err(Failure::unusable(format!(
            "{}: must hold the value alone, on one line",
            name(path)
        )));
    }
    Ok(line.to_owned())
}

/// How a file is called in a message.
pub(in crate::cli) fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// A document of a file: what it holds, and where each of its parts stands.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Document {
    file: Arc<str>,
    pub(in crate::cli) value: Value,
    /// `None` for JSON that the reader of YAML cannot read.
    pub(in crate::cli) root: Option<Arc<Node>>,
}

impl Document {
    /// How its file is called.
    pub(in crate::cli) fn name(&self) -> &str {
        &self.file
    }

    /// What cannot be used of it: a line for each mistake, with its place.
    pub(in crate::cli) fn refused(&self, mistakes: &[Invalid]) -> Failure {
        place::refused(mistakes.iter().map(|mistake| self.told(mistake)).collect(), 0)
    }

    /// `plans.yaml:12: plans[1] (silver): rateLimit.burst must be ...`.
    pub(in crate::cli) fn told(&self, mistake: &Invalid) -> String {
        place::told(&self.file, self.root.as_deref(), mistake)
    }

    /// Every key of it that has nothing behind it.
    pub(in crate::cli) fn left_blank(&self) -> Vec<Invalid> {
        self.root.as_deref().map(place::left_blank).unwrap_or_default()
    }
}

/// What a file of JSON or YAML holds, in its one or more documents.
pub(in crate::cli) fn documents(path: &Path) -> Result<Vec<Document>, Failure> {
    let file: Arc<str> = name(path).into();
    match documents_of(&read(path)?) {
        Ok(documents) => Ok(documents
            .into_iter()
            .map(|(value, root)| Document { file: Arc::clone(&file), value, root })
            .collect()),
        Err(Unreadable { line: Some(line), reason }) => {
            Err(Failure::unusable(format!("{file}:{line}: {reason}")))
        }
        Err(Unreadable { line: None, reason }) => {
            Err(Failure::unusable(format!("{file}: {reason}")))
        }
    }
}

/// The one document that a file of JSON or YAML holds.
pub(in crate::cli) fn document(path: &Path) -> Result<Document, Failure> {
    match <[Document; 1]>::try_from(documents(path)?) {
        Ok([document]) => Ok(document),
        Err(many) => Err(Failure::unusable(format!(
            "{}: must hold one document, not {}",
            name(path),
            many.len()
        ))),
    }
}

/// The message that a file of JSON or YAML describes, and which of its `editable` fields the file
/// names. `id` replaces the file's.
pub(in crate::cli) fn message<T: Message + Default>(
    path: &Path,
    full_name: &str,
    editable: &[&'static str],
    id: Option<String>,
) -> Result<(T, Given), Failure> {
    let document = document(path)?;
    let mut value = document.value.clone();
    let given = Given::in_file(&value, editable);
    if let (Value::Object(fields), Some(id)) = (&mut value, id) {
        fields.insert("id".to_owned(), Value::String(id));
    }
    let message = json::read(full_name, &value).map_err(|mistakes| document.refused(&mistakes))?;
    Ok((message, given))
}

/// Why a text is neither JSON nor YAML.
#[derive(Debug, PartialEq)]
struct Unreadable {
    line: Option<usize>,
    reason: String,
}

impl From<YamlError> for Unreadable {
    fn from(error: YamlError) -> Self {
        Self { line: usize::try_from(error.line).ok(), reason: error.reason }
    }
}

type Parsed = (Value, Option<Arc<Node>>);

fn documents_of(text: &str) -> Result<Vec<Parsed>, Unreadable> {
    let as_json = match serde_json::from_str(text) {
        Ok(value) => {
            // JSON is YAML, and only that reader tells of lines and of repeated keys. What it
            // cannot read is JSON all the same.
            return match yaml::parse(text) {
                Ok(document) => once(&document).map(|()| vec![(value, Some(document.root))]),
                Err(_) => Ok(vec![(value, None)]),
            };
        }
        Err(error) => error,
    };
    let values: Result<Vec<Parsed>, Unreadable> =
        parts(text).iter().map(|part| from_yaml(part)).collect();
    if text.trim_start().starts_with('{') {
        return values
            .map_err(|_| Unreadable { line: Some(as_json.line()), reason: as_json.to_string() });
    }
    values
}

fn from_yaml(text: &str) -> Result<Parsed, Unreadable> {
    let document = yaml::parse(text)?;
    once(&document)?;
    Ok((document.root.to_json()?, Some(document.root)))
}

fn once(document: &yaml::Document) -> Result<(), Unreadable> {
    match document.repeated.first() {
        Some(yaml::Repeated { line, key }) => Err(Unreadable {
            line: usize::try_from(*line).ok(),
            reason: format!("`{key}` is there already"),
        }),
        None => Ok(()),
    }
}

/// The documents of a YAML text, each with as many empty lines before it that its own lines keep
/// their numbers. Those without content are left out, unless there is no other.
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
    let says_something = |part: &String| {
        part.lines().any(|line| !line.is_empty() && line != "---" && !line.starts_with(['#', '%']))
    };
    let found: Vec<String> = parts.into_iter().filter(says_something).collect();
    if found.is_empty() { vec![String::new()] } else { found }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::documents_of;

    fn values(text: &str) -> Vec<serde_json::Value> {
        documents_of(text).unwrap().into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn a_file_is_json_or_yaml_of_several_documents() {
        let one = json!({"a": 1, "b": ["x"]});
        assert_eq!(values("{\"a\": 1,\n\t\"b\": [\"x\"]}"), std::slice::from_ref(&one), "tabs too");
        assert_eq!(values("# say\n---\na: 1\nb: [x]\n"), std::slice::from_ref(&one));
        assert_eq!(values("{a: 1, b: [x]}"), std::slice::from_ref(&one));
        assert_eq!(
            values("a: 1\nb: [x]\n---\n# nothing\n--- # two\nc: |\n  -- -\n"),
            [one, json!({"c": "-- -\n"})]
        );
        assert_eq!(values(""), [json!(null)]);
        assert_eq!(values("# nothing\n"), [json!(null)]);
    }

    #[test]
    fn mistakes_are_found_on_their_lines() {
        for (text, line, said) in [
            ("{\"a\": [1, }", 1, "line 1 column 11"),
            ("{\"a\": 1, \"a\": 2}", 1, "`a` is there already"),
            ("a: 1\na: 2\n", 2, "`a` is there already"),
            ("a: 1\n---\nb: 1\nb: 2\n", 4, "`b` is there already"),
            ("a: 1\n---\nb: [\n", 4, ""),
        ] {
            let error = documents_of(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{text}: {error:?}");
            assert!(error.reason.contains(said), "{text}: {error:?}");
        }
        assert!(documents_of("{\"a\": 1,}\n").is_ok());
    }
}
