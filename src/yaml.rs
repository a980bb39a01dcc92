//! YAML as a tree of nodes that know their lines, typed as YAML 1.1 readers of configuration files
//! do: plain `yes` is true, `0x10` is 16.
//!
//! Only the first document of a text is read. What a hostile text can make of it is bounded by its
//! length: beyond what is written there aliases repeat at most [`MAX_REPEATED_NODES`] and
//! [`MAX_REPEATED_BYTES`], and nothing is nested deeper than [`MAX_DEPTH`].

mod json;
mod scalar;
mod tree;

use std::sync::Arc;

/// How deep lists and mappings may be nested.
pub const MAX_DEPTH: usize = 100;

/// How many nodes aliases may repeat.
pub const MAX_REPEATED_NODES: usize = 1_000_000;

/// How many bytes of text aliases may repeat.
pub const MAX_REPEATED_BYTES: usize = 16 << 20;

/// What a text holds.
#[derive(Clone, Debug)]
pub struct Document {
    /// Null where the text is empty.
    pub root: Arc<Node>,
    /// Keys that a mapping has more than once; the last one counts.
    pub repeated: Vec<Repeated>,
    /// The line where a second document starts, which is not read.
    pub next_document: Option<u32>,
}

/// A key that its mapping already had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    pub line: u32,
    pub key: String,
}

/// A scalar, a list or a mapping, and the line where it starts, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u32,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Scalar(Scalar),
    List(Vec<Arc<Node>>),
    /// In the order of the text, what merge keys (`<<`) bring last. No two entries have the same
    /// key.
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Scalar,
    pub key_line: u32,
    pub value: Arc<Node>,
}

/// A text, and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// As it is written, without quotes and escapes.
    pub text: String,
    pub meaning: Meaning,
}

/// What a scalar means by its form, its quotes and its tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Meaning {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number that only fits into 64 bits without a sign.
    Uint(u64),
    Float(f64),
    Text,
}

/// Why a text is not YAML that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct YamlError {
    pub line: u32,
    pub reason: String,
}

impl YamlError {
    pub(crate) fn new(line: u32, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// Reads the first document of a text.
pub fn parse(text: &str) -> Result<Document, YamlError> {
    tree::parse(text)
}

impl Node {
    /// The value of a key that is text, in a mapping.
    pub fn get(&self, key: &str) -> Option<&Arc<Node>> {
        match &self.content {
            Content::Map(entries) => entries
                .iter()
                .find(|entry| entry.key.meaning == Meaning::Text && entry.key.text == key)
                .map(|entry| &entry.value),
            Content::Scalar(_) | Content::List(_) => None,
        }
    }

    /// Nothing at all, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.meaning == Meaning::Null)
    }

    /// The same as JSON. Keys that are not text become their text. Fails for numbers that JSON does
    /// not have.
    pub fn to_json(&self) -> Result<serde_json::Value, YamlError> {
        json::convert(self)
    }

    /// What it is, in words that complete "but is …".
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Scalar(scalar) => scalar.describe(),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}

impl Scalar {
    /// What it is, in words that complete "but is …".
    pub fn describe(&self) -> String {
        const SHOWN: usize = 60;
        let shown: String = self.text.chars().take(SHOWN).collect();
        let more = if shown.len() < self.text.len() { "..." } else { "" };
        match self.meaning {
            Meaning::Null => "null".to_owned(),
            Meaning::Bool(_) => format!("the boolean `{shown}`"),
            Meaning::Int(_) | Meaning::Uint(_) | Meaning::Float(_) => {
                format!("the number `{shown}{more}`")
            }
            Meaning::Text => format!("the text `{}{more}`", shown.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests;
