//! In the place of the reference service: under its name, with its arguments.
//!
//! Its program reads no arguments at all, so manifests pass it some that nobody knows. What is no
//! flag of `serve` is told, and passed over.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::Command;

/// The name of the reference's program.
const NAME: &str = "ratelimit";
const FLAG: &str = "--as-ratelimit";
/// What is told of arguments is bounded.
const MOST_TOLD: usize = 16;

/// The arguments of `serve` alone, and what of them is passed over. `None`: tollgate goes by its
/// own name.
pub(super) fn read(args: &[OsString], serve: &Command) -> Option<(Vec<OsString>, Vec<String>)> {
    let (program, rest) = args.split_first()?;
    let by_name = Path::new(program).file_name() == Some(OsStr::new(NAME));
    let rest = match rest.split_first() {
        Some((first, behind)) if first == "serve" => behind,
        // Another command: it has words of its own for what it does not know.
        Some((first, _)) if !by_name && !first.as_encoded_bytes().starts_with(b"-") => return None,
        _ => rest,
    };
    if !by_name && !rest.iter().any(|word| word == FLAG) {
        return None;
    }
    let (mut kept, mut ignored) = (vec![program.clone(), "serve".into(), FLAG.into()], Vec::new());
    let mut words = rest.iter().filter(|word| *word != FLAG).peekable();
    while let Some(word) = words.next() {
        match takes_value(word, serve) {
            Some(takes_value) => {
                kept.push(word.clone());
                kept.extend(words.next_if(|_| takes_value).cloned());
            }
            None => ignored.push(word.to_string_lossy().into_owned()),
        }
    }
    ignored.truncate(MOST_TOLD);
    Some((kept, ignored))
}

/// Whether the next word belongs to this flag of `serve`; `None` where it is none.
fn takes_value(word: &OsStr, serve: &Command) -> Option<bool> {
    let word = word.to_str()?;
    if ["-h", "--help"].contains(&word) {
        return Some(false);
    }
    let long = word.strip_prefix("--")?;
    let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
    let flag = serve.get_arguments().find(|arg| arg.get_long() == Some(name))?;
    Some(flag.get_action().takes_values() && !has_value)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// What is kept behind `serve --as-ratelimit`, and what is passed over.
    fn split(line: &str) -> Option<(String, String)> {
        let root = Cli::command();
        let serve = root.find_subcommand("serve").unwrap();
        let args: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
        let (kept, ignored) = read(&args, serve)?;
        let kept: Vec<_> = kept[1..].iter().map(|word| word.to_str().unwrap()).collect();
        let kept = kept.join(" ");
        Some((kept.strip_prefix("serve --as-ratelimit")?.trim().to_owned(), ignored.join(" ")))
    }

    #[test]
    fn the_name_or_the_flag_say_so_and_what_is_unknown_is_passed_over() {
        for (line, kept, ignored) in [
            ("/bin/ratelimit", "", ""),
            ("ratelimit", "", ""),
            (
                "/bin/ratelimit --quotaRateLimitServiceAddr=a:1",
                "",
                "--quotaRateLimitServiceAddr=a:1",
            ),
            ("ratelimit -v 7 plan list", "", "-v 7 plan list"),
            (
                "ratelimit --rules /r --x --config=c --insecure y",
                "--rules /r --config=c --insecure",
                "--x y",
            ),
            ("ratelimit serve --as-ratelimit", "", ""),
            ("ratelimit --help", "--help", ""),
            ("tollgate --as-ratelimit --nonsense", "", "--nonsense"),
            ("tollgate serve --http-addr :1 --as-ratelimit", "--http-addr :1", ""),
        ] {
            assert_eq!(split(line), Some((kept.to_owned(), ignored.to_owned())), "{line}");
        }
        for line in [
            "tollgate",
            "tollgate serve",
            "tollgate plan list",
            "/ratelimit/tollgate",
            "ratelimit2",
        ] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
