//! Colour, for people at a terminal who want it.

use std::io::IsTerminal;

pub(in crate::cli) const GREEN: &str = "\u{1b}[32m";
pub(in crate::cli) const RED: &str = "\u{1b}[31m";
pub(in crate::cli) const RESET: &str = "\u{1b}[0m";

/// Whether standard output is a terminal, and nothing says that it is to be plain (`NO_COLOR`, see
/// no-color.org).
pub(in crate::cli) fn wanted() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !plain && std::io::stdout().is_terminal()
}
