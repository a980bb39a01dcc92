//! Which responses a quota counts, as a person writes it.

use super::super::CountStatuses;
use super::Mistakes;

/// Reads classes (`2xx`), codes (`404`) and `others`. An empty list is `None`: the default.
pub fn count_statuses(
    field: &str,
    texts: &[String],
    found: &mut Mistakes,
) -> Option<CountStatuses> {
    let mut read = CountStatuses::default();
    for (i, text) in texts.iter().enumerate() {
        if !add(&mut read, text) {
            let shown: String = text.chars().take(32).collect();
            found.add(
                format!("{field}[{i}]"),
                format!("must be a class (`2xx`), a code (`404`) or `others`, not `{shown}`"),
            );
        }
    }
    read.codes.sort_unstable();
    read.codes.dedup();
    (!texts.is_empty()).then_some(read)
}

fn add(to: &mut CountStatuses, text: &str) -> bool {
    if text == "others" {
        to.others = true;
        return true;
    }
    if text.len() != 3 || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return false;
    }
    if let Some(class) = text.strip_suffix("xx").and_then(|class| class.parse::<usize>().ok()) {
        let Some(counted) = class.checked_sub(1).and_then(|class| to.classes.get_mut(class)) else {
            return false;
        };
        *counted = true;
        return true;
    }
    match text.parse::<u16>() {
        Ok(code @ 100..=599) => {
            to.codes.push(code);
            true
        }
        _ => false,
    }
}

/// The same as a person would write it.
pub fn written_statuses(statuses: Option<&CountStatuses>) -> Vec<String> {
    let Some(statuses) = statuses else { return Vec::new() };
    let classes = (1..)
        .zip(&statuses.classes)
        .filter(|(_, counted)| **counted)
        .map(|(class, _)| format!("{class}xx"));
    let codes = statuses.codes.iter().map(u16::to_string);
    classes.chain(codes).chain(statuses.others.then(|| "others".to_owned())).collect()
}
