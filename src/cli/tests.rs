use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

/// Words separated by blanks; `_` stands for a blank inside a word.
fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("tollgate".to_owned())
        .chain(line.split_whitespace().map(|word| word.replace('_', " ")));
    Cli::try_parse_from(super::leading::behind(words.map(Into::into).collect(), &Cli::command()))
}

#[test]
fn the_commands_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn help_lists_the_exit_codes_everywhere() {
    for line in ["--help", "plan --help", "check --help", "apply --help"] {
        let help = parse(line).unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp, "{line}");
        assert!(help.to_string().contains("  5  conflict"), "{line}");
    }
}

#[test]
fn every_command_of_the_contract_is_there() {
    for line in [
        "",
        "serve",
        "--grpc-addr 127.0.0.1:0",
        "plan create gold --display-name Gold --target a --rate 20 --burst 40 --quota daily=100/day:allow",
        "plan create --from-json -",
        "plan create gold --from-json gold.json",
        "plan get gold",
        "plan list",
        "plan list --filter target=a --order-by update_time_desc --page-size 5 --page-token t",
        "plan update gold --no-rate --no-quotas --no-labels --etag e --request-id r --validate-only",
        "plan delete gold --force --etag e",
        "plan attach gold orders/prod --entitlement e --etag e",
        "plan detach gold orders/prod",
        "target create orders/prod --rate 5000 --burst 5000 --open GET_/health --method-rate GET_/a=5,10 --default-plan free",
        "target get a",
        "target list",
        "target update a --no-rate --no-open --no-method-rates --no-default-plan",
        "target delete a",
        "target attach a gold --entitlement e",
        "target detach a gold",
        "target set-default-plan a free",
        "target set-default-plan a --none",
        "subscriber create acme --plan gold --plan free",
        "subscriber get acme",
        "subscriber list",
        "subscriber update acme --no-plans",
        "subscriber delete acme",
        "key create --subscriber acme",
        "key create acme-1 --subscriber acme --disabled --expires 2027-01-01T00:00:00Z --not-before 2026-01-01T00:00:00Z",
        "key import acme-2 --subscriber acme --value v",
        "key import --subscriber acme --value-file -",
        "key import --subscriber acme --value -v",
        "check --key -v --target a --token -t",
        "report --receipt -r --status 200",
        "plan list --page-token -t",
        "key get acme-1",
        "key list --filter subscriber=acme",
        "key update acme-1 --no-expiry --no-not-before",
        "key enable acme-1",
        "key disable acme-1 --etag e",
        "key delete acme-1",
        "apply -f a.yaml -f b.yaml",
        "apply -f a.yaml b.yaml --prune --dry-run",
        "apply -f -",
        "usage",
        "usage --subscriber acme --from 2026-11-01 --to 2026-11-30",
        "usage --key k",
        "usage --plan gold",
        "grant --subscriber acme --plan gold --entitlement e --quota daily --add 10",
        "grant --key k --plan gold --entitlement e --quota daily --set-remaining 0",
        "grant --key k --plan gold --entitlement e --quota daily --reset --request-id r",
        "check --target a",
        "check --key v --target a --method GET --path /x --cost 0 --operation-id o",
        "check --key-file - --target a",
        "report --receipt r --status 503",
        "report --receipt r --grpc-status 14 --cost 3",
        "report --receipt r --no-response",
        "report --receipt r --caller-gone --made-by-gateway",
        "plan --server h:1 --token t --output json --timeout-ms 5 list",
        "plan list --server h:1 --token t --output json --timeout-ms 5",
        "usage --server h:1 --tls-ca ca.pem --tls-cert c.pem --tls-key k.pem",
        "--server h:1 --token t plan list",
        "--output json usage --all",
        "--data-dir d ledger check",
        "key create --subscriber acme --expires 24h --not-before 1h",
        "apply -f a.yaml --prune --prune-all",
        "rules check .",
        "ledger check",
        "ledger check --file copy.sqlite",
        "ledger backup copy.sqlite --data-dir d --config c.yaml",
        "load rls",
        "load rls --keys 10000 --skew 1.1 --connections 64 --in-flight 16 --threads 2 --domain d --descriptor a=1,b --descriptor b",
        "load check --prepare --quotas 0 --rate 4000 --duration 60s --warm-up 500ms --deadline-ms 20",
        "load check --api-key -v --target a --requests 1000 --server h:1 --token t --output json",
        "load stream --keys-file - --batch 128",
        "load report --errors 0.3",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_contradicts_itself_or_lacks_a_part_is_refused() {
    for line in [
        "plan",
        "plan get",
        "plan create gold --rate fast",
        "plan create gold --rate 5 --no-rate",
        "plan create gold --quota daily=100",
        "plan create gold --label x",
        "plan list --page-size 0",
        "plan list --output yaml",
        "plan list --timeout-ms 0",
        "plan list --tls-cert c.pem",
        "plan list --tls-ca ca.pem --tls-cert c.pem",
        "plan attach gold",
        "target create a --burst 5",
        "target create a --open /health",
        "target set-default-plan a",
        "target set-default-plan a free --none",
        "subscriber update acme --plan gold --no-plans",
        "key create",
        "key import --subscriber acme",
        "key import --subscriber acme --value v --value-file f",
        "key create --subscriber acme --expires tomorrow",
        "apply",
        "apply a.yaml",
        "apply -f a.yaml --prune-all",
        "--data-dir d plan list",
        "key create --subscriber acme --expires 0h",
        "usage --subscriber a --key b",
        "grant --subscriber a --plan p --entitlement e --quota q",
        "grant --subscriber a --plan p --entitlement e --quota q --add 1 --reset",
        "grant --plan p --entitlement e --quota q --add 1",
        "grant --subscriber a --plan p --entitlement e --quota q --add -1",
        "check --key v",
        "check --key v --key-file f --target a",
        "check --key v --target a --cost -1",
        "report --receipt r",
        "report --status 200",
        "report --receipt r --status 200 --no-response",
        "report --receipt r --status 600",
        "report --receipt r --status 99",
        "report --receipt r --grpc-status 17",
        "ledger",
        "ledger backup",
        "load",
        "load fast",
        "load rls --connections 0",
        "load rls --requests 0",
        "load rls --duration 10",
        "load rls --descriptor =1",
        "load check --api-key v --keys-file f",
        "load check --api-key v --prepare",
        "load report --errors 2",
        "load stream --batch 0",
        "ledger check --file copy.sqlite --data-dir d",
        "--grpc-addr 127.0.0.1:0 plan list",
    ] {
        match parse(line) {
            Ok(cli) => panic!("{line}: {cli:?}"),
            Err(error) => assert_eq!(error.exit_code(), i32::from(super::UNUSABLE), "{line}"),
        }
    }
}
