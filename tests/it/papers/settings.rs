//! `docs/settings.md` has every setting, as the program has it.

use std::fmt::Write;

use tollgate::config::SETTINGS;

use super::{cell, hold_part};

#[test]
fn every_setting_stands_in_its_page() {
    let mut table = String::from("| key | default | meaning |\n|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        writeln!(table, "| `{}` | {default} | {} |", setting.key, cell(setting.meaning)).unwrap();
    }
    hold_part("docs/settings.md", "settings", &table);
}
