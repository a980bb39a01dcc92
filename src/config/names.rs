//! Names of environment variables and keys that look like settings and are none: each is a setting that somebody believes in.

use std::ffi::OsString;

use super::SETTINGS;

/// What the environment may hold beside settings: for this command and for those that talk to a server.
const OTHERS: [&str; 6] =
    ["TOLLGATE_CONFIG", "TOLLGATE_SERVER", "TOLLGATE_TOKEN", "TOLLGATE_CA", "TOLLGATE_CLIENT_CERT", "TOLLGATE_CLIENT_KEY"];

const PREFIX: &str = "TOLLGATE_";

/// The variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// What is wrong with the names of this environment, a line for each.
pub(super) fn mistakes(environment: &[(OsString, OsString)]) -> Vec<String> {
    let known: Vec<String> = SETTINGS.iter().map(|setting| variable(setting.key)).chain(OTHERS.map(str::to_owned)).collect();
    let mut found = Vec::new();
    for (name, value) in environment {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) {
            continue;
        }
        if known.iter().any(|known| *known == name) {
            if value.to_str().is_none() {
                found.push(format!("{name}: its value must be UTF-8"));
            }
        } else if !is_of_kubernetes(&name, &value.to_string_lossy()) {
            found.push(format!("{name}: there is no such setting{}; see the table of settings in the README", near(&name, &known)));
        }
    }
    found.sort_unstable();
    found
}

/// `, did you mean …` for a key of a file, where one is near.
pub(super) fn near_key(key: &str) -> String {
    let known: Vec<String> = SETTINGS.iter().map(|setting| setting.key.to_owned()).collect();
    near(key, &known)
}

/// Kubernetes sets them in each container for each service of the namespace, and a service may be called `tollgate`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let port_of = |protocol: &str| {
        name.split_once("_PORT_").is_some_and(|(_, rest)| {
            let digits = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
            digits.len() < rest.len()
                && digits
                    .strip_prefix('_')
                    .and_then(|rest| rest.strip_prefix(protocol))
                    .is_some_and(|rest| ["", "_ADDR", "_PORT", "_PROTO"].contains(&rest))
        })
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || ["TCP", "UDP", "SCTP"].into_iter().any(port_of)
}

fn near(name: &str, known: &[String]) -> String {
    // A third of it may be wrong: beyond that it is another word.
    let most = (name.strip_prefix(PREFIX).unwrap_or(name).len() / 3).min(4);
    let nearest = known.iter().map(|known| (distance(name, known), known)).min();
    nearest.filter(|(distance, _)| *distance <= most).map_or_else(String::new, |(_, known)| format!(", did you mean `{known}`"))
}

/// How many letters must be put in, taken out, changed, or swapped with the next to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, wanted) in other.iter().enumerate() {
            let at = |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX - 1);
            let changed = at(&row, j) + usize::from(letter != wanted);
            let mut least = changed.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(wanted) && other.get(j - 1) == Some(letter);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_put_in_taken_out_changed_and_swapped_count_once() {
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("grcp", "grpc", 1), ("addr", "adr", 1), ("loud", "info", 4), ("abc", "axc", 1)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn a_name_that_is_no_setting_is_told_with_the_near_one() {
        for (name, said) in [
            ("TOLLGATE_GRCP_ADDR", Some("did you mean `TOLLGATE_GRPC_ADDR`")),
            ("TOLLGATE_LOGLEVEL", Some("did you mean `TOLLGATE_LOG_LEVEL`")),
            ("TOLLGATE_LEDGER_MAX_WAIT", Some("did you mean `TOLLGATE_LEDGER_MAX_WAIT_MS`")),
            ("TOLLGATE_TOKENS", Some("did you mean `TOLLGATE_TOKEN`")),
            ("TOLLGATE_", Some("there is no such setting; see")),
            ("TOLLGATE_SOMETHING_ELSE_ALTOGETHER", Some("there is no such setting; see")),
            ("TOLLGATE_DATA_DIR", None),
            ("TOLLGATE_CONFIG", None),
            ("TOLLGATE_SERVER", None),
            ("TOLLGATE_SERVICE_HOST", None),
            ("TOLLGATE_SERVICE_PORT", None),
            ("TOLLGATE_SERVICE_PORT_GRPC", None),
            ("TOLLGATE_PORT=tcp://10.0.0.1:8081", None),
            ("TOLLGATE_GRPC_PORT=tcp://10.0.0.1:8081", None),
            ("TOLLGATE_GRPC_PORT=8081", Some("there is no such setting")),
            ("TOLLGATE_DATA_DIR=\u{fffd}", None),
            ("TOLLGATE_PORT_8081_TCP", None),
            ("TOLLGATE_PORT_8081_TCP_ADDR", None),
            ("TOLLGATE_RATELIMIT_PORT_8081_TCP_PROTO", None),
            ("TOLLGATE_PORT_8081", Some("there is no such setting")),
            ("TOLLGATE_PORT_X_TCP", Some("there is no such setting")),
            ("PATH", None),
            ("MY_TOLLGATE_X", None),
        ] {
            let (name, value) = name.split_once('=').unwrap_or((name, "x"));
            let found = mistakes(&[(name.into(), value.into())]);
            match said {
                Some(said) => assert!(found.len() == 1 && found[0].starts_with(name) && found[0].contains(said), "{name}: {found:?}"),
                None => assert!(found.is_empty(), "{found:?}"),
            }
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_not_dropped() {
        let value = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        assert_eq!(mistakes(&[("TOLLGATE_DATA_DIR".into(), value)]), ["TOLLGATE_DATA_DIR: its value must be UTF-8"]);
    }
}
