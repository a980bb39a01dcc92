//! Builds the tree out of the parser's events, without recursion.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::{
    Content, Document, Entry, MAX_DEPTH, MAX_REPEATED_BYTES, MAX_REPEATED_NODES, Meaning, Node,
    Repeated, Scalar, YamlError, scalar,
};

/// Reads the first document. The parser knows no tab between a colon and a value that starts with a
/// letter or a digit, which YAML allows: where it fails, such tabs are read as blanks.
pub(super) fn parse(text: &str) -> Result<Document, YamlError> {
    match parse_as_is(text) {
        Err(error) if text.contains(":\t") => parse_as_is(&with_blanks(text)).map_err(|_| error),
        parsed => parsed,
    }
}

/// The text with the tabs after colons as blanks, but for those in quotes.
fn with_blanks(text: &str) -> String {
    let mut blank = String::with_capacity(text.len());
    let mut quote = None;
    // The last character that is no blank.
    let mut before = '\n';
    let mut after_colon = false;
    for character in text.chars() {
        if character == '\t' && after_colon {
            blank.push(' ');
            continue;
        }
        match quote {
            // An apostrophe inside a word opens nothing.
            None if matches!(character, '"' | '\'')
                && matches!(before, '\n' | ':' | ',' | '[' | '{' | '-' | '?') =>
            {
                quote = Some(character)
            }
            Some(open) if open == character && before != '\\' => quote = None,
            _ => {}
        }
        after_colon = quote.is_none() && character == ':';
        if !matches!(character, ' ' | '\t') {
            before = character;
        }
        blank.push(character);
    }
    blank
}

fn parse_as_is(text: &str) -> Result<Document, YamlError> {
    let mut tree = Tree::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| syntax(&error))?;
        let line = line_number(span.start.line());
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::Alias(id) => tree.alias(id, line)?,
            Event::Scalar(text, style, anchor, tag) => {
                tree.scalar(&text, style == ScalarStyle::Plain, tag.as_deref(), anchor, line)?
            }
            Event::SequenceStart(anchor, _) => tree.open(Body::List(Vec::new()), anchor, line)?,
            Event::MappingStart(anchor, _) => {
                tree.open(Body::Map(Pairs::default()), anchor, line)?
            }
            Event::SequenceEnd | Event::MappingEnd => tree.close()?,
            Event::DocumentEnd => {
                // What follows is another document, or a mistake of which the author should hear.
                match parser.next_event() {
                    Some(Err(error)) => return Err(syntax(&error)),
                    Some(Ok((Event::DocumentStart(_), span))) => {
                        tree.next_document = Some(line_number(span.start.line()))
                    }
                    _ => {}
                }
                break;
            }
            Event::StreamEnd => break,
        }
    }
    Ok(tree.finish())
}

fn syntax(error: &ScanError) -> YamlError {
    YamlError::new(line_number(error.marker().line()), error.info())
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

#[derive(Default)]
struct Tree {
    root: Option<Arc<Node>>,
    open: Vec<Frame>,
    /// Finished nodes that an alias may name.
    anchors: HashMap<usize, (Arc<Node>, Weight)>,
    repeated: Vec<Repeated>,
    /// Where a second document starts.
    next_document: Option<u32>,
    repeated_nodes: usize,
    repeated_bytes: usize,
}

/// A list or a mapping that has not ended.
struct Frame {
    line: u32,
    anchor: usize,
    inside: Weight,
    body: Body,
}

enum Body {
    List(Vec<Arc<Node>>),
    Map(Pairs),
}

#[derive(Default)]
struct Pairs {
    entries: Vec<Entry>,
    /// The mappings that merge keys name, in the order of their precedence.
    merged: Vec<Arc<Node>>,
    key: Option<Key>,
}

enum Key {
    Own { key: Scalar, line: u32 },
    Merge,
}

/// What a subtree costs each time that it is named.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    /// 0 for a scalar.
    height: usize,
}

impl Tree {
    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        tag: Option<&Tag>,
        anchor: usize,
        line: u32,
    ) -> Result<(), YamlError> {
        let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
        let merges = text == "<<"
            && (plain && tag.is_none() || tag.as_deref() == Some("tag:yaml.org,2002:merge"));
        if merges
            && let Some(Frame { body: Body::Map(pairs @ Pairs { key: None, .. }), .. }) =
                self.open.last_mut()
        {
            pairs.key = Some(Key::Merge);
            return Ok(());
        }
        let meaning = scalar::meaning(text, plain, tag.as_deref())
            .map_err(|reason| YamlError::new(line, reason))?;
        let node =
            Node { line, content: Content::Scalar(Scalar { text: text.to_owned(), meaning }) };
        self.place(Arc::new(node), Weight { nodes: 1, bytes: text.len(), height: 0 }, anchor)
    }

    fn alias(&mut self, id: usize, line: u32) -> Result<(), YamlError> {
        // The parser refuses an alias that nothing defines; one that is not finished is an alias
        // inside what it names.
        let Some((node, weight)) = self.anchors.get(&id).cloned() else {
            return Err(YamlError::new(line, "an anchor contains an alias of itself"));
        };
        self.repeated_nodes = self.repeated_nodes.saturating_add(weight.nodes);
        if self.repeated_nodes > MAX_REPEATED_NODES {
            return Err(YamlError::new(
                line,
                format!("aliases repeat more than {MAX_REPEATED_NODES} nodes"),
            ));
        }
        self.repeated_bytes = self.repeated_bytes.saturating_add(weight.bytes);
        if self.repeated_bytes > MAX_REPEATED_BYTES {
            return Err(YamlError::new(
                line,
                format!("aliases repeat more than {MAX_REPEATED_BYTES} bytes of text"),
            ));
        }
        self.check_depth(self.open.len() + weight.height, line)?;
        self.place(node, weight, 0)
    }

    fn open(&mut self, body: Body, anchor: usize, line: u32) -> Result<(), YamlError> {
        self.check_depth(self.open.len() + 1, line)?;
        self.open.push(Frame { line, anchor, inside: Weight::default(), body });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(Frame { line, anchor, inside, body }) = self.open.pop() else { return Ok(()) };
        let content = match body {
            Body::List(items) => Content::List(items),
            Body::Map(pairs) => Content::Map(self.unite(pairs)),
        };
        let weight =
            Weight { nodes: inside.nodes + 1, bytes: inside.bytes, height: inside.height + 1 };
        self.place(Arc::new(Node { line, content }), weight, anchor)
    }

    /// A finished node goes to where it stands.
    fn place(&mut self, node: Arc<Node>, weight: Weight, anchor: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (Arc::clone(&node), weight));
        }
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        frame.inside.nodes = frame.inside.nodes.saturating_add(weight.nodes);
        frame.inside.bytes = frame.inside.bytes.saturating_add(weight.bytes);
        frame.inside.height = frame.inside.height.max(weight.height);
        match &mut frame.body {
            Body::List(items) => {
                items.push(node);
                Ok(())
            }
            Body::Map(pairs) => pairs.put(node),
        }
    }

    /// One entry for each key: of the mapping's own the last, else the first that is merged.
    fn unite(&mut self, pairs: Pairs) -> Vec<Entry> {
        let mut places: HashMap<(u8, String), usize> = HashMap::with_capacity(pairs.entries.len());
        let mut united: Vec<Entry> = Vec::with_capacity(pairs.entries.len());
        for entry in pairs.entries {
            match places.entry(identity(&entry.key)) {
                Slot::Vacant(slot) => {
                    slot.insert(united.len());
                    united.push(entry);
                }
                Slot::Occupied(slot) => {
                    self.repeated
                        .push(Repeated { line: entry.key_line, key: entry.key.text.clone() });
                    if let Some(place) = united.get_mut(*slot.get()) {
                        *place = entry;
                    }
                }
            }
        }
        for merged in &pairs.merged {
            let Content::Map(entries) = &merged.content else { continue };
            for entry in entries {
                if let Slot::Vacant(slot) = places.entry(identity(&entry.key)) {
                    slot.insert(united.len());
                    united.push(entry.clone());
                }
            }
        }
        united
    }

    fn check_depth(&self, depth: usize, line: u32) -> Result<(), YamlError> {
        if depth > MAX_DEPTH {
            return Err(YamlError::new(line, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    fn finish(self) -> Document {
        let nothing = || {
            Arc::new(Node {
                line: 1,
                content: Content::Scalar(Scalar { text: String::new(), meaning: Meaning::Null }),
            })
        };
        let mut repeated = self.repeated;
        repeated.sort_by_key(|repeated| repeated.line);
        Document {
            root: self.root.unwrap_or_else(nothing),
            repeated,
            next_document: self.next_document,
        }
    }
}

impl Pairs {
    fn put(&mut self, node: Arc<Node>) -> Result<(), YamlError> {
        match self.key.take() {
            Some(Key::Own { key, line }) => {
                self.entries.push(Entry { key, key_line: line, value: node })
            }
            Some(Key::Merge) => self.merge(node)?,
            None => match Arc::unwrap_or_clone(node) {
                Node { line, content: Content::Scalar(key) } => {
                    self.key = Some(Key::Own { key, line })
                }
                Node { line, .. } => {
                    return Err(YamlError::new(
                        line,
                        "the key of a mapping must not be a list or a mapping",
                    ));
                }
            },
        }
        Ok(())
    }

    fn merge(&mut self, node: Arc<Node>) -> Result<(), YamlError> {
        let wrong = |line| Err(YamlError::new(line, "`<<` merges a mapping or a list of mappings"));
        match &node.content {
            Content::Map(_) => self.merged.push(node),
            Content::List(items) => {
                for item in items {
                    if !matches!(item.content, Content::Map(_)) {
                        return wrong(item.line);
                    }
                    self.merged.push(Arc::clone(item));
                }
            }
            Content::Scalar(_) => return wrong(node.line),
        }
        Ok(())
    }
}

/// The text `1` and the number 1 are two keys; `0x1` and `1` are one.
fn identity(key: &Scalar) -> (u8, String) {
    match key.meaning {
        Meaning::Null => (0, String::new()),
        Meaning::Bool(value) => (1, value.to_string()),
        Meaning::Int(value) => (2, value.to_string()),
        Meaning::Uint(value) => (2, value.to_string()),
        Meaning::Float(value) => (3, value.to_string()),
        Meaning::Text => (4, key.text.clone()),
    }
}
