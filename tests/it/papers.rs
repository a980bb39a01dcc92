//! README.md, `docs/` and the other pages say what is so, and their commands do what they say.
//!
//! `UPDATE_DOCS=1 cargo test --test it papers` writes what is made from the program: the settings,
//! the metrics and the API reference.

mod api;
mod commands;
mod figures;
mod links;
mod metrics;
mod page;
mod run;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};

use page::Page;

/// The longest line of prose, and the most lines of the README.
const COLUMNS: usize = 100;
const README_LINES: usize = 180;

/// The folder of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page for people.
fn pages() -> Vec<Page> {
    let mut found = vec![];
    for folder in ["", "proto", "tests"] {
        found.extend(markdown(&root().join(folder)));
    }
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        found.extend(markdown(&folder));
        let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| path.is_dir()));
    }
    found.sort();
    found.iter().map(|path| Page::read(root(), path)).collect()
}

fn markdown(folder: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inside.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
}

/// Holds that the part of a page between two marks is this, or writes it.
fn hold_part(page: &str, mark: &str, right: &str) {
    let path = root().join(page);
    let (begin, end) = (format!("<!-- made: {mark} -->\n"), format!("<!-- /made: {mark} -->"));
    let text = fs::read_to_string(&path).unwrap();
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        rest.split_once(&end).map(|(made, after)| (before, made, after))
    });
    let (before, made, after) = parts.unwrap_or_else(|| panic!("{page} has no part `{mark}`"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{right}{end}{after}")).unwrap();
    } else {
        assert!(made == right, "{page} is out of date: UPDATE_DOCS=1 cargo test --test it papers");
    }
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_readme_is_short_and_lines_are_not_long() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.name == "README.md").unwrap();
    let lines = readme.text.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines: move something to docs/");
    let long: Vec<String> = pages
        .iter()
        .filter(|page| page.name.starts_with("docs/") || !page.name.contains('/'))
        .flat_map(Page::long_lines)
        .collect();
    assert!(long.is_empty(), "lines of more than {COLUMNS} columns:\n{}", long.join("\n"));
}
