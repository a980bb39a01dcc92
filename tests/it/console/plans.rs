//! What the clouds tell their users to do with plans, done in the console without script.

use super::{Visitor, filled, leads_to};
use crate::server::Tollgate;

const RATE: &str = "entitlements[0].rate_limit.requests_per_second";
const BURST: &str = "entitlements[0].rate_limit.burst";
const LIMIT: &str = "entitlements[0].quotas[0].limit";

/// Creates a plan with a rate, a burst and a daily quota.
fn create(visitor: &Visitor, name: &str) {
    let typed = [("display_name", name), (RATE, "20"), (BURST, "40"), (LIMIT, "1,000")];
    let answer = visitor.send("/console/plans/new", &typed);
    assert!(leads_to(&answer).starts_with("/console/plans/"), "{answer:?}");
}

#[test]
fn a_plan_is_created_edited_connected_and_deleted() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    assert!(visitor.page("/console/plans").contains("No plan yet"));
    create(&visitor, "Gold");
    let list = visitor.page("/console/plans");
    for text in ["href=\"/console/plans/gold\"", "20 / s, burst 40", "1,000 per day", "no stage"] {
        assert!(list.contains(text), "{text}: {list}");
    }

    // A quota more: without script the server adds the row.
    let page = visitor.page("/console/plans/gold/edit");
    let add = [("do", "add entitlements[0].quotas"), ("entitlements[0].quotas[0].unit", "DAY")];
    let grown = visitor.send_form(&page, "/console/plans/gold/edit", &add).text();
    let typed = [
        ("entitlements[0].quotas[1].limit", "20000"),
        ("entitlements[0].quotas[1].unit", "MONTH"),
        ("entitlements[0].quotas[1].on_breach", "ALLOW"),
    ];
    let saved = visitor.send_form(&grown, "/console/plans/gold/edit", &typed);
    assert_eq!(leads_to(&saved), "/console/plans/gold?done=saved");
    let shown = visitor.page("/console/plans/gold");
    for text in ["Per day", "Per month", "20,000 units, then allowed and counted on"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }

    let typed = [("target", "orders/prod")];
    let answer = visitor.send("/console/plans/gold/connect", &typed);
    assert_eq!(leads_to(&answer), "/console/plans/gold?done=connected");
    assert!(visitor.page("/console/plans/gold").contains("orders/prod"));
    let again = visitor.send("/console/plans/gold/connect", &[("target", "or ders")]);
    assert_eq!(again.status, 422);
    assert!(again.text().contains("must not hold"), "{}", again.text());
    let path = "/console/plans/gold/disconnect?target=orders%2Fprod";
    let answer = visitor.send_form(&visitor.page(path), "/console/plans/gold/disconnect", &[]);
    assert_eq!(leads_to(&answer), "/console/plans/gold?done=disconnected");

    let answer = visitor.send("/console/plans/gold/delete", &[]);
    assert_eq!(leads_to(&answer), "/console/plans?done=deleted");
    // The back button after that.
    for path in ["/console/plans/gold", "/console/plans/gold/edit", "/console/plans/gold/delete"] {
        let answer = visitor.get(path);
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("No plan of this id"), "{}", answer.text());
    }
}

#[test]
fn what_is_wrong_stands_beside_its_field_and_nothing_that_was_typed_is_lost() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    let typed = [
        ("display_name", "Bronze <b>&\"q\""),
        ("description", "for\nsmall shops"),
        (RATE, "twenty"),
        (BURST, "0,5"),
        (LIMIT, "9999999999999999999999"),
        ("entitlements[0].quotas[0].time_zone", "Asia/Atlantis"),
        ("entitlements[0].targets", "orders/prod\nor ders"),
    ];
    let answer = visitor.send("/console/plans/new", &typed);
    assert_eq!(answer.status, 422);
    let page = answer.text();
    for text in [
        "5 fields are wrong",
        "value=\"Bronze &lt;b&gt;&amp;&quot;q&quot;\"",
        "small shops</textarea>",
        "value=\"twenty\"",
        "value=\"0,5\"",
        "value=\"9999999999999999999999\"",
        "value=\"Asia/Atlantis\"",
        "or ders</textarea>",
        &format!("id=\"{RATE}-wrong\""),
        &format!("href=\"#{BURST}\""),
        &format!("href=\"#{LIMIT}\""),
        "href=\"#entitlements[0].targets\"",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(visitor.page("/console/plans").contains("No plan yet"), "nothing was saved");
    // What is mended is saved, by the very form that came back.
    let mended = [
        (RATE, "20"),
        (BURST, "40"),
        (LIMIT, "5"),
        ("entitlements[0].quotas[0].time_zone", "Asia/Seoul"),
        ("entitlements[0].targets", "orders/prod"),
    ];
    let saved = visitor.send_form(&page, "/console/plans/new", &mended);
    assert_eq!(leads_to(&saved), "/console/plans/bronze-b-q?done=created");
    assert!(visitor.page("/console/plans/bronze-b-q").contains("Bronze &lt;b&gt;&amp;"));
}

#[test]
fn a_form_that_is_sent_twice_is_done_once() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    let form = filled(&visitor.page("/console/plans/new"), &[("display_name", "Gold")]);
    let first = visitor.post("/console/plans/new", &form);
    let second = visitor.post("/console/plans/new", &form);
    assert_eq!(leads_to(&first), leads_to(&second));
    let list = visitor.page("/console/plans");
    assert_eq!(list.matches("href=\"/console/plans/gold\"").count(), 1);
    // The form of before with something else in it is not what was asked for first.
    let mut changed = form.clone();
    changed.push(("description".to_owned(), "else".to_owned()));
    changed.retain(|(name, text)| name != "description" || text == "else");
    let third = visitor.post("/console/plans/new", &changed);
    assert_eq!(third.status, 422);
    assert!(third.text().contains("was sent before"), "{}", third.text());
    // A second form of that name finds it taken, beside the id.
    let taken = visitor.send("/console/plans/new", &[("display_name", "Gold")]);
    assert_eq!(taken.status, 409);
    assert!(taken.text().contains("id=\"id-wrong\""), "{}", taken.text());
}

#[test]
fn two_who_edit_one_plan_both_see_what_the_other_wants() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    create(&visitor, "Gold");
    let address = "/console/plans/gold/edit";
    let (mine, theirs) = (visitor.page(address), visitor.page(address));
    let saved = visitor.send_form(&theirs, address, &[(RATE, "30"), ("description", "theirs")]);
    assert_eq!(saved.status, 303);
    let answer = visitor.send_form(&mine, address, &[(RATE, "50")]);
    assert_eq!(answer.status, 409);
    let both = answer.text();
    let differs = |text: &str| both.contains(&format!("<bdi>{text}</bdi>"));
    assert!(differs("50") && differs("30") && differs("theirs"), "{both}");
    assert!(!differs("40"), "the burst is the same: {both}");
    assert!(visitor.page("/console/plans/gold").contains("30 requests a second"));
    // Mine over it, after having seen it.
    let saved = visitor.send_form(&both, address, &[]);
    assert_eq!(leads_to(&saved), "/console/plans/gold?done=saved");
    assert!(visitor.page("/console/plans/gold").contains("50 requests a second"));
}

#[test]
fn a_plan_goes_into_a_file_and_comes_back_and_ocis_is_read_as_it_is() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    create(&visitor, "Gold");
    let exported = visitor.get("/console/plans/gold/export");
    assert_eq!(exported.header("content-type"), Some("application/json"));
    assert_eq!(exported.header("content-disposition"), Some("attachment; filename=\"gold.json\""));
    let other = exported.text().replace("\"gold\"", "\"silver\"").replace("\"Gold\"", "\"Silver\"");
    let seen = visitor.send("/console/plans/import", &[("text", &other)]);
    assert_eq!(seen.status, 200);
    assert!(seen.text().contains("not saved yet"), "{}", seen.text());
    assert_eq!(
        visitor.get("/console/plans/silver").status,
        404,
        "nothing is saved before it is seen"
    );
    let saved = visitor.send_form(&seen.text(), "/console/plans/new", &[]);
    assert_eq!(leads_to(&saved), "/console/plans/silver?done=created");
    // One that is there is put in its place, with the etag of what was seen.
    let seen = visitor.send("/console/plans/import", &[("text", &other.replace("20", "25"))]);
    assert!(seen.text().contains("saving puts this in its place"), "{}", seen.text());
    let saved = visitor.send_form(&seen.text(), "/console/plans/silver/edit", &[]);
    assert_eq!(leads_to(&saved), "/console/plans/silver?done=saved");
    assert!(visitor.page("/console/plans/silver").contains("25 requests a second"));

    let oci = r#"{"displayName": "Basic", "compartmentId": "ocid1", "entitlements": [{"name": "all",
        "rateLimit": {"value": 10, "unit": "SECOND"},
        "quota": {"value": 5000, "unit": "MONTH", "resetPolicy": "CALENDAR", "operationOnBreach": "REJECT"},
        "targets": [{"deploymentId": "ocid1.deployment"}]}]}"#;
    let seen = visitor.send("/console/plans/import", &[("text", oci)]).text();
    let saved = visitor.send_form(
        &seen,
        "/console/plans/new",
        &[("entitlements[0].targets", "ocid1.deployment")],
    );
    assert_eq!(leads_to(&saved), "/console/plans/basic?done=created");
    let shown = visitor.page("/console/plans/basic");
    assert!(shown.contains("5,000 units") && shown.contains("ocid1.deployment"), "{shown}");

    for wrong in ["", "{\"id\": ", "{\"id\": \"x\", \"colour\": 1}", "<script>alert(1)</script>"] {
        let answer = visitor.send("/console/plans/import", &[("text", wrong)]);
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
        assert!(!answer.text().contains("<script>alert"), "{}", answer.text());
    }
}

#[test]
fn a_list_is_searched_sorted_and_shown_in_pages() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    for number in 0..23 {
        let (name, id) = (format!("Plan {:02}", 99 - number), format!("p{number:02}"));
        let typed = [("display_name", name.as_str()), ("id", id.as_str())];
        assert_eq!(visitor.send("/console/plans/new", &typed).status, 303);
    }
    let first = visitor.page("/console/plans");
    assert!(first.contains("1 to 20 of 23") && first.contains("page=2"), "{first}");
    assert!(first.find("Plan 77").unwrap() < first.find("Plan 78").unwrap());
    let last = visitor.page("/console/plans?page=2");
    assert!(last.contains("21 to 23 of 23") && !last.contains("page=3"), "{last}");
    let by_id = visitor.page("/console/plans?sort=id&rows=50");
    assert!(by_id.find("p00<").unwrap() < by_id.find("p22<").unwrap());
    let found = visitor.page("/console/plans?q=PLAN+85");
    assert!(found.contains("Plan 85") && !found.contains("Plan 86"), "{found}");
    let nothing = visitor.page("/console/plans?q=%3Cscript%3E");
    assert!(nothing.contains("No plan is like that") && !nothing.contains("<script>"), "{nothing}");
}

#[test]
fn a_plan_whose_id_is_a_word_of_ours_has_its_page() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    for id in ["new", "import", "a/b:c"] {
        let answer = visitor.send("/console/plans/new", &[("display_name", "Odd"), ("id", id)]);
        let address = leads_to(&answer).split('?').next().unwrap().to_owned();
        let page = visitor.page(&address);
        assert!(page.contains("<h1><bdi>Odd</bdi>"), "{id}: {page}");
        assert!(visitor.page(&format!("{address}/edit")).contains(&format!("value=\"{id}\"")));
    }
}
