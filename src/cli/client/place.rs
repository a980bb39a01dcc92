//! Where in a file a mistake is, in the words of the file:
//! `b.yaml:12: plans[1] (silver): rateLimit.requestsPerSecond must be more than 0`.

use crate::cli::Failure;
use crate::decide::invalid::Invalid;
use crate::yaml::{Content, Entry, Node};

/// Mistakes that are told; nobody reads on.
const TOLD: usize = 50;

/// Other names under which a file may have a field of the contract.
const ALIASES: &[(&str, &[&str])] = &[
    ("limit", &["value"]),
    ("requests_per_second", &["value"]),
    ("on_breach", &["operationOnBreach"]),
    ("quotas", &["quota"]),
    ("labels", &["freeformTags", "definedTags"]),
];

/// What was found to be wrong, a line each; `more` were found and are not told.
pub(in crate::cli) fn refused(mut told: Vec<String>, more: usize) -> Failure {
    if let ([one], 0) = (told.as_slice(), more) {
        return Failure::unusable(one);
    }
    let count = told.len() + more;
    told.truncate(TOLD);
    let rest = if count > told.len() {
        format!("\n  and {} more", count - told.len())
    } else {
        String::new()
    };
    Failure::unusable(format!(
        "{count} mistakes, and nothing was changed:\n  {}{rest}",
        told.join("\n  ")
    ))
}

/// A mistake, with the line and the place of the field in the document `root` of the file.
pub(in crate::cli) fn told(file: &str, root: Option<&Node>, mistake: &Invalid) -> String {
    let mut place = Place { said: String::new(), at_name: false, line: None, node: root };
    steps(&mistake.field).into_iter().for_each(|step| place.go(step));
    let line =
        place.line.or(root.map(|root| root.line)).map_or(String::new(), |line| format!(":{line}"));
    let space = if place.said.is_empty() || place.said.ends_with(' ') { "" } else { " " };
    format!("{file}{line}: {}{space}{}", place.said, mistake.reason)
}

/// Every key that has nothing behind it: it may stand for "none", or be what a template left.
pub(in crate::cli) fn left_blank(root: &Node) -> Vec<Invalid> {
    let mut found = Vec::new();
    look_for_blanks(root, "", &mut found);
    found
}

fn look_for_blanks(node: &Node, at: &str, found: &mut Vec<Invalid>) {
    match &node.content {
        Content::Map(entries) => {
            for Entry { key, value, .. } in entries {
                let at =
                    if at.is_empty() { key.text.clone() } else { format!("{at}.{}", key.text) };
                if matches!(&value.content, Content::Scalar(scalar) if scalar.text.is_empty() && value.is_null())
                {
                    found.push(Invalid::new(
                        at,
                        "has nothing behind it: leave the line out to say nothing of it, or write what there is to be",
                    ));
                } else {
                    look_for_blanks(value, &at, found);
                }
            }
        }
        Content::List(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, item)| look_for_blanks(item, &format!("{at}[{i}]"), found)),
        Content::Scalar(_) => {}
    }
}

enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// `plans[1].rateLimit` as its steps.
fn steps(field: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in field.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|name| !name.is_empty()).map(Step::Field));
        steps.extend(
            pieces.filter_map(|piece| piece.strip_suffix(']')?.parse().ok()).map(Step::Item),
        );
    }
    steps
}

/// As far as the file goes with the path of a field.
struct Place<'a> {
    said: String,
    /// The last that was said is the name of a resource.
    at_name: bool,
    line: Option<u32>,
    node: Option<&'a Node>,
}

impl<'a> Place<'a> {
    fn go(&mut self, step: Step<'_>) {
        match step {
            Step::Field(name) => self.field(name),
            Step::Item(at) => self.item(at),
        }
    }

    fn field(&mut self, name: &str) {
        let found = self.node.and_then(|node| entry(node, name));
        let said = found.map_or_else(|| camel(name), |entry| entry.key.text.clone());
        if !self.said.is_empty() && !self.at_name {
            self.said.push('.');
        }
        self.said.push_str(&said);
        self.at_name = false;
        // What is not there is a mistake of what holds it.
        self.line = found.map(|entry| entry.key_line).or(self.line);
        self.node = found.map(|entry| &*entry.value);
    }

    fn item(&mut self, at: usize) {
        let list = self.node.map(|node| &node.content);
        self.node = match list {
            Some(Content::List(items)) => items.get(at).map(|item| &**item),
            // `quota` of a file stands for the only one of `quotas`.
            Some(Content::Map(_)) if at == 0 => return,
            _ => None,
        };
        self.said.push_str(&format!("[{at}]"));
        self.line = self.node.map(|node| node.line).or(self.line);
        let named = self.node.and_then(|node| node.get("id").or_else(|| node.get("displayName")));
        if let Some(Content::Scalar(id)) = named.map(|node| &node.content) {
            let id: String = id.text.chars().take(64).flat_map(char::escape_debug).collect();
            self.said.push_str(&format!(" ({id}): "));
            self.at_name = true;
        }
    }
}

/// The line of a mapping that says the field `name`, in any of its spellings.
fn entry<'a>(node: &'a Node, name: &str) -> Option<&'a Entry> {
    let Content::Map(entries) = &node.content else { return None };
    let find = |name: &str| entries.iter().find(|entry| camel(&entry.key.text) == name);
    let aliases = ALIASES
        .iter()
        .filter(|(field, _)| *field == name || camel(field) == name)
        .flat_map(|(_, aliases)| *aliases);
    entries
        .iter()
        .find(|entry| entry.key.text == name)
        .or_else(|| find(&camel(name)))
        .or_else(|| aliases.copied().find_map(find))
}

/// `rate_limit` and `rate-limit` as `rateLimit`.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut capital = false;
    for c in name.chars() {
        match c {
            '_' | '-' => capital = true,
            c if capital => {
                camel.push(c.to_ascii_uppercase());
                capital = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::{left_blank, refused, told};
    use crate::decide::invalid::Invalid;
    use crate::yaml;

    const FILE: &str = "\
plans:
- {id: bronze}
- id: silver
  entitlements:
  - name: e
    rate_limit: {requestsPerSecond: 0}
    quota:
      value: -1
subscribers:
- id: acme
  keys:
  - id: acme-1
    enabled: maybe
";

    #[test]
    fn a_mistake_is_told_by_line_and_id_in_the_words_of_the_file() {
        let root = yaml::parse(FILE).unwrap().root;
        for (field, said) in [
            (
                "plans[1].entitlements[0].rate_limit.requests_per_second",
                "f:6: plans[1] (silver): entitlements[0].rate_limit.requestsPerSecond is",
            ),
            (
                "plans[1].entitlements[0].quotas[0].limit",
                "f:8: plans[1] (silver): entitlements[0].quota.value is",
            ),
            (
                "plans[1].entitlements[0].counter_scope",
                "f:5: plans[1] (silver): entitlements[0].counterScope is",
            ),
            ("plans[1]", "f:3: plans[1] (silver): is"),
            ("plans[7].id", "f:1: plans[7].id is"),
            (
                "subscribers[0].keys[0].enabled",
                "f:13: subscribers[0] (acme): keys[0] (acme-1): enabled is",
            ),
            ("nothing", "f:1: nothing is"),
            ("", "f:1: is"),
        ] {
            assert_eq!(
                told("f", Some(&root), &Invalid::new(field, "is wrong")),
                format!("{said} wrong"),
                "{field}"
            );
        }
        assert_eq!(
            told("f", None, &Invalid::new("plans[1].rate_limit", "is wrong")),
            "f: plans[1].rateLimit is wrong"
        );
    }

    #[test]
    fn what_a_template_left_blank_is_found_and_a_null_that_was_written_is_not() {
        let root = yaml::parse("subscribers:\nplans:\n- id: gold\n  rateLimit: null\n  quotas: ~\n  description:\n  displayName: ''\n")
            .unwrap()
            .root;
        let found: Vec<String> =
            left_blank(&root).into_iter().map(|mistake| mistake.field).collect();
        assert_eq!(found, ["subscribers", "plans[0].description"]);
    }

    #[test]
    fn one_mistake_is_a_sentence_and_many_are_a_list_with_an_end() {
        assert_eq!(refused(vec!["a".into()], 0).text, "a");
        assert_eq!(
            refused(vec!["a".into(), "b".into()], 3).text,
            "5 mistakes, and nothing was changed:\n  a\n  b\n  and 3 more"
        );
        let many = refused((0..200).map(|i| i.to_string()).collect(), 0).text;
        assert!(many.lines().count() == 52 && many.ends_with("and 150 more"), "{many}");
    }
}
