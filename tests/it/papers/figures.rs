//! Figures that a page shows are those of the run that it names.

use std::collections::BTreeSet;
use std::fs;

use super::{pages, root};

/// The numbers in a text, without separators: `342,922` is `342922`.
fn numbers(text: &str) -> BTreeSet<String> {
    let plain: String = text
        .char_indices()
        .filter(|&(at, letter)| {
            let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
            !(letter == ',' && at > 0 && digit(at - 1) && digit(at + 1))
        })
        .map(|(_, letter)| letter)
        .collect();
    let plain = plain.replace("..", " ");
    plain
        .split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .map(|number| number.trim_matches('.').to_owned())
        .filter(|number| number.contains(|letter: char| letter.is_ascii_digit()))
        .collect()
}

#[test]
fn figures_stand_in_the_results_that_a_page_names() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let mut results: Option<BTreeSet<String>> = None;
        for (line, text) in &page.prose {
            let named =
                text.strip_prefix("<!-- speed: ").and_then(|rest| rest.strip_suffix(" -->"));
            if let Some(file) = named {
                results = Some(numbers(&fs::read_to_string(root().join(file)).unwrap()));
            } else if !text.starts_with('|') {
                results = None;
            }
            let Some(results) = &results else { continue };
            // The first cell says in words what was measured.
            let figures = numbers(text.splitn(3, '|').nth(2).unwrap_or_default());
            seen += figures.len();
            for figure in figures.difference(results) {
                wrong.push(format!("{}:{line}: {figure} is not in the results", page.name));
            }
        }
    }
    assert!(seen > 20, "only {seen} figures were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_are_read() {
    let found: Vec<_> =
        numbers("| 5.05 µs | 342,922 | (0.81..1.09) 8 x 32, 7.").into_iter().collect();
    assert_eq!(found, ["0.81", "1.09", "32", "342922", "5.05", "7", "8"]);
}
