//! The fields of a file, with their types, before anything is known about their meaning.

use std::sync::Arc;

use super::{LoadError, Warning};
use crate::yaml::{Content, Document, Entry, Meaning, Node, Scalar};

/// A file of rules, or a resource of a management server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// Stands before every message about it.
    pub name: String,
    /// The domain's line; the first one where there is no domain; 0 where there are no lines.
    pub line: u32,
    pub domain: String,
    pub all_or_nothing: Option<bool>,
    pub descriptors: Vec<Descriptor>,
}

/// A level of a descriptor. Lines are 0 where there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptor {
    pub line: u32,
    pub key: String,
    pub value: String,
    pub rate_limit: Option<RateLimit>,
    pub shadow_mode: bool,
    pub quota_mode: bool,
    pub detailed_metric: bool,
    pub value_to_metric: bool,
    pub share_threshold: bool,
    pub metadata: Option<Metadata>,
    pub descriptors: Vec<Descriptor>,
}

/// What the answer tells about a request that a rule admits.
#[derive(Clone, Debug, PartialEq)]
pub enum Metadata {
    Yaml(Arc<Node>),
    Json(serde_json::Map<String, serde_json::Value>),
}

/// The limit of a descriptor, as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimit {
    pub line: u32,
    pub unit: String,
    pub requests_per_unit: Option<u32>,
    pub unlimited: bool,
    pub name: String,
    pub replaces: Vec<String>,
    pub algorithm: Option<String>,
    pub burst: Option<u32>,
    pub unit_multiplier: Option<u32>,
    pub calendar: Option<bool>,
    pub durable: Option<bool>,
}

impl File {
    pub(super) fn read(name: &str, document: &Document) -> Result<(Self, Vec<Warning>), LoadError> {
        let mut reader = Reader { file: name, warnings: Vec::new() };
        for repeated in &document.repeated {
            reader.warn(
                repeated.line,
                format!("`{}` is given more than once; the last one counts", repeated.key),
            );
        }
        if let Some(line) = document.next_document {
            reader.warn(
                line,
                "a second document starts here, and is not read: one file is one document",
            );
        }
        let file = reader.file(&document.root)?;
        let mut warnings = reader.warnings;
        warnings.sort_by_key(|warning| warning.line);
        Ok((file, warnings))
    }
}

struct Reader<'n> {
    file: &'n str,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn file(&mut self, root: &Node) -> Result<File, LoadError> {
        let mut file = File {
            name: self.file.to_owned(),
            line: root.line,
            domain: String::new(),
            all_or_nothing: None,
            descriptors: Vec::new(),
        };
        for entry in entries(root) {
            match entry.key.text.as_str() {
                "domain" => {
                    file.line = entry.key_line;
                    file.domain = self.text(entry)?;
                }
                "all_or_nothing" => file.all_or_nothing = self.truth(entry)?,
                "descriptors" => file.descriptors = self.descriptors(entry)?,
                _ => self.misplaced(entry, "at the top of the file")?,
            }
        }
        Ok(file)
    }

    fn descriptors(&mut self, entry: &Entry) -> Result<Vec<Descriptor>, LoadError> {
        self.list(entry)?.iter().map(|item| self.descriptor(item)).collect()
    }

    fn descriptor(&mut self, node: &Node) -> Result<Descriptor, LoadError> {
        let mut found = Descriptor { line: node.line, ..Descriptor::default() };
        for entry in entries(node) {
            match entry.key.text.as_str() {
                "key" => found.key = self.text(entry)?,
                "value" => found.value = self.text(entry)?,
                "rate_limit" => found.rate_limit = self.rate_limit(entry)?,
                "shadow_mode" => found.shadow_mode = self.truth(entry)?.unwrap_or_default(),
                "quota_mode" => found.quota_mode = self.truth(entry)?.unwrap_or_default(),
                "detailed_metric" => found.detailed_metric = self.truth(entry)?.unwrap_or_default(),
                "value_to_metric" => found.value_to_metric = self.truth(entry)?.unwrap_or_default(),
                "share_threshold" => found.share_threshold = self.truth(entry)?.unwrap_or_default(),
                "metadata" => found.metadata = self.metadata(entry)?,
                "descriptors" => found.descriptors = self.descriptors(entry)?,
                _ => self.misplaced(entry, "on a descriptor")?,
            }
        }
        self.warn_without_limit(node, &found);
        Ok(found)
    }

    /// What acts only on the descriptor that has the limit; nothing is inherited.
    fn warn_without_limit(&mut self, node: &Node, found: &Descriptor) {
        if found.rate_limit.is_some() {
            return;
        }
        for entry in entries(node) {
            let idle = match entry.key.text.as_str() {
                "shadow_mode" => found.shadow_mode,
                "quota_mode" => found.quota_mode,
                "detailed_metric" => found.detailed_metric,
                "metadata" => found.metadata.is_some(),
                _ => false,
            };
            if idle {
                self.warn(
                    entry.key_line,
                    format!(
                        "`{}` has no effect on a descriptor without rate_limit",
                        entry.key.text
                    ),
                );
            }
        }
    }

    fn rate_limit(&mut self, entry: &Entry) -> Result<Option<RateLimit>, LoadError> {
        if entry.value.is_null() {
            return Ok(None);
        }
        self.mapping(entry)?;
        let mut found = RateLimit { line: entry.key_line, ..RateLimit::default() };
        for entry in entries(&entry.value) {
            match entry.key.text.as_str() {
                "unit" => found.unit = self.text(entry)?,
                "requests_per_unit" => found.requests_per_unit = self.number(entry)?,
                "unlimited" => found.unlimited = self.truth(entry)?.unwrap_or_default(),
                "name" => found.name = self.text(entry)?,
                "replaces" => found.replaces = self.replaces(entry)?,
                "algorithm" => {
                    found.algorithm =
                        Some(self.text(entry)?).filter(|algorithm| !algorithm.is_empty())
                }
                "burst" => found.burst = self.number(entry)?,
                "unit_multiplier" => found.unit_multiplier = self.number(entry)?,
                "calendar" => found.calendar = self.truth(entry)?,
                "durable" => found.durable = self.truth(entry)?,
                _ => self.misplaced(entry, "inside rate_limit")?,
            }
        }
        if !found.unlimited && found.requests_per_unit.is_none() {
            let text = "rate_limit has no requests_per_unit, so it denies every request; write `requests_per_unit: 0` if that is meant";
            self.warn(found.line, text);
        }
        Ok(Some(found))
    }

    fn replaces(&mut self, entry: &Entry) -> Result<Vec<String>, LoadError> {
        let mut names = Vec::new();
        for item in self.list(entry)? {
            let mut name = String::new();
            for entry in entries(item) {
                match entry.key.text.as_str() {
                    "name" => name = self.text(entry)?,
                    _ => self.misplaced(entry, "inside replaces")?,
                }
            }
            names.push(name);
        }
        Ok(names)
    }

    fn metadata(&self, entry: &Entry) -> Result<Option<Metadata>, LoadError> {
        if entry.value.is_null() {
            return Ok(None);
        }
        self.mapping(entry)?;
        Ok(Some(Metadata::Yaml(Arc::clone(&entry.value))))
    }

    /// A list whose items are mappings, as `keys` has seen to.
    fn list<'e>(&self, entry: &'e Entry) -> Result<&'e [Arc<Node>], LoadError> {
        match &entry.value.content {
            Content::List(items) => Ok(items),
            _ if entry.value.is_null() => Ok(&[]),
            _ => Err(self.wrong(entry, "a list")),
        }
    }

    fn mapping(&self, entry: &Entry) -> Result<(), LoadError> {
        if matches!(entry.value.content, Content::Map(_)) {
            Ok(())
        } else {
            Err(self.wrong(entry, "a mapping"))
        }
    }

    /// Numbers and booleans are the text that they are written as; nothing is the empty text.
    fn text(&self, entry: &Entry) -> Result<String, LoadError> {
        match &entry.value.content {
            Content::Scalar(Scalar { meaning: Meaning::Null, .. }) => Ok(String::new()),
            Content::Scalar(scalar) => Ok(scalar.text.clone()),
            Content::List(_) | Content::Map(_) => Err(self.wrong(entry, "text")),
        }
    }

    fn truth(&self, entry: &Entry) -> Result<Option<bool>, LoadError> {
        match entry.value.content {
            Content::Scalar(Scalar { meaning: Meaning::Null, .. }) => Ok(None),
            Content::Scalar(Scalar { meaning: Meaning::Bool(value), .. }) => Ok(Some(value)),
            _ => Err(self.wrong(entry, "true or false")),
        }
    }

    fn number(&self, entry: &Entry) -> Result<Option<u32>, LoadError> {
        let value = match entry.value.content {
            Content::Scalar(Scalar { meaning: Meaning::Null, .. }) => return Ok(None),
            Content::Scalar(Scalar { meaning: Meaning::Int(value), .. }) => {
                u32::try_from(value).ok()
            }
            _ => None,
        };
        value.map(Some).ok_or_else(|| self.wrong(entry, "a whole number from 0 to 4294967295"))
    }

    fn wrong(&self, entry: &Entry, wanted: &str) -> LoadError {
        let reason =
            format_args!("{} must be {wanted}, but is {}", entry.key.text, entry.value.describe())
                .to_string();
        LoadError::unreadable(self.file, entry.value.line, reason)
    }

    /// A key of the reference is passed over with a warning, as there. A key of our own asks for a
    /// promise, and is refused where it has no effect.
    fn misplaced(&mut self, entry: &Entry, place: &str) -> Result<(), LoadError> {
        let key = &entry.key.text;
        let text = format!("`{key}` has no effect {place}; it belongs {}", home(key));
        if OWN_KEYS.contains(&key.as_str()) {
            return Err(LoadError::new(self.file, entry.key_line, text));
        }
        self.warn(entry.key_line, text);
        Ok(())
    }

    fn warn(&mut self, line: u32, text: impl Into<String>) {
        self.warnings.push(Warning { file: self.file.to_owned(), line, text: text.into() });
    }
}

fn entries(node: &Node) -> &[Entry] {
    match &node.content {
        Content::Map(entries) => entries,
        Content::Scalar(_) | Content::List(_) => &[],
    }
}

/// Keys that the reference does not know.
const OWN_KEYS: [&str; 6] =
    ["algorithm", "burst", "unit_multiplier", "calendar", "durable", "all_or_nothing"];

/// Where a known key has an effect.
fn home(key: &str) -> &'static str {
    match key {
        "domain" | "all_or_nothing" => "at the top of the file",
        "descriptors" => "at the top of the file or on a descriptor",
        "unit" | "requests_per_unit" | "unlimited" | "replaces" | "algorithm" | "burst"
        | "unit_multiplier" | "calendar" | "durable" => "inside rate_limit",
        "name" => "inside rate_limit or replaces",
        _ => "on a descriptor",
    }
}
