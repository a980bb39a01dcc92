//! What packages and images use: `health`, `completions` and `man`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use tempfile::TempDir;
use tollgate::cli::Cli;

use super::Shell;
use crate::server::Tollgate;

#[test]
fn a_server_is_asked_whether_it_is_well() {
    let shell = Shell::start();
    assert_eq!(shell.ok("health"), "SERVING\n");
    assert_eq!(shell.json("health --service tollgate.v1.DecisionService")["status"], "SERVING");
    shell.refused("health --service no.such.Service", 4, "no.such.Service");

    let waits = Tollgate::start(&[], &[("TOLLGATE_HEALTH_NEEDS_RULES", "true")]);
    let ran = Shell::at(waits.grpc_addr()).run("health");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "NOT_SERVING\n"), "{ran:?}");
    assert_eq!(ran.stderr, "tollgate: the server does not serve\n");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Shell::at(nobody).refused("health", 1, "cannot be reached");
}

/// What a shell would offer for the last of these words.
fn completed_by_bash(script: &Path, words: &[&str]) -> Vec<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, before) = (words.len() - 1, words.len() - 2);
    let asked = format!(
        ". {}\nCOMP_WORDS=({}); COMP_CWORD={last}\n\
         _tollgate tollgate '{}' '{}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" "),
        words[last],
        words[before]
    );
    let ran = Command::new("bash").args(["--norc", "-c", &asked]).output().unwrap();
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    let shell = Shell::at(([127, 0, 0, 1], 1).into());
    let dir = TempDir::new().unwrap();
    let script = dir.path().join("tollgate.bash");
    fs::write(&script, shell.ok("completions bash")).unwrap();
    for (words, offered) in [
        (&["tollgate", "subs"][..], &["subscriber"][..]),
        (&["tollgate", "plan", "at"], &["attach"]),
        (&["tollgate", "serve", "--grpc"], &["--grpc-addr"]),
        (&["tollgate", "completions", "z"], &["zsh"]),
    ] {
        assert_eq!(completed_by_bash(&script, words), offered, "{words:?}");
    }
    for other in ["zsh", "fish", "elvish", "powershell"] {
        let script = shell.ok(&format!("completions {other}"));
        let missing: Vec<_> = Cli::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .filter(|name| !script.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "{other} is not told of {missing:?}");
    }
    let ran = shell.run("completions tcsh");
    assert!(ran.code == 2 && ran.stderr.contains("fish"), "{ran:?}");
}

/// The names of the pages of a command and of all below it.
fn pages(command: &clap::Command, above: &str, found: &mut Vec<String>) {
    let name = format!("{above}{}", command.get_name());
    for below in command.get_subcommands() {
        pages(below, &format!("{name}-"), found);
    }
    found.push(format!("{name}.1"));
}

#[test]
fn every_command_has_a_page_of_the_manual() {
    let shell = Shell::at(([127, 0, 0, 1], 1).into());
    let page = shell.ok("man");
    assert!(page.contains(".TH tollgate 1") && page.contains("tollgate\\-subscriber"), "{page}");

    let dir = TempDir::new().unwrap();
    let ran = shell.run_with(&["man", "--dir", dir.path().to_str().unwrap()], "");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", ""));
    let (mut wanted, mut made) = (Vec::new(), Vec::new());
    pages(&Cli::command(), "", &mut wanted);
    for entry in fs::read_dir(dir.path()).unwrap() {
        made.push(entry.unwrap().file_name().into_string().unwrap());
    }
    wanted.sort();
    made.sort();
    assert_eq!(made, wanted);
    let create = fs::read_to_string(dir.path().join("tollgate-plan-create.1")).unwrap();
    assert!(create.contains("\\-\\-quota") && create.contains("TOLLGATE_SERVER"), "{create}");

    let nowhere = dir.path().join("none");
    let ran = shell.run_with(&["man", "--dir", nowhere.to_str().unwrap()], "");
    assert!(ran.code == 1 && ran.stderr.contains(nowhere.to_str().unwrap()), "{ran:?}");
}
