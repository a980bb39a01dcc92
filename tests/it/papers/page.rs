//! A page of Markdown, as far as its tests look at it.

use std::fs;
use std::path::Path;

use super::COLUMNS;

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub text: String,
    /// Fenced blocks, in their order.
    pub blocks: Vec<Block>,
    /// What is outside of blocks, with numbers of lines.
    pub prose: Vec<(usize, String)>,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// Of its first line.
    pub line: usize,
    pub language: String,
    pub text: String,
    /// What a comment right before it says.
    pub note: Option<String>,
}

impl Page {
    pub fn read(root: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        Self::parse(name, fs::read_to_string(path).unwrap())
    }

    pub fn parse(name: String, text: String) -> Self {
        let (mut blocks, mut prose) = (Vec::<Block>::new(), Vec::new());
        let mut fence: Option<&str> = None;
        let mut note = None;
        for (number, line) in (1..).zip(text.lines()) {
            let ticks = &line[..line.len() - line.trim_start_matches('`').len()];
            match fence {
                Some(open) if line.starts_with(open) => fence = None,
                Some(_) => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None if ticks.len() >= 3 => {
                    fence = Some(ticks);
                    blocks.push(Block {
                        line: number + 1,
                        language: line[ticks.len()..].to_owned(),
                        text: String::new(),
                        note: note.take(),
                    });
                }
                None => {
                    let comment = line.strip_prefix("<!-- ").and_then(|c| c.strip_suffix(" -->"));
                    note = comment.map(str::to_owned);
                    prose.push((number, line.to_owned()));
                }
            }
        }
        assert!(fence.is_none(), "{name}: a block does not end");
        Self { name, text, blocks, prose }
    }

    /// What stands in `backticks` in the prose, with numbers of lines.
    pub fn code(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in &self.prose {
            // Code ends with its paragraph, and in a table with its line.
            if line.trim().is_empty() || line.starts_with('|') {
                open = None;
            }
            for (index, part) in line.split('`').enumerate() {
                if index > 0 {
                    match open.take() {
                        Some(code) => found.push(code),
                        None => open = Some((*number, String::new())),
                    }
                }
                if let Some((_, code)) = &mut open {
                    if index == 0 && !code.is_empty() {
                        code.push(' ');
                    }
                    code.push_str(part.trim_start());
                }
            }
        }
        found
    }

    /// The prose without what is code.
    pub fn plain(&self) -> Vec<(usize, String)> {
        let strip = |line: &String| {
            let parts = line.split('`').enumerate();
            parts.filter(|(index, _)| index % 2 == 0).map(|(_, part)| part).collect()
        };
        self.prose.iter().map(|(number, line)| (*number, strip(line))).collect()
    }

    /// What links to headings end in.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter_map(|(_, line)| {
            let text = line.trim_start_matches('#');
            (text.len() < line.len()).then(|| text.trim())
        });
        let mut found: Vec<String> = Vec::new();
        for heading in headings {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let slug: String = heading.to_lowercase().chars().filter(kept).collect();
            let slug = slug.replace(' ', "-");
            let same = found.iter().filter(|other| **other == slug).count();
            found.push(if same == 0 { slug } else { format!("{slug}-{same}") });
        }
        found
    }

    /// Lines that are too long. Tables, and lines that are one link, cannot be broken.
    pub fn long_lines(&self) -> Vec<String> {
        let in_blocks = self.blocks.iter().flat_map(|block| (block.line..).zip(block.text.lines()));
        let outside =
            self.prose.iter().map(|(number, line)| (*number, &line[..])).filter(|(_, line)| {
                let breaks = line.trim().contains(' ') && !line.starts_with('|');
                breaks && !line.starts_with("<!--") && !line.starts_with("![")
            });
        outside
            .chain(in_blocks)
            .filter(|(_, line)| line.chars().count() > COLUMNS)
            .map(|(number, _)| format!("{}:{number}", self.name))
            .collect()
    }
}

/// Text whose lines are broken at [`COLUMNS`]; lines that begin as a list stay lines.
pub fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let mut column = 0;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > COLUMNS {
                out.push('\n');
                out.push_str(indent);
                column = indent.len();
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
        out.push('\n');
    }
    out.trim_end().to_owned()
}

#[test]
fn a_page_is_read() {
    let text = "# A `b` c!\ntext `one\ntwo` end\n<!-- needs: x -->\n```sh\nls # `no`\n```\n\n## A b c\n| `x` | y |\n";
    let page = Page::parse("p.md".to_owned(), text.to_owned());
    assert_eq!(page.anchors(), ["a-b-c", "a-b-c-1"]);
    let code: Vec<_> = page.code().into_iter().map(|(_, code)| code).collect();
    assert_eq!(code, ["b", "one two", "x"]);
    let block = &page.blocks[0];
    assert_eq!((block.line, &block.language[..], &block.text[..]), (6, "sh", "ls # `no`\n"));
    assert_eq!(block.note.as_deref(), Some("needs: x"));
}
