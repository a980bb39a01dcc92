//! The README says what is so.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use tollgate::config::SETTINGS;

/// The table of settings in the README is the one in the code. `UPDATE_README=1 cargo test readme`
/// writes it.
#[test]
fn every_setting_stands_in_the_readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("<!-- settings -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /settings -->").unwrap();
    let mut table = String::from("| key | default | meaning |\n|---|---|---|\n");
    for setting in SETTINGS {
        let default = if setting.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", setting.default)
        };
        writeln!(table, "| `{}` | {default} | {} |", setting.key, setting.meaning).unwrap();
    }
    let right = format!("{before}<!-- settings -->\n{table}<!-- /settings -->{after}");
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(&path, &right).unwrap();
    }
    assert!(
        readme == right,
        "the table of settings in README.md is out of date: UPDATE_README=1 cargo test readme"
    );
}
