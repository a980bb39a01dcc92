//! The ledger that lies in a database.

use std::path::PathBuf;
use std::time::Duration;

use super::layers::Reader;
use crate::ledger::PostgresSettings;

/// Linux tells the name of the machine here.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const LONGEST_NAME: usize = 200;

/// A ledger that is not in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLedger {
    pub postgres: PostgresSettings,
    /// The name of this node.
    pub node: String,
    /// How long a start waits for the database.
    pub start_wait: Duration,
}

impl SharedLedger {
    /// `None`: the ledger is in `data_dir`.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let file = |text: String| Some(PathBuf::from(text)).filter(|path| path != "");
        let postgres = PostgresSettings {
            url: reader.text("ledger.url"),
            password_file: file(reader.text("ledger.password_file")),
            ca: file(reader.text("ledger.ca")),
            must_exist: reader.flag("ledger.must_exist"),
        };
        let node = reader.checked("node.name", name);
        let start_wait =
            Duration::from_millis(reader.number("ledger.start_wait_ms", 0..=86_400_000));
        if postgres.url.is_empty() {
            for key in ["ledger.password_file", "ledger.ca"] {
                if !reader.text(key).is_empty() {
                    reader.mistake(format!("{key} is set, and ledger.url is not: what is it for?"));
                }
            }
            return None;
        }
        if let Err(why) = postgres.check() {
            // The address may hold a password.
            reader.mistake(format!("ledger.url cannot be used: {why}"));
        }
        Some(Self { postgres, node, start_wait })
    }
}

/// The name that is set, else the machine's.
fn name(text: &str) -> Result<String, String> {
    if !text.is_empty() {
        let fits = text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
        return if fits {
            Ok(text.to_owned())
        } else {
            Err(format!("must have {LONGEST_NAME} bytes at most, and no control characters"))
        };
    }
    let told = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let told = told.trim();
    Ok(if told.is_empty() { "tollgate".to_owned() } else { told.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_name_that_is_set_or_that_of_the_machine() {
        assert_eq!(name("a-1").as_deref(), Ok("a-1"));
        assert!(name("a\n").is_err() && name(&"a".repeat(LONGEST_NAME + 1)).is_err());
        assert!(!name("").unwrap().is_empty());
    }
}
