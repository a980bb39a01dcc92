//! Compiled matching against a plain reading of what it promises.

use proptest::prelude::*;

use super::super::*;

#[derive(Clone, Debug)]
struct Plain {
    key: &'static str,
    value: &'static str,
    limited: bool,
    shares: bool,
    below: Vec<Plain>,
}

impl Plain {
    fn composite(&self) -> String {
        if self.value.is_empty() {
            self.key.to_owned()
        } else {
            format!("{}_{}", self.key, self.value)
        }
    }

    fn yaml(&self) -> String {
        let below: Vec<_> = self.below.iter().map(Self::yaml).collect();
        let limit =
            if self.limited { ", rate_limit: {unit: day, requests_per_unit: 1}" } else { "" };
        let shares = if self.shares { ", share_threshold: true" } else { "" };
        format!(
            "{{key: '{}', value: '{}'{limit}{shares}, descriptors: [{}]}}",
            self.key,
            self.value,
            below.join(", ")
        )
    }
}

/// Goes over all descriptors of a level three times, as the rules are told. Gives the path, and
/// what each level counts by.
fn find(level: &[Plain], entries: &[(&[u8], &[u8])]) -> Option<(Vec<String>, Vec<Vec<u8>>)> {
    let (&(key, value), rest) = entries.split_first()?;
    let joined = [key, b"_", value].concat();
    let exact = level.iter().find(|plain| plain.composite().as_bytes() == joined);
    let wildcard = || {
        level.iter().find(|plain| {
            plain.composite().contains('*') && fits(plain.composite().as_bytes(), &joined)
        })
    };
    let default = || level.iter().find(|plain| plain.composite().as_bytes() == key);
    let found = exact.or_else(wildcard).or_else(default)?;
    let counted = if found.shares { found.composite().into_bytes() } else { joined };
    if rest.is_empty() {
        return found.limited.then(|| (vec![found.composite()], vec![counted]));
    }
    let (mut path, mut counters) = find(&found.below, rest)?;
    path.insert(0, found.composite());
    counters.insert(0, counted);
    Some((path, counters))
}

/// `*` is tried at every length.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|taken| fits(rest, &text[taken..])),
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(first, text)| first == byte && fits(rest, text))
        }
    }
}

fn level(depth: u32) -> BoxedStrategy<Vec<Plain>> {
    let key = prop::sample::select(vec!["a", "b", "a_b", "a*", "*", "b*a"]);
    let value =
        prop::sample::select(vec!["", "", "a", "b", "b_a", "*", "a*", "*b", "a*b", "*a*", "b*b*a"]);
    let below = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        prop_oneof![Just(Vec::new()), level(depth - 1)].boxed()
    };
    let plain = (key, value, prop::bool::weighted(0.7), any::<bool>(), below).prop_map(
        |(key, value, limited, shares, below)| Plain {
            key,
            value,
            limited,
            shares: shares && (key.contains('*') || value.contains('*')),
            below,
        },
    );
    prop::collection::vec(plain, 0..6).prop_map(without_duplicates).boxed()
}

fn without_duplicates(level: Vec<Plain>) -> Vec<Plain> {
    let mut seen = std::collections::HashSet::new();
    level.into_iter().filter(|plain| seen.insert(plain.composite())).collect()
}

fn requests() -> impl Strategy<Value = Vec<Vec<(&'static [u8], &'static [u8])>>> {
    let key = prop::sample::select(vec![&b"a"[..], b"b", b"a_b", b"ab", b"a*", b"", b"\xFF"]);
    let value = prop::sample::select(vec![
        &b""[..],
        b"a",
        b"b",
        b"ab",
        b"ba",
        b"b_a",
        b"a*",
        b"abba",
        b"bba",
        b"bab_a",
        b"a\xFFb",
    ]);
    prop::collection::vec(prop::collection::vec((key, value), 0..5), 20..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn compiled_matching_is_what_it_promises(top in level(2), requests in requests()) {
        let yaml: Vec<_> = top.iter().map(Plain::yaml).collect();
        let source = Source { name: "f".to_owned(), text: format!("domain: d\ndescriptors: [{}]", yaml.join(", ")) };
        let loaded = load(&[source], &LoadOptions::default()).unwrap();
        prop_assert!(loaded.warnings.is_empty());
        for request in requests {
            let found = loaded.rules.domain(b"d").unwrap().find(&request).map(|found| {
                let mut counters = Vec::new();
                found.counter_levels(|pieces| counters.push(pieces.concat()));
                (found.rule.levels.clone(), counters)
            });
            prop_assert_eq!(found, find(&top, &request), "{:?}", request);
        }
    }

    #[test]
    fn no_text_makes_loading_panic(text in "\\PC*") {
        let _ = load(&[Source { name: "f".to_owned(), text }], &LoadOptions::default());
    }

    #[test]
    fn no_rules_like_text_makes_loading_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        let source = |text: String| Source { name: "f".to_owned(), text };
        let sources = [source(pieces.concat()), source(format!("domain: d\ndescriptors:\n- {}", pieces.concat()))];
        for source in &sources {
            let _ = load(std::slice::from_ref(source), &LoadOptions::default());
        }
        let _ = load(&sources, &LoadOptions { merge_domains: true });
    }
}

/// What rules are made of.
const PIECES: &[&str] = &[
    "domain: d\n",
    "descriptors:\n",
    "descriptors: ",
    "- key: a\n",
    "  key: b\n",
    "  value: c*\n",
    "  rate_limit:\n",
    "    unit: day\n",
    "    requests_per_unit: 5\n",
    "  rate_limit: {unit: second, requests_per_unit: 1, algorithm: token_bucket}\n",
    "    burst: 0\n",
    "    unit_multiplier: 9\n",
    "  share_threshold: yes\n",
    "  metadata: {a: .nan}\n",
    "  detailed_metric: true\n",
    "    replaces: [{name: x}]\n",
    "    unlimited: on\n",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "\n",
    "  ",
    "- ",
    "&x ",
    "*x",
    "<<: ",
    "1",
    "0.5",
    "~",
    "'",
    "\"",
    "---\n",
    "\u{0}",
    "é",
];
