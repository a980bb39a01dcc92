//! Links between pages lead somewhere, and every page can be reached.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::page::Page;
use super::{pages, root};

/// Where the links of a page lead: the line, and the target as it stands there.
fn links(page: &Page) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in page.plain() {
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The path that a link means, in the repository.
fn resolve(page: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let from = Path::new(page).parent().unwrap_or(Path::new(""));
    for part in from.join(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{page}: {target} leads out"),
            part => path.push(part),
        }
    }
    path
}

/// What is wrong with the links of these pages, and which pages are linked to.
fn check(pages: &[Page], exists: &dyn Fn(&Path) -> bool) -> (Vec<String>, BTreeSet<String>) {
    let anchors: HashMap<&str, Vec<String>> =
        pages.iter().map(|page| (&page.name[..], page.anchors())).collect();
    let (mut wrong, mut reached) = (Vec::new(), BTreeSet::new());
    for page in pages {
        for (line, target) in links(page) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = match file {
                "" => PathBuf::from(&page.name),
                file => resolve(&page.name, file),
            };
            let name = path.to_str().unwrap();
            if !exists(&path) {
                wrong.push(format!("{}:{line}: there is no {target}", page.name));
            } else if !anchor.is_empty()
                && anchors.get(name).is_some_and(|have| !have.iter().any(|have| have == anchor))
            {
                wrong.push(format!("{}:{line}: {name} has no heading #{anchor}", page.name));
            }
            if name != page.name {
                reached.insert(name.to_owned());
            }
        }
    }
    (wrong, reached)
}

#[test]
fn links_lead_somewhere_and_no_page_is_an_orphan() {
    let pages = pages();
    assert!(pages.len() > 20, "the pages were not found");
    let (mut wrong, reached) = check(&pages, &|path| root().join(path).exists());
    wrong.extend(
        pages
            .iter()
            .map(|page| &page.name)
            .filter(|name| *name != "README.md" && !reached.contains(*name))
            .map(|name| format!("{name}: no page links to it")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_dead_link_is_told() {
    let page = |name: &str, text: &str| Page::parse(name.to_owned(), text.to_owned());
    let pages = [
        page("README.md", "# Top\n[a](docs/a.md#one) [b](docs/b.md) [c](#nowhere) `[d](e)`\n"),
        page(
            "docs/a.md",
            "# Two\n[up](../README.md#top) ![p](p.svg) [w](https://example.com/#x)\n",
        ),
    ];
    let exists = |path: &Path| pages.iter().any(|page| Path::new(&page.name) == path);
    let (wrong, reached) = check(&pages, &exists);
    assert_eq!(
        wrong,
        [
            "README.md:2: docs/a.md has no heading #one",
            "README.md:2: there is no docs/b.md",
            "README.md:2: README.md has no heading #nowhere",
            "docs/a.md:2: there is no p.svg",
        ]
    );
    assert!(reached.contains("README.md") && reached.contains("docs/a.md"));
}
