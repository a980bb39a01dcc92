use std::collections::HashMap;
use std::io::Write;

use super::*;

fn resolve(
    flags: &[(&'static str, &str)],
    file: Option<&str>,
    env: &[(&str, &str)],
) -> Result<Config, Vec<String>> {
    let env: HashMap<&str, &str> = env.iter().copied().collect();
    let mut kept = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    kept.write_all(file.unwrap_or_default().as_bytes()).unwrap();
    let flags = Flags {
        file: file.map(|_| kept.path().to_owned()),
        settings: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
        as_ratelimit: false,
    };
    let name = kept.path().display().to_string();
    Config::resolve(&flags, &|name| env.get(name).map(|value| (*value).to_owned())).map_err(
        |mistakes| mistakes.0.into_iter().map(|mistake| mistake.replace(&name, "FILE")).collect(),
    )
}

#[test]
fn the_defaults_stand_alone() {
    let config = resolve(&[], None, &[]).unwrap();
    assert_eq!(config.reach.grpc_addr, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(config.reach.http_addr, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.data_dir, DataDir::Path("./tollgate-data".into()));
    assert_eq!(
        (config.reach.metrics_addr, config.reach.tls, config.rate_limit.headers),
        (None, None, None)
    );
    assert!(config.rules.paths.is_empty());
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let file = "engine: {max_counters: 1}\nrules: [a.yaml, b]\n";
    let count = |flags: &[(&'static str, &str)], env: &[(&str, &str)]| {
        resolve(flags, Some(file), env).unwrap().max_counters
    };
    assert_eq!(count(&[], &[]), 1);
    assert_eq!(count(&[], &[("TOLLGATE_ENGINE_MAX_COUNTERS", "2")]), 2);
    assert_eq!(count(&[("engine.max_counters", "3")], &[("TOLLGATE_ENGINE_MAX_COUNTERS", "2")]), 3);
    assert_eq!(
        resolve(&[], Some(file), &[]).unwrap().rules.paths,
        ["a.yaml", "b"].map(PathBuf::from)
    );
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_origin() {
    let mistakes = resolve(
        &[("grpc_addr", "nowhere")],
        Some("drain_timeout_ms: soon\ngrpc: {max_entries: 0, max_size: 3}\ntls: {cert: a.pem}"),
        &[
            ("TOLLGATE_RATE_LIMIT_NEAR_LIMIT_RATIO", "1.5"),
            ("SHADOW_MODE", "maybe"),
            ("LOG_FORMAT", "xml"),
        ],
    )
    .unwrap_err();
    insta::assert_snapshot!(mistakes.join("\n"), @"
    FILE: there is no setting `grpc.max_size`; `tollgate settings` lists them all
    tls.cert and tls.key are needed together, also where tls.client_ca is set
    --grpc-addr: grpc_addr must be an address and a port, such as 127.0.0.1:8081, [::1]:8081 or :8081, not `nowhere`
    FILE: drain_timeout_ms must be a whole number from 0 to 3600000, not `soon`
    LOG_FORMAT: log_format must be `text` or `json`, not `xml`
    SHADOW_MODE: rate_limit.shadow_mode must be true or false, not `maybe`
    TOLLGATE_RATE_LIMIT_NEAR_LIMIT_RATIO: rate_limit.near_limit_ratio must be a number from 0 to 1, not `1.5`
    FILE: grpc.max_entries must be a whole number from 1 to 1000000, not `0`
    ");
}

#[test]
fn a_setting_that_is_gone_is_refused_with_the_reason() {
    let mistakes = resolve(&[], Some("grpc: {max_unread_ms: 250}"), &[]).unwrap_err();
    insta::assert_snapshot!(mistakes.join("\n"), @"FILE: the setting `grpc.max_unread_ms` is gone; take it out (connections are not closed under load any more: decisions that would wait longer than grpc.max_lag_ms are refused, and that is all)");
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let missing = Flags { file: Some("no/such.yaml".into()), settings: vec![], ..Flags::default() };
    let mistakes = Config::resolve(&missing, &|_| None).unwrap_err();
    assert!(mistakes.0[0].starts_with("no/such.yaml: cannot be read:"), "{mistakes}");
    assert!(
        resolve(&[], Some("a: [1, {b: 2}]"), &[]).unwrap_err()[0]
            .starts_with("FILE: a must be a list of texts")
    );
    assert_eq!(resolve(&[], Some("\t- :"), &[]).unwrap_err().len(), 1);
}

#[test]
fn the_names_of_the_reference_are_understood() {
    let config = resolve(
        &[],
        None,
        &[
            ("RUNTIME_ROOT", "/data"),
            ("RUNTIME_SUBDIRECTORY", "ratelimit"),
            ("RUNTIME_IGNOREDOTFILES", "false"),
            ("HOST", "0.0.0.0"),
            ("PORT", "18080"),
            ("GRPC_PORT", "18081"),
            ("LOG_LEVEL", "WARNING"),
            ("LOG_FORMAT", "json"),
            ("SHADOW_MODE", "1"),
            ("QUOTA_MODE", "TRUE"),
            ("NEAR_LIMIT_RATIO", "0.5"),
            ("MERGE_DOMAIN_CONFIG", "true"),
            ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
            ("LIMIT_LIMIT_HEADER", "X-Limit"),
            ("RESPONSE_DYNAMIC_METADATA", "t"),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", ":19001"),
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", "c.pem"),
            ("GRPC_SERVER_TLS_KEY", "k.pem"),
            ("GRPC_CLIENT_TLS_CACERT", "ca.pem"),
        ],
    )
    .unwrap();
    assert_eq!(
        (config.rules.paths, config.rules.prefix),
        (vec![PathBuf::from("/data/ratelimit")], "config.".to_owned())
    );
    assert!(
        config.rules.any_extension && !config.rules.ignore_dotfiles && config.rules.merge_domains
    );
    assert_eq!(config.reach.http_addr, "[::]:18080".parse().unwrap());
    assert_eq!(config.reach.grpc_addr, "127.0.0.1:18081".parse().unwrap());
    assert_eq!((config.log_level.as_str(), config.log_format), ("warn", LogFormat::Json));
    assert!(
        config.rate_limit.shadow_mode
            && config.rate_limit.quota_mode
            && config.rate_limit.dynamic_metadata
    );
    assert_eq!(config.rate_limit.headers.unwrap().limit, "X-Limit");
    assert_eq!(config.reach.metrics_addr, Some("[::]:19001".parse().unwrap()));
    let tls = Tls {
        cert: "c.pem".into(),
        key: "k.pem".into(),
        client_ca: Some("ca.pem".into()),
        client_san: None,
        client_certificates_optional: false,
        http: false,
    };
    assert_eq!(config.reach.tls, Some(tls));
}

#[test]
fn tls_by_the_names_of_the_reference_needs_both_files() {
    let mistakes =
        resolve(&[], None, &[("GRPC_SERVER_USE_TLS", "true"), ("GRPC_SERVER_TLS_CERT", "c.pem")])
            .unwrap_err();
    assert_eq!(mistakes[0], "GRPC_SERVER_USE_TLS is set, so GRPC_SERVER_TLS_KEY is needed");
}

#[test]
fn usage_plans_are_not_served_to_the_network_unless_callers_are_asked_or_it_is_said_to_be_meant() {
    let refused = |flags: &[(&'static str, &str)]| resolve(flags, None, &[]).map(drop).unwrap_err();
    for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
        let mistakes = refused(&[("grpc_addr", address)]);
        assert!(
            mistakes.len() == 1 && mistakes[0].starts_with(&format!("grpc_addr {address} would")),
            "{mistakes:?}"
        );
        assert!(
            mistakes[0].contains("--insecure")
                && mistakes[0].contains("admin_grpc_addr to a loopback"),
            "{mistakes:?}"
        );
        let mistakes = refused(&[("admin_grpc_addr", address)]);
        assert!(
            mistakes.len() == 1
                && mistakes[0].starts_with(&format!("admin_grpc_addr {address} would")),
            "{mistakes:?}"
        );
    }
    // A certificate of the server's own says nothing of who calls.
    assert_eq!(
        refused(&[("grpc_addr", "0.0.0.0:1"), ("tls.cert", "c"), ("tls.key", "k")]).len(),
        1
    );
    let tls = [("tls.cert", "c"), ("tls.key", "k"), ("tls.client_ca", "a")];
    type Case<'a> = (&'a [(&'static str, &'a str)], &'a [&'a str]);
    let allowed: [Case<'_>; 9] = [
        (&[("grpc_addr", "127.9.9.9:1"), ("http_addr", "[::1]:1")], &[]),
        (&[("http_addr", "0.0.0.0:1")], &["http_addr 0.0.0.0:1: everyone"]),
        (
            &[("grpc_addr", "0.0.0.0:1"), ("insecure", "true")],
            &["may edit plans", "grpc_addr 0.0.0.0:1: everyone who can reach it may ask"],
        ),
        (
            &[("grpc_addr", "0.0.0.0:1"), ("admin_grpc_addr", "localhost:2")],
            &["grpc_addr 0.0.0.0:1: everyone who can reach it may ask"],
        ),
        (
            &[("grpc_addr", "0.0.0.0:1"), ("auth.tokens_file", "t")],
            &["grpc_addr 0.0.0.0:1: tokens cross the network in the clear"],
        ),
        (&[("grpc_addr", "0.0.0.0:1"), tls[0], tls[1], tls[2]], &[]),
        (&[("grpc_addr", "0.0.0.0:1"), ("auth.tokens_file", "t"), tls[0], tls[1]], &[]),
        (
            &[("admin_grpc_addr", "0.0.0.0:1"), ("http_addr", "[::]:2"), ("auth.tokens_file", "t")],
            &["admin_grpc_addr 0.0.0.0:1: tokens cross", "http_addr [::]:2: tokens cross"],
        ),
        (&[("http_addr", "0.0.0.0:1"), ("tls.http", "true"), tls[0], tls[1], tls[2]], &[]),
    ];
    for (flags, warned) in allowed {
        let warnings = resolve(flags, None, &[]).unwrap().reach.warnings();
        assert_eq!(warnings.len(), warned.len(), "{flags:?}: {warnings:?}");
        for (warning, said) in warnings.iter().zip(warned) {
            assert!(warning.contains(said), "{flags:?}: {warning}");
        }
    }
}

#[test]
fn mistakes_about_who_may_call_are_said_with_the_others() {
    let file = "tls: {http: true, client_certificates: optional}\nmystery: 1";
    let mistakes = resolve(&[("grpc_addr", "0.0.0.0:1"), ("insecure", "perhaps")], Some(file), &[])
        .unwrap_err();
    let starts = [
        "FILE: there is no setting `mystery`",
        "tls.client_certificates: optional needs tls.client_ca",
        "tls.http needs tls.cert and tls.key",
        "--insecure: insecure must be true or false",
        "grpc_addr 0.0.0.0:1 would let everyone",
    ];
    assert_eq!(mistakes.len(), starts.len(), "{mistakes:?}");
    for (mistake, start) in mistakes.iter().zip(starts) {
        assert!(mistake.starts_with(start), "{mistake}");
    }
}

#[test]
fn statistics_are_kept_from_a_day_to_a_hundred_years() {
    let days = |text: &str| {
        resolve(&[("usage.retention_days", text)], None, &[])
            .map(|config| config.plans.usage_days)
            .ok()
    };
    assert_eq!(["0", "1", "36500", "36501"].map(days), [None, Some(1), Some(36_500), None]);
    assert_eq!(resolve(&[], None, &[]).unwrap().plans.usage_days, 400);
}

#[test]
fn a_log_level_is_a_level_or_a_filter_and_never_a_word_that_mutes() {
    for (level, good) in [
        ("info", true),
        ("WARN", true),
        ("off", true),
        ("info,tollgate::grpc=debug", true),
        ("warn,tollgate=trace", true),
        ("tollgate[call]=debug", true),
        ("loud", false),
        ("inof", false),
        ("verbose,info", false),
        ("info,", false),
        ("", false),
        ("tollgate=loud", false),
    ] {
        assert_eq!(resolve(&[("log_level", level)], None, &[]).is_ok(), good, "{level}");
        if !level.is_empty() {
            assert_eq!(
                resolve(&[], Some(&format!("log_level: \"{level}\"")), &[]).is_ok(),
                good,
                "{level} in a file"
            );
        }
    }
}

#[test]
fn a_name_of_the_environment_that_is_no_setting_is_one_mistake_beside_the_others() {
    let environment = [
        ("TOLLGATE_GRCP_ADDR", "x"),
        ("TOLLGATE_LOG_LEVEL", "loud"),
        ("PATH", "/bin"),
        ("TOLLGATE_PORT", "tcp://10.0.0.1:1"),
    ];
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mistakes = Config::resolve_in(&Flags::default(), &environment).unwrap_err();
    insta::assert_snapshot!(mistakes, @"
    the settings cannot be used:
      TOLLGATE_GRCP_ADDR: there is no such setting, did you mean `TOLLGATE_GRPC_ADDR`; `tollgate settings` lists them all
      TOLLGATE_LOG_LEVEL: log_level must be one of off, error, warn, info, debug, trace, or a filter such as `info,tollgate::grpc=debug`, not `loud`
    ");
    assert!(Config::resolve_in(&Flags::default(), &environment[2..]).is_ok());
    assert!(
        resolve(&[], Some("grpc: {max_streems: 1}"), &[]).unwrap_err()[0]
            .contains("did you mean `grpc.max_streams`")
    );
}
