//! Names of environment variables and keys that look like settings and are none: each is a setting
//! that somebody believes in.

use std::ffi::OsString;

use super::SETTINGS;
use crate::near::near;

/// What the environment may hold beside settings: for this command and for those that talk to a
/// server.
const OTHERS: [&str; 6] = [
    "TOLLGATE_CONFIG",
    "TOLLGATE_SERVER",
    "TOLLGATE_TOKEN",
    "TOLLGATE_CA",
    "TOLLGATE_CLIENT_CERT",
    "TOLLGATE_CLIENT_KEY",
];

const PREFIX: &str = "TOLLGATE_";

/// Settings that earlier versions had, and why there is none any more.
const GONE: [(&str, &str); 1] = [(
    "grpc.max_unread_ms",
    "connections are not closed under load any more: decisions that would wait longer than grpc.max_lag_ms are refused, and that is all",
)];

/// What is wrong with a key that is no setting.
pub(super) fn unknown_key(key: &str) -> String {
    gone(key).unwrap_or_else(|| {
        let near = did_you_mean(key, "", SETTINGS.iter().map(|setting| setting.key));
        format!("there is no setting `{key}`{near}; `tollgate settings` lists them all")
    })
}

/// Why a key is no setting any more. In the environment as in a file.
fn gone(key: &str) -> Option<String> {
    let (known, why) = GONE.iter().find(|(gone, _)| *gone == key || variable(gone) == key)?;
    Some(format!("the setting `{known}` is gone; take it out ({why})"))
}

/// The variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// What is wrong with the names of this environment, a line for each.
pub(super) fn mistakes(environment: &[(OsString, OsString)]) -> Vec<String> {
    let known: Vec<String> = SETTINGS
        .iter()
        .map(|setting| variable(setting.key))
        .chain(OTHERS.map(str::to_owned))
        .collect();
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
        } else if let Some(gone) = gone(&name) {
            found.push(format!("{name}: {gone}"));
        } else if !is_of_kubernetes(&name, &value.to_string_lossy()) {
            // All begin alike, which makes no two of them near.
            let rests = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
            let meant = did_you_mean(name.strip_prefix(PREFIX).unwrap_or(&name), PREFIX, rests);
            found.push(format!(
                "{name}: there is no such setting{meant}; `tollgate settings` lists them all"
            ));
        }
    }
    found.sort_unstable();
    found
}

/// Kubernetes sets them in each container for each service of the namespace, and a service may be
/// called `tollgate`.
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

/// What an error says of the name that was meant.
fn did_you_mean<'a>(given: &str, prefix: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    near(given, known)
        .first()
        .map_or_else(String::new, |nearest| format!(", did you mean `{prefix}{nearest}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_setting_is_told_with_the_near_one() {
        for (name, said) in [
            ("TOLLGATE_GRCP_ADDR", Some("did you mean `TOLLGATE_GRPC_ADDR`")),
            ("TOLLGATE_LOGLEVEL", Some("did you mean `TOLLGATE_LOG_LEVEL`")),
            ("TOLLGATE_LEDGER_MAX_WAIT", Some("did you mean `TOLLGATE_LEDGER_MAX_WAIT_MS`")),
            ("TOLLGATE_TOKENS", Some("did you mean `TOLLGATE_TOKEN`")),
            ("TOLLGATE_", Some("there is no such setting; `tollgate settings`")),
            (
                "TOLLGATE_SOMETHING_ELSE_ALTOGETHER",
                Some("there is no such setting; `tollgate settings`"),
            ),
            (
                "TOLLGATE_GRPC_MAX_UNREAD_MS",
                Some("the setting `grpc.max_unread_ms` is gone; take it out (connections are not"),
            ),
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
                Some(said) => assert!(
                    found.len() == 1 && found[0].starts_with(name) && found[0].contains(said),
                    "{name}: {found:?}"
                ),
                None => assert!(found.is_empty(), "{found:?}"),
            }
        }
    }

    #[test]
    fn no_setting_is_called_gone_that_is_there() {
        for (gone, _) in GONE {
            assert!(SETTINGS.iter().all(|setting| setting.key != gone), "{gone}");
            assert!(unknown_key(gone).contains("is gone"), "{gone}");
        }
        assert!(unknown_key("grpc.max_unraed_ms").starts_with("there is no setting"));
    }

    #[test]
    fn a_value_that_is_no_text_is_not_dropped() {
        let value = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        assert_eq!(
            mistakes(&[("TOLLGATE_DATA_DIR".into(), value)]),
            ["TOLLGATE_DATA_DIR: its value must be UTF-8"]
        );
    }
}
