//! Labels of the series of rules, as the reference service writes them.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest label. None grows without bound.
const LONGEST: usize = 256;

/// Domain, and the names of the first two levels. Deeper levels collapse into those, as they do in
/// the reference.
pub(super) fn of_rule(domain: &str, levels: &[String]) -> [String; 3] {
    let level = |index: usize| levels.get(index).map(|level| plain(level)).unwrap_or_default();
    [plain(domain), level(0), level(1)]
}

/// `domain="d",key1="k"`.
pub(super) fn shown([domain, key1, key2]: &[String; 3]) -> String {
    let mut text = format!("domain=\"{}\",key1=\"{}\"", escaped(domain), escaped(key1));
    if !key2.is_empty() {
        let _ = write!(text, ",key2=\"{}\"", escaped(key2));
    }
    text
}

/// Dashboards name the values that the reference shows: `_` for `:` and `|`, and for the dots of
/// IPv4 addresses.
fn plain(text: &str) -> String {
    let cut = text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text);
    let mut plain = String::with_capacity(cut.len());
    let mut rest = cut;
    while let Some(first) = rest.chars().next() {
        match address(rest) {
            Some(length) => {
                let (found, further) = rest.split_at(length);
                plain.push_str(&found.replace('.', "_"));
                rest = further;
            }
            None => {
                plain.push(if matches!(first, ':' | '|') { '_' } else { first });
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    plain
}

/// How long the IPv4 address is that a text begins with: four times up to three digits, whatever
/// follows.
fn address(text: &str) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            text.get(length..)?.strip_prefix('.')?;
            length += 1;
        }
        let digits = text.get(length..)?.bytes().take(3).take_while(u8::is_ascii_digit).count();
        length += Some(digits).filter(|&digits| digits > 0)?;
    }
    Some(length)
}

pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_as_the_reference_writes_them() {
        for (text, label) in [
            ("api_key_alice", "api_key_alice"),
            ("masked_remote_address_0.0.0.0/0", "masked_remote_address_0_0_0_0/0"),
            ("path_/a:b|c", "path_/a_b_c"),
            ("a_10.20.30.40_b_1.2.3.4", "a_10_20_30_40_b_1_2_3_4"),
            ("version_1.2.3", "version_1.2.3"),
            ("host_api.example.com", "host_api.example.com"),
            ("1.2.3.", "1.2.3."),
            ("1234.1.1.1", "1234_1_1_1"),
            ("1.1.1.1234", "1_1_1_1234"),
            ("1.1.1234.1.1.1", "1.1.1234_1_1_1"),
            ("k_2001:db8::1", "k_2001_db8__1"),
            ("Straße.4", "Straße.4"),
            ("", ""),
        ] {
            assert_eq!(plain(text), label);
        }
        assert_eq!(plain(&"ß".repeat(300)).chars().count(), 256);
    }

    #[test]
    fn what_a_request_brings_cannot_end_a_label() {
        let labels =
            of_rule("d", &["a\"} 1\nfake 2".to_owned(), "b\\".to_owned(), "deeper".to_owned()]);
        assert_eq!(shown(&labels), r#"domain="d",key1="a\"} 1\nfake 2",key2="b\\""#);
        assert_eq!(shown(&of_rule("other", &[])), r#"domain="other",key1="""#);
    }
}
