//! Targets in the console, without script.

use super::{Visitor, leads_to};
use crate::server::Tollgate;

#[test]
fn a_target_is_created_limited_connected_from_its_side_and_deleted() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    assert!(visitor.page("/console/targets").contains("No target yet"));
    let typed = [("id", "orders/prod"), ("rate_limit.requests_per_second", "0.5")];
    let made = visitor.send("/console/targets/new", &typed);
    let address = "/console/targets/orders%2Fprod";
    assert_eq!(leads_to(&made), format!("{address}?done=created"));
    assert!(visitor.page(address).contains("No plan opens it."));
    let list = visitor.page("/console/targets");
    assert!(list.contains("0.5 / s, burst 1") && list.contains("no plan opens it"), "{list}");

    // An open method: the server adds its row.
    let edit = format!("{address}/edit");
    let grown = visitor.send_form(&visitor.page(&edit), &edit, &[("do", "add open_methods")]);
    let typed = [("open_methods[0].method", "get"), ("open_methods[0].path", "health")];
    let wrong = visitor.send_form(&grown.text(), &edit, &typed);
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("id=\"open_methods[0].path-wrong\""), "{}", wrong.text());
    let mended = [("open_methods[0].path", "/health"), ("description", "ours")];
    let saved = visitor.send_form(&wrong.text(), &edit, &mended);
    assert_eq!(leads_to(&saved), format!("{address}?done=saved"));
    assert!(visitor.page(address).contains("GET /health"));

    let gold = [("display_name", "Gold"), ("entitlements[0].quotas[0].limit", "10")];
    assert_eq!(visitor.send("/console/plans/new", &gold).status, 303);
    let connect = format!("{address}/connect");
    assert!(visitor.page(&connect).contains("value=\"gold default\""));
    let nothing = visitor.send(&connect, &[]);
    assert_eq!(nothing.status, 422);
    assert!(nothing.text().contains("is needed: choose one"), "{}", nothing.text());
    let connected = visitor.send(&connect, &[("plan", "gold default")]);
    assert_eq!(leads_to(&connected), format!("{address}?done=connected"));
    assert!(visitor.page("/console/plans/gold").contains("orders/prod"));
    assert!(!visitor.page(&connect).contains("gold default"), "it is connected already");

    // It is the default now, and has to stay connected.
    let form = visitor.page(&edit);
    assert!(form.contains("<option value=\"gold\">"), "{form}");
    let saved = visitor.send_form(&form, &edit, &[("default_plan", "gold")]);
    assert_eq!(saved.status, 303, "{}", saved.text());
    let path = "/console/plans/gold/disconnect";
    let apart = visitor.page(&format!("{path}?target=orders%2Fprod"));
    assert!(apart.contains("default plan of this stage"), "{apart}");
    let refused = visitor.send_form(&apart, path, &[]);
    assert_eq!(refused.status, 409, "{}", refused.text());

    let delete = format!("{address}/delete");
    let asked = visitor.page(&delete);
    assert!(asked.contains("1 plan") && asked.contains("gold"), "{asked}");
    let kept = visitor.send_form(&asked, &delete, &[]);
    assert_eq!(kept.status, 409, "not without saying so: {}", kept.text());
    let gone = visitor.send_form(&kept.text(), &delete, &[("force", "yes")]);
    assert_eq!(leads_to(&gone), "/console/targets?done=deleted");
    assert_eq!(visitor.get(address).status, 404);
    assert!(!visitor.page("/console/plans/gold").contains("Disconnect"));
}

#[test]
fn two_who_edit_one_target_both_see_what_the_other_wants() {
    let tollgate = Tollgate::start(&[], &[]);
    let visitor = Visitor::of(&tollgate);
    assert_eq!(visitor.send("/console/targets/new", &[("id", "new")]).status, 303);
    let address = "/console/targets/%6Eew/edit";
    let (mine, theirs) = (visitor.page(address), visitor.page(address));
    assert_eq!(visitor.send_form(&theirs, address, &[("description", "theirs")]).status, 303);
    let both = visitor.send_form(&mine, address, &[("description", "mine")]);
    assert_eq!(both.status, 409);
    let text = both.text();
    assert!(text.contains("<bdi>mine</bdi>") && text.contains("<bdi>theirs</bdi>"), "{text}");
    assert_eq!(visitor.send_form(&text, address, &[]).status, 303);
    assert!(visitor.page("/console/targets/%6Eew").contains("mine"));
}
