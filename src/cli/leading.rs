//! Flags before the command: `tollgate --server X plan list` is `tollgate plan list --server X`.

use std::ffi::OsString;

use clap::{Arg, Command};

/// The arguments with the flags that lead them behind the command, where it knows all of them. What
/// is meant otherwise, or is wrong, is as it was: the parser has words for it.
pub(super) fn behind(args: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let Some((leading, at)) = leading(&args, root) else { return args };
    let mut rest = args.clone();
    let command: Vec<OsString> = rest.split_off(at);
    let flags: Vec<OsString> = rest.split_off(1);
    let Some(chain) = chain(&command, root) else { return args };
    if flags.is_empty()
        || !leading.iter().all(|name| chain.iter().any(|one| flag(one, name).is_some()))
    {
        return args;
    }
    let end = command.iter().position(|word| word == "--").unwrap_or(command.len());
    let (words, literal) = command.split_at_checked(end).unwrap_or((&command, &[]));
    rest.extend(words.iter().cloned().chain(flags).chain(literal.iter().cloned()));
    rest
}

/// The long flags in front, and where the command stands.
fn leading(args: &[OsString], root: &Command) -> Option<(Vec<String>, usize)> {
    let (mut names, mut at) = (Vec::new(), 1);
    loop {
        let word = args.get(at)?.to_str()?;
        let Some(long) = word.strip_prefix("--") else {
            return (!word.starts_with('-') && !names.is_empty()).then_some((names, at));
        };
        let (name, has_value) =
            long.split_once('=').map_or((long, false), |(name, _)| (name, true));
        let takes_value = anywhere(root, name)?.get_action().takes_values();
        names.push(name.to_owned());
        at += if takes_value && !has_value { 2 } else { 1 };
    }
}

/// The command that is meant and those that it is under, without the root.
fn chain<'c>(words: &[OsString], root: &'c Command) -> Option<Vec<&'c Command>> {
    let mut words = words.iter().filter_map(|word| word.to_str());
    let mut chain = vec![root.find_subcommand(words.next()?)?];
    for word in words {
        let under = chain.last().and_then(|command| command.find_subcommand(word));
        chain.extend(under);
    }
    Some(chain)
}

fn flag<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

fn anywhere<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    flag(command, name)
        .or_else(|| command.get_subcommands().find_map(|under| anywhere(under, name)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::behind;
    use crate::cli::Cli;

    fn moved(line: &str) -> String {
        let args = std::iter::once("tollgate")
            .chain(line.split_whitespace())
            .map(OsString::from)
            .collect();
        let words: Vec<String> = behind(args, &Cli::command())
            .into_iter()
            .skip(1)
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn flags_that_the_command_knows_go_behind_it() {
        for (line, meant) in [
            ("--server h:1 plan list", "plan list --server h:1"),
            (
                "--server=h:1 --token t plan list --filter x",
                "plan list --filter x --server=h:1 --token t",
            ),
            (
                "--output json --timeout-ms 5 check --key k --target a",
                "check --key k --target a --output json --timeout-ms 5",
            ),
            ("--ca c.pem usage", "usage --ca c.pem"),
            ("--data-dir d ledger check", "ledger check --data-dir d"),
            ("--data-dir d serve", "serve --data-dir d"),
            ("--dry-run apply -f a.yaml", "apply -f a.yaml --dry-run"),
            ("--token serve plan list", "plan list --token serve"),
        ] {
            assert_eq!(moved(line), meant, "{line}");
        }
    }

    #[test]
    fn what_is_meant_otherwise_stays() {
        for line in [
            "",
            "--grpc-addr 127.0.0.1:0",
            "--grpc-addr 127.0.0.1:0 plan list",
            "--data-dir d plan list",
            "plan --server h:1 list",
            "--server",
            "--server h:1",
            "--server h:1 plans list",
            "--colour red plan list",
            "--help",
            "-h plan",
            "-- plan list",
        ] {
            assert_eq!(
                moved(line),
                line.split_whitespace().collect::<Vec<_>>().join(" "),
                "{line}"
            );
        }
    }
}
