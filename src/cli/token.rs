//! `tollgate token`: tokens for those who call the server. It needs no server: the operator puts
//! the line into the tokens file.

use super::Failure;
use super::client::output::{print, print_beside};
use crate::access::{Scope, Token, check};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a token. It is printed to standard output, once; the line with its hash, for the
    /// server's `auth.tokens_file`, goes to standard error.
    Create {
        /// Who will have it
        id: String,
        /// What it is good for
        #[arg(long = "scope", required = true, value_enum, value_delimiter = ',')]
        scopes: Vec<Scope>,
    },
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    let Command::Create { id, scopes } = command;
    let token = Token::new().map_err(|error| {
        Failure::failed(format!("the operating system gave no random bytes: {error}"))
    })?;
    let line = line(&id, &scopes, &token)?;
    print(&format!("{}\n", token.reveal()))?;
    print_beside(&line)
}

/// An item of the list `tokens`.
fn line(id: &str, scopes: &[Scope], token: &Token) -> Result<String, Failure> {
    let named = Scope::ALL
        .into_iter()
        .filter(|scope| scopes.contains(scope))
        .map(Scope::name)
        .collect::<Vec<_>>()
        .join(", ");
    let line = format!("- {{id: {id}, hash: \"{}\", scopes: [{named}]}}\n", token.hash());
    // What would be refused there is refused here.
    match check(&format!("tokens:\n{line}")) {
        Ok(()) => Ok(line),
        Err(_) => Err(Failure::unusable(
            "ID must be 1 to 64 letters, digits, `.`, `-` and `_`, such as gateway-1",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_scopes_once_and_an_id_that_would_be_refused_is() {
        let token = Token::new().unwrap();
        let made = line("gw-1", &[Scope::Report, Scope::Decide, Scope::Report], &token).unwrap();
        assert_eq!(
            made,
            format!("- {{id: gw-1, hash: \"{}\", scopes: [decide, report]}}\n", token.hash())
        );
        for id in ["", "a b", "a, hash: b", "\"a", "a}", token.reveal()] {
            assert!(line(id, &[Scope::Read], &token).is_err(), "{id}");
        }
    }
}
