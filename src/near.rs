//! Names that a person may have meant.

/// The longest name that is compared: what is longer was hardly mistyped.
const LONGEST: usize = 128;

/// Those of `names` that `given` may be a mistyping of, the nearest first, at most three: one slip
/// of the keys for each four letters.
pub fn near<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let given_folded = folded(given);
    if given_folded.len() > LONGEST || given_folded.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let folded = folded(name);
            let bound = (given_folded.len().max(folded.len()) / 4).clamp(1, 3);
            if folded.len() > LONGEST || folded.len().abs_diff(given_folded.len()) > bound {
                return None;
            }
            Some((slips(&given_folded, &folded), name)).filter(|(slips, _)| *slips <= bound)
        })
        .collect();
    found.sort();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `displayName`, `display-name` and `Display_Name` are spelt alike.
fn folded(name: &str) -> Vec<char> {
    name.chars()
        .take(LONGEST + 1)
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// How many letters were left out, put in, taken for another, or swapped with their neighbour.
fn slips(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least =
                (at(&last, j) + usize::from(a != b)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, to.len())
}

#[cfg(test)]
mod tests {
    use super::{folded, near, slips};

    #[test]
    fn letters_put_in_left_out_changed_and_swapped_count_once() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("grcp", "grpc", 1),
            ("addr", "adr", 1),
            ("loud", "info", 4),
            ("abc", "axc", 1),
        ] {
            let (one, other) = (folded(one), folded(other));
            assert_eq!(
                (slips(&one, &other), slips(&other, &one)),
                (expected, expected),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn a_slip_of_the_keys_is_found_and_another_word_is_not() {
        let names = ["displayName", "rateLimit", "methodRateLimits", "quotas", "orders/prod", "id"];
        for (given, meant) in [
            ("rate_limit", &["rateLimit"][..]),
            ("ratelimit", &["rateLimit"]),
            ("rateLimits", &["rateLimit"]),
            ("qoutas", &["quotas"]),
            ("orders/prd", &["orders/prod"]),
            ("di", &["id"]),
            ("colour", &[]),
            ("users/prod", &[]),
            ("", &[]),
            ("x", &[]),
        ] {
            assert_eq!(near(given, names), meant, "{given}");
        }
        assert!(near(&"x".repeat(10_000), names).is_empty());
        assert_eq!(near("abcd", ["abce", "abcf", "abcg", "abch"]), ["abce", "abcf", "abcg"]);
    }
}
