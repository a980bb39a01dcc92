//! The console attacked: each point of what it promises to withstand.

use std::process::Command;

use super::{Guarded, Visitor, filled, hidden, leads_to};
use crate::http::{get, post};
use crate::patience::until;
use crate::process::{Process, Stream};
use crate::server::Tollgate;

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn nobody_sees_a_page_without_signing_in_and_the_first_one_asked_for_comes_then() {
    let guarded = Guarded::start();
    let mut visitor = Visitor::of(&guarded.tollgate);
    for path in ["/console/", "/console/plans", "/console/plans/new", "/console/nothing"] {
        let answer = visitor.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.text().contains("Sign in") && !answer.text().contains("New plan"));
    }
    let asked = visitor.get("/console/plans?q=a").text();
    let mut fields = hidden(&asked);
    fields.push(("token".to_owned(), guarded.admin.clone()));
    let answer = visitor.post("/console/sign-in", &fields);
    assert_eq!(leads_to(&answer), "/console/plans?q=a");
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&guarded.admin));
    visitor.keep(&answer);
    assert!(visitor.page("/console/plans").contains("operations, may edit"));
    assert_eq!(visitor.get("/console/nothing").status, 404);
}

#[test]
fn who_may_read_sees_all_and_edits_nothing() {
    let guarded = Guarded::start();
    let admin = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    assert_eq!(admin.send("/console/plans/new", &[("display_name", "Gold")]).status, 303);
    let form = admin.page("/console/plans/gold/edit");
    let reader = Visitor::signed_in(&guarded.tollgate, &guarded.read);
    let page = reader.page("/console/plans/gold");
    assert!(page.contains("looker, may look"), "{page}");
    for button in ["Edit", "Delete", "Connect to", "Duplicate"] {
        assert!(!page.contains(&format!(">{button}")), "{button}: {page}");
    }
    assert!(reader.page("/console/plans").contains("Gold"));
    assert_eq!(reader.get("/console/plans/gold/export").status, 200);
    for path in ["new", "import", "gold/edit", "gold/delete", "gold/connect", "gold/disconnect"] {
        let path = format!("/console/plans/{path}");
        assert_eq!(reader.get(&path).status, 403, "{path}");
        // With a token of the reader's own session: the scope alone refuses.
        let mut fields = filled(&form, &[("description", "by a reader")]);
        fields.retain(|(name, _)| name != "csrf");
        fields.push(("csrf".to_owned(), sign_out_csrf(&page)));
        let answer = reader.post(&path, &fields);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("You may look"), "{path}: {}", answer.text());
    }
    assert!(!admin.page("/console/plans/gold").contains("by a reader"));
    // And `decide` does not even look.
    let mut gateway = Visitor::of(&guarded.tollgate);
    let refused = gateway.sign_in(&guarded.decide);
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("has neither the scope"), "{}", refused.text());
    assert_eq!(gateway.cookie, None);
}

/// The token of the form that signs out.
fn sign_out_csrf(page: &str) -> String {
    let form = page.split("action=\"/console/sign-out\"").nth(1).unwrap();
    form.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn a_form_without_the_token_of_the_session_edits_nothing() {
    let guarded = Guarded::start();
    let visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let other = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let form = filled(&visitor.page("/console/plans/new"), &[("display_name", "Gold")]);
    let csrf = form.iter().find(|(name, _)| name == "csrf").unwrap().1.clone();
    let with = |csrf: Option<&str>| -> Vec<(String, String)> {
        let others = form.iter().filter(|(name, _)| name != "csrf").cloned();
        others.chain(csrf.map(|csrf| ("csrf".to_owned(), csrf.to_owned()))).collect()
    };
    let foreign = hidden(&other.page("/console/plans/new"));
    let foreign = foreign.iter().find(|(name, _)| name == "csrf").unwrap().1.clone();
    assert_ne!(csrf, foreign);
    for wrong in [None, Some(""), Some("x"), Some(foreign.as_str()), csrf.get(1..)] {
        let answer = visitor.post("/console/plans/new", &with(wrong));
        assert_eq!(answer.status, 403, "{wrong:?}");
        // What was typed is kept, and nothing is done with it.
        assert!(answer.text().contains("value=\"Gold\""), "{}", answer.text());
        assert!(answer.text().contains("not saved yet"), "{}", answer.text());
    }
    assert!(visitor.page("/console/plans").contains("No plan yet"));
    assert_eq!(visitor.post("/console/plans/new", &with(Some(&csrf))).status, 303);
}

#[test]
fn pages_of_others_and_names_that_lead_here_are_refused() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    let form = filled(&visitor.page("/console/plans/new"), &[("display_name", "Gold")]);
    let body = super::encoded(&form);
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://test.evil.example"),
        ("origin", "http://test:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let request = post("/console/plans/new", &body).header("content-type", FORM);
        let answer = request.header(name, value).send(tollgate.http_addr()).unwrap();
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
    // A name of somebody's that leads here: it may neither read nor write.
    for path in ["/console/", "/console/plans", "/console/plans/new", "/console/sign-in"] {
        let request = get(path).header("host", "rebound.evil.example");
        assert_eq!(request.status(tollgate.http_addr()), 421, "{path}");
    }
    // Nor is a form read that a page could send as another type.
    for kind in ["text/plain", "application/json", ""] {
        let request = post("/console/plans/new", &body).header("content-type", kind);
        assert_eq!(request.status(tollgate.http_addr()), 400, "{kind}");
    }
    assert!(visitor.page("/console/plans").contains("No plan yet"));
}

#[test]
fn every_answer_forbids_frames_scripts_of_others_and_keeping() {
    let guarded = Guarded::start();
    let visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let page = visitor.page("/console/plans");
    let script = page.split("src=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let nobody = Visitor::of(&guarded.tollgate);
    let answers = [
        visitor.get("/console/plans"),
        visitor.get("/console/nothing"),
        visitor.get("/console/plans/gone"),
        nobody.get("/console/plans"),
        nobody.get("/console/sign-in"),
        nobody.get(&script),
    ];
    for answer in &answers {
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'self'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        let body = answer.text();
        // Nothing that the policy would stop, and nothing from elsewhere.
        for text in
            [" style=", "<style", " onclick", " onload", "javascript:", "src=\"http", "href=\"http"]
        {
            assert!(!body.contains(text), "{text}: {body}");
        }
    }
    for answer in &answers[..5] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert!(answers[5].header("cache-control").unwrap().contains("immutable"));
    assert_eq!(answers[5].status, 200);
}

#[test]
fn what_users_typed_is_text_and_nothing_else() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    let long = "ab".repeat(128);
    for (number, name) in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></textarea><script>",
        "\u{202e}drow\u{202c} \u{2066}x",
        "🦀 größe 数字",
        "{{7*7}} ${7*7}",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("odd-{number}");
        let typed = [
            ("display_name", name),
            ("id", &id),
            ("description", name),
            ("labels", &format!("a={name}")),
        ];
        let answer = visitor.send("/console/plans/new", &typed);
        assert_eq!(answer.status, 303, "{name}: {}", answer.text());
        for path in [
            "/console/plans?rows=100".to_owned(),
            format!("/console/plans/{id}"),
            format!("/console/plans/{id}/edit"),
            format!("/console/plans/{id}/delete"),
            format!("/console/plans/{id}/connect?q=%3Cscript%3E%22"),
            format!("/console/plans/{id}/disconnect?target=%3Cscript%3E%22"),
            format!("/console/plans/new?from={id}"),
        ] {
            let page = visitor.page(&path);
            for tag in ["<script>", "<img", "onerror=alert(1)>", "' onmouseover='alert(1)'"] {
                assert!(!page.contains(tag), "{path}: {tag}");
            }
            if !path.contains("rows") {
                let escaped = name
                    .replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;")
                    .replace('"', "&quot;");
                assert!(page.contains(&escaped), "{path}: {escaped}");
            }
        }
    }
}

#[test]
fn a_session_ends_by_signing_out_and_when_its_token_goes() {
    let guarded = Guarded::start();
    let visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let stays = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let page = visitor.page("/console/plans");
    let csrf = ("csrf".to_owned(), sign_out_csrf(&page));
    assert_eq!(visitor.post("/console/sign-out", &[]).status, 403, "only by a form of ours");
    assert_eq!(visitor.get("/console/sign-out").status, 404);
    let left = visitor.post("/console/sign-out", &[csrf]);
    assert_eq!(leads_to(&left), "/console/sign-in");
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(
        visitor.get("/console/plans").status,
        401,
        "the cookie of before is good for nothing"
    );
    assert_eq!(stays.get("/console/plans").status, 200);
    let reader = Visitor::signed_in(&guarded.tollgate, &guarded.read);
    let csrf = ("csrf".to_owned(), sign_out_csrf(&reader.page("/console/plans")));
    assert_eq!(
        reader.post("/console/sign-out", &[csrf]).status,
        303,
        "who may only read leaves too"
    );

    guarded.forget("operations");
    let over = || (stays.get("/console/plans").status == 401).then_some(());
    until("the end of the session", over);
    let made_up = Visitor { cookie: Some("tollgate-session=made-up".to_owned()), ..stays };
    assert_eq!(made_up.get("/console/plans").status, 401);
}

#[test]
fn a_form_of_a_session_that_ended_is_there_after_signing_in_again() {
    let guarded = Guarded::start();
    let mut visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    let page = visitor.page("/console/plans/new");
    let csrf = ("csrf".to_owned(), sign_out_csrf(&page));
    assert_eq!(visitor.post("/console/sign-out", &[csrf]).status, 303);
    let typed = [("display_name", "Gold & more"), ("entitlements[0].quotas[0].limit", "77")];
    let ended = visitor.send_form(&page, "/console/plans/new", &typed);
    assert_eq!(ended.status, 401);
    assert!(ended.text().contains("What you typed is kept"), "{}", ended.text());
    // A mistyped token does not lose it.
    let again = visitor.send_form(&ended.text(), "/console/sign-in", &[("token", "tgt_wrong")]);
    assert_eq!(again.status, 401);
    let signed = visitor.send_form(&again.text(), "/console/sign-in", &[("token", &guarded.admin)]);
    assert_eq!(signed.status, 200, "{}", signed.text());
    visitor.keep(&signed);
    let form = visitor.send_form(&signed.text(), "/console/plans/new", &[("do", "again")]);
    assert_eq!(form.status, 200, "{}", form.text());
    assert!(
        form.text().contains("value=\"Gold &amp; more\"") && form.text().contains("value=\"77\"")
    );
    assert!(visitor.page("/console/plans").contains("No plan yet"), "nothing is saved by that");
    let saved = visitor.send_form(&form.text(), "/console/plans/new", &[]);
    assert_eq!(leads_to(&saved), "/console/plans/gold-more?done=created");
}

#[test]
fn leading_back_to_a_form_edits_nothing_wherever_it_leads() {
    let guarded = Guarded::start();
    let visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    assert_eq!(visitor.send("/console/plans/new", &[("display_name", "Gold")]).status, 303);
    assert_eq!(visitor.send("/console/targets/new", &[("id", "zebra")]).status, 303);
    for path in ["plans/gold/delete", "plans/gold/connect", "plans/gold/disconnect"]
        .into_iter()
        .chain(["targets/zebra/delete", "targets/zebra/connect"])
    {
        let path = format!("/console/{path}");
        let asked = visitor.page(&path);
        // What the page asks, as it would be sent, but for the button.
        let fields = [("do", "again"), ("force", "1"), ("target", "zebra"), ("plan", "gold")];
        let back = visitor.send_form(&asked, &path, &fields);
        assert_eq!((back.status, leads_to(&back)), (303, path.as_str()), "{}", back.text());
    }
    assert_eq!(visitor.get("/console/plans/gold").status, 200);
    assert_eq!(visitor.get("/console/targets/zebra").status, 200);
    assert!(!visitor.page("/console/plans/gold").contains("zebra"), "nothing is connected");
}

#[test]
fn what_is_sent_without_a_session_is_sent_back_up_to_a_size() {
    let guarded = Guarded::start();
    let visitor = Visitor::of(&guarded.tollgate);
    for (bytes, kept) in [(60_000, true), (3_000_000, false)] {
        let text = "x".repeat(bytes);
        let fields = [("description".to_owned(), text)];
        let answer = visitor.post("/console/plans/new", &fields);
        assert_eq!(answer.status, 401);
        assert_eq!(answer.text().contains("What you typed is kept"), kept);
        assert_eq!(answer.text().len() > bytes, kept, "{}", answer.text().len());
    }
}

#[test]
fn tokens_are_not_tried_at_the_speed_of_the_network() {
    let guarded = Guarded::start();
    let mut visitor = Visitor::of(&guarded.tollgate);
    for _ in 0..10 {
        assert_eq!(visitor.sign_in("tgt_guess").status, 401);
    }
    let held = visitor.sign_in("tgt_guess");
    assert_eq!(held.status, 429);
    let wait_s: u64 = held.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    assert_eq!(visitor.sign_in(&guarded.admin).status, 429, "a right one waits as well");
    let metrics = get("/metrics").send(guarded.tollgate.http_addr()).unwrap().text();
    for line in ["{result=\"failed\"} 10", "{result=\"held_back\"} 2", "{result=\"ok\"} 0"] {
        assert!(metrics.contains(&format!("tollgate_console_sign_ins{line}")), "{line}: {metrics}");
    }
}

#[test]
fn no_token_is_in_a_page_an_address_or_the_log() {
    let guarded = Guarded::start();
    let mut visitor = Visitor::of(&guarded.tollgate);
    let wrong = visitor.sign_in("tgt_a-secret-that-is-wrong");
    assert!(!wrong.text().contains("a-secret-that-is-wrong"));
    let signed = visitor.sign_in(&guarded.admin);
    let mut seen = format!("{:?}", signed.headers);
    for path in ["/console/plans", "/console/plans/new", "/console/sign-in"] {
        seen += &visitor.get(path).text();
    }
    seen += &guarded.tollgate.log();
    for secret in [&guarded.admin, "a-secret-that-is-wrong"] {
        assert!(!seen.contains(secret));
    }
    let word = visitor.cookie.clone().unwrap();
    assert!(!guarded.tollgate.log().contains(word.split_once('=').unwrap().1));
    assert!(guarded.tollgate.log().contains("signed in to the console"), "and it is told who did");
}

#[test]
fn without_tokens_it_is_for_this_machine_alone_and_it_can_be_switched_off() {
    let open = Tollgate::start(&[], &[("TOLLGATE_CONSOLE_ENABLED", "false")]);
    assert_eq!(get("/console/").status(open.http_addr()), 404);
    // A proxy on this machine lets others in.
    let tollgate = Tollgate::start(&[], &[]);
    let name = tollgate.http_addr();
    assert_eq!(get("/console/plans").status(name), 200);
    for (header, value) in
        [("x-forwarded-for", "203.0.113.7"), ("via", "1.1 proxy"), ("forwarded", "for=203.0.113.7")]
    {
        for path in ["/console/plans", "/console/sign-in"] {
            let answer = get(path).header(header, value).send(name).unwrap();
            assert_eq!(answer.status, 403, "{header}: {path}");
        }
        let sent = post("/console/plans/new", "display_name=Gold").header("content-type", FORM);
        assert_eq!(sent.header(header, value).status(name), 403, "{header}");
    }
    // Where other machines can reach it and nobody is asked who they are, it says what to do.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "0.0.0.0:0"]);
    let mut everywhere = Process::spawn("tollgate", command.args(["--data-dir", ":memory:"]));
    let port: u16 = everywhere.wait_for("its ready line", |stream, line| {
        let (_, http) = line.split_once(" http=0.0.0.0:")?;
        if stream == Stream::Stdout { http.trim().parse().ok() } else { None }
    });
    for path in ["/console/", "/console/plans", "/console/plans/new", "/console/sign-in"] {
        let answer = get(path).send(([127, 0, 0, 1], port).into()).unwrap();
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("auth.tokens_file"), "{}", answer.text());
    }
    let answer = post("/console/plans/new", "display_name=Gold")
        .header("content-type", FORM)
        .send(([127, 0, 0, 1], port).into())
        .unwrap();
    assert_eq!(answer.status, 403);
}

#[test]
fn an_edit_names_who_made_it_in_the_log() {
    let guarded = Guarded::start();
    let visitor = Visitor::signed_in(&guarded.tollgate, &guarded.admin);
    assert_eq!(visitor.send("/console/plans/new", &[("display_name", "Gold")]).status, 303);
    let log = guarded.tollgate.log();
    let line = log.lines().find(|line| line.contains("edited: plan `gold`"));
    assert!(line.is_some_and(|line| line.contains("operations")), "{log}");
}
