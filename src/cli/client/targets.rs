//! Targets that a command names and that are new, or are not there: a slip of the keys makes one.

use tonic::Code;

use super::connect::Client;
use super::output::note;
use crate::grpc::pb::tollgate::{GetTargetRequest, ListTargetsRequest, Target, UsagePlan};
use crate::near::near;

/// As many are looked at for what is near.
const LOOKED_AT: i32 = 1_000;

/// Tells which targets an edit of `plan` has made, for it named them and nobody knew them.
pub(in crate::cli) async fn tell_created(plan: &UsagePlan, client: &Client) {
    let of_plan = list(client, format!("plan={}", plan.id)).await;
    // They are of the very edit that made the plan what it is.
    let (created, others): (Vec<&Target>, Vec<&Target>) = of_plan.iter().partition(|target| {
        target.revision == plan.revision && target.create_time == plan.update_time
    });
    if created.is_empty() {
        return;
    }
    let all = list(client, String::new()).await;
    let known = all
        .iter()
        .chain(others)
        .filter(|one| created.iter().all(|created| created.id != one.id))
        .map(|one| one.id.as_str());
    let known: std::collections::BTreeSet<&str> = known.collect();
    for target in created {
        note(&format!(
            "created target {}{}",
            target.id,
            nearest(&target.id, known.iter().copied())
        ));
    }
}

/// Tells that there is no such target, where there is none.
pub(in crate::cli) async fn tell_unknown(id: &str, client: &Client) {
    match client
        .reply(client.usage_plans().get_target(GetTargetRequest { id: id.to_owned() }))
        .await
    {
        Err(status) if status.code() == Code::NotFound => {}
        // Others know, or may not say.
        Ok(_) | Err(_) => return,
    }
    let all = list(client, String::new()).await;
    note(&format!(
        "there is no target `{id}`{}",
        nearest(id, all.iter().map(|one| one.id.as_str()))
    ));
}

fn nearest<'a>(id: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    match near(id, names).as_slice() {
        [] => String::new(),
        names => format!("; near: {}", names.join(", ")),
    }
}

/// Targets, as far as one page goes; none where they cannot be read: what was asked for is done all
/// the same.
async fn list(client: &Client, filter: String) -> Vec<Target> {
    let request =
        ListTargetsRequest { page_size: LOOKED_AT, filter, ..ListTargetsRequest::default() };
    client
        .reply(client.usage_plans().list_targets(request))
        .await
        .map(|page| page.targets)
        .unwrap_or_default()
}
