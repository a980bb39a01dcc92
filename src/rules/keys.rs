//! The first look at a file: the names of all keys, and the types of all leaves.

use super::LoadError;
use crate::near::near;
use crate::yaml::{Content, Entry, Meaning, Node, Scalar};

/// Every key that may stand in a file, wherever.
const KNOWN: &[&str] = &[
    "domain",
    "key",
    "value",
    "descriptors",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "shadow_mode",
    "quota_mode",
    "name",
    "replaces",
    "detailed_metric",
    "value_to_metric",
    "share_threshold",
    "metadata",
    "algorithm",
    "burst",
    "unit_multiplier",
    "calendar",
    "durable",
    "all_or_nothing",
];

/// An empty file passes; a root that is no mapping does not.
pub(super) fn check(file: &str, root: &Node) -> Result<(), LoadError> {
    match &root.content {
        Content::Map(entries) => check_entries(file, entries),
        _ if root.is_null() => Ok(()),
        _ => Err(LoadError::unreadable(
            file,
            root.line,
            format_args!("the file must be a mapping, but is {}", root.describe()),
        )),
    }
}

fn check_entries(file: &str, entries: &[Entry]) -> Result<(), LoadError> {
    for entry in entries {
        check_key(file, entry)?;
        let value = &entry.value;
        match &value.content {
            Content::Map(_) if entry.key.text == "metadata" => {}
            Content::Map(entries) => check_entries(file, entries)?,
            Content::List(items) => {
                for item in items {
                    let Content::Map(entries) = &item.content else {
                        let shown = shown(item);
                        let message = format!(
                            "config error, yaml file contains list of type other than map: {shown}"
                        );
                        return Err(LoadError::new(file, item.line, message));
                    };
                    check_entries(file, entries)?;
                }
            }
            Content::Scalar(Scalar { meaning: Meaning::Float(_) | Meaning::Uint(_), .. }) => {
                return Err(LoadError::new(file, value.line, "error checking config"));
            }
            Content::Scalar(_) => {}
        }
    }
    Ok(())
}

fn check_key(file: &str, entry: &Entry) -> Result<(), LoadError> {
    let key = &entry.key;
    if key.meaning != Meaning::Text {
        let shown = shown_scalar(key);
        return Err(LoadError::new(
            file,
            entry.key_line,
            format!("config error, key is not of type string: {shown}"),
        ));
    }
    if !KNOWN.contains(&key.text.as_str()) {
        let error = LoadError::new(
            file,
            entry.key_line,
            format!("config error, unknown key '{}'", key.text),
        );
        let near = near(&key.text, KNOWN.iter().copied());
        return Err(match key.text.as_str() {
            "admin" | "static_resources" | "dynamic_resources" | "node" => {
                error.hint("this looks like a configuration of Envoy, and not a file of rules")
            }
            _ if !near.is_empty() => error.hint(format!("did you mean {}?", near.join(" or "))),
            _ => error,
        });
    }
    Ok(())
}

/// A value as the peer prints it: `[a b]`, `map[a:1 b:2]`. A long one is cut.
fn shown(node: &Node) -> String {
    const LONGEST: usize = 1000;
    let mut text = String::new();
    show(node, LONGEST, &mut text);
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn show(node: &Node, longest: usize, text: &mut String) {
    if text.len() > longest * 4 {
        return;
    }
    match &node.content {
        Content::Scalar(scalar) => text.push_str(&shown_scalar(scalar)),
        Content::List(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(' ');
                }
                show(item, longest, text);
            }
            text.push(']');
        }
        Content::Map(entries) => {
            let mut sorted: Vec<_> =
                entries.iter().map(|entry| (shown_scalar(&entry.key), &entry.value)).collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            text.push_str("map[");
            for (place, (key, value)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    text.push(' ');
                }
                text.push_str(&key);
                text.push(':');
                show(value, longest, text);
            }
            text.push(']');
        }
    }
}

fn shown_scalar(scalar: &Scalar) -> String {
    match scalar.meaning {
        Meaning::Null => "<nil>".to_owned(),
        Meaning::Bool(value) => value.to_string(),
        Meaning::Int(value) => value.to_string(),
        Meaning::Uint(value) => value.to_string(),
        Meaning::Float(value) => shown_float(value),
        Meaning::Text => scalar.text.clone(),
    }
}

/// The shortest digits; an exponent of two digits from a million on and below a ten-thousandth.
fn shown_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::shown_float;

    #[test]
    fn floats_are_shown_as_the_peer_shows_them() {
        let cases = [
            (0.25, "0.25"),
            (8.0, "8"),
            (-0.5, "-0.5"),
            (0.0, "0"),
            (1e-5, "1e-05"),
            (2.5e-7, "2.5e-07"),
            (123456.5, "123456.5"),
            (1e6, "1e+06"),
            (123456789.0, "1.23456789e+08"),
        ];
        for (value, expected) in cases {
            assert_eq!(shown_float(value), expected);
        }
        assert_eq!(shown_float(f64::NAN), "NaN");
        assert_eq!(shown_float(f64::INFINITY), "+Inf");
        assert_eq!(shown_float(f64::NEG_INFINITY), "-Inf");
    }
}
