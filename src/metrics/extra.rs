//! Labels that an operator gives to all series: which region, which cluster.

use std::fmt::Write;

const MOST: usize = 32;
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;
const FORM: &str = "must be pairs such as `region:eu,cluster:blue`";

/// Labels of all series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraLabels(Vec<(String, String)>);

impl ExtraLabels {
    /// Reads `name:value,name:value`, as the reference's EXTRA_TAGS are written. Prometheus knows
    /// no dots and dashes in names: they become `_`.
    ///
    /// # Errors
    /// What cannot be read, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut labels: Vec<(String, String)> = Vec::new();
        if text.trim().is_empty() {
            return Ok(Self(labels));
        }
        for pair in text.split(',').map(str::trim) {
            let Some((name, value)) =
                pair.split_once(':').filter(|(_, value)| !value.contains(':'))
            else {
                return Err(format!("{FORM} (`{pair}` is none)"));
            };
            let name = name.trim().replace(['.', '-'], "_");
            let value = value.trim();
            let is_name = name
                .starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || name.len() > LONGEST_NAME {
                return Err(format!(
                    "{FORM} (the name of `{pair}` is not of letters, digits, `_`, `.` and `-`, a letter first, {LONGEST_NAME} at most)"
                ));
            }
            if name.starts_with("__") || matches!(name.as_str(), "le" | "quantile") {
                return Err(format!("{FORM} (Prometheus uses the name `{name}` itself)"));
            }
            if value.is_empty() || value.len() > LONGEST_VALUE || value.contains(char::is_control) {
                return Err(format!(
                    "{FORM} (`{name}` needs a value of 1 to {LONGEST_VALUE} bytes, without control characters)"
                ));
            }
            if labels.iter().any(|(known, _)| *known == name) {
                return Err(format!("{FORM} (`{name}` is there twice)"));
            }
            labels.push((name, value.to_owned()));
        }
        if labels.len() > MOST {
            return Err(format!("{FORM} (at most {MOST}, these are {})", labels.len()));
        }
        Ok(Self(labels))
    }

    /// Gives them to every series of a text that Prometheus scrapes. A label that a series has of
    /// its own stays as it is.
    pub(super) fn give_to(&self, text: String) -> String {
        if self.0.is_empty() {
            return text;
        }
        let mut with = String::with_capacity(text.len() * 2);
        for line in text.lines() {
            self.put(line, &mut with);
            with.push('\n');
        }
        with
    }

    fn put(&self, line: &str, with: &mut String) {
        let name = line.find(['{', ' ']).filter(|_| !line.starts_with('#'));
        let Some((name, rest)) = name.and_then(|end| line.split_at_checked(end)) else {
            return with.push_str(line);
        };
        let labels = rest.strip_prefix('{').unwrap_or_default();
        let own = own_names(labels);
        with.push_str(name);
        with.push('{');
        let mut is_first = true;
        for (name, value) in self.0.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            let comma = if is_first { "" } else { "," };
            let _ = write!(with, "{comma}{name}=\"{}\"", super::labels::escaped(value));
            is_first = false;
        }
        if rest.starts_with('{') {
            with.push_str(if own.is_empty() || is_first { "" } else { "," });
            with.push_str(labels);
        } else {
            with.push('}');
            with.push_str(rest);
        }
    }
}

/// The names of the labels that a text begins with: `a="x",b="y"} 1`.
fn own_names(mut labels: &str) -> Vec<&str> {
    let mut names = Vec::new();
    while let Some((name, value)) = labels.split_once("=\"") {
        names.push(name);
        let mut is_escaped = false;
        let end = value.find(|c: char| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let rest = end.and_then(|end| value.get(end + 1..)).unwrap_or_default();
        labels = rest.strip_prefix(',').unwrap_or_default();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rules::tally::Tally;
    use crate::metrics::Metrics;

    #[test]
    fn pairs_are_read_and_what_is_none_is_refused() {
        let labels = |text: &str| ExtraLabels::parse(text).unwrap().0;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(labels(""), []);
        assert_eq!(labels("foo:bar,a:b"), [pair("foo", "bar"), pair("a", "b")]);
        assert_eq!(
            labels(" kube.name-space : x/y , _z:\"q\" "),
            [pair("kube_name_space", "x/y"), pair("_z", "\"q\"")]
        );
        for (text, told) in [
            ("foo", "`foo` is none"),
            ("foo:bar,", "`` is none"),
            ("foo=bar", "`foo=bar` is none"),
            ("foo:bar:baz", "`foo:bar:baz` is none"),
            (":bar", "the name of"),
            ("1st:x", "the name of"),
            ("größe:x", "the name of"),
            ("a b:x", "the name of"),
            ("foo:", "needs a value"),
            ("foo:\u{7}", "needs a value"),
            ("le:x", "itself"),
            ("__name__:x", "itself"),
            ("a.b:x,a-b:y", "`a_b` is there twice"),
        ] {
            let refused = ExtraLabels::parse(text).unwrap_err();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        let many = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|number| format!("l{number}:x")).collect();
            ExtraLabels::parse(&pairs.join(",")).is_ok()
        };
        assert!(many(32) && !many(33));
        let long = |name: usize, value: usize| {
            ExtraLabels::parse(&format!("{}:{}", "n".repeat(name), "v".repeat(value))).is_ok()
        };
        assert!(long(128, 256) && !long(129, 1) && !long(1, 257));
    }

    #[test]
    fn every_series_has_them_and_its_own_label_stays() {
        let labels = ExtraLabels::parse("foo:b\\r\",key1:x").unwrap();
        let text = "# HELP a A {b} c\n# TYPE a counter\na 1\na{} 2\na{key1=\"q\\\"}\\\\\",le=\"+Inf\"} 3\nb{z=\"1\"} 4\n\n";
        assert_eq!(
            labels.give_to(text.to_owned()),
            "# HELP a A {b} c\n# TYPE a counter\na{foo=\"b\\\\r\\\"\",key1=\"x\"} 1\n\
             a{foo=\"b\\\\r\\\"\",key1=\"x\"} 2\na{foo=\"b\\\\r\\\"\",key1=\"q\\\"}\\\\\",le=\"+Inf\"} 3\n\
             b{foo=\"b\\\\r\\\"\",key1=\"x\",z=\"1\"} 4\n\n"
        );
        let metrics = Metrics::with_labels(ExtraLabels::parse("foo:bar,a:b").unwrap());
        let rule = metrics.declared_rule("d", &["k".to_owned()]);
        metrics.count(&rule, Tally { total_hits: 1, ..Tally::default() });
        metrics.calls("Check").record(1);
        metrics.counter("plain", &[]).increment(1);
        metrics.gauge("labelled", &[("x", "y")]).set(1.0);
        let text = metrics.render();
        let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in series.clone() {
            assert!(line.contains("{foo=\"bar\",a=\"b\""), "{line}");
        }
        for name in [
            "ratelimit_service_rate_limit_total_hits{",
            "plain{",
            "process_",
            "labelled{",
            "ratelimit_service_response_time_seconds_bucket{",
        ] {
            assert!(series.clone().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
