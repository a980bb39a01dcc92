//! Whether a server has a rule for what was asked.

use crate::cli::client::connect::Client;
use crate::grpc::wire::{Descriptor, Entry, RateLimitRequest};
use crate::load::DescriptorEntry;

/// Whether no rule matches. It asks with no hits, which charges nothing. A server that does not
/// answer says nothing.
pub(super) async fn no_rule_matches(
    domain: &str,
    descriptors: &[Vec<DescriptorEntry>],
    client: &Client,
) -> bool {
    let entry = |entry: &DescriptorEntry| Entry {
        key: entry.key.clone().into(),
        value: entry.value.clone().unwrap_or_else(|| "probe".to_owned()).into(),
    };
    let descriptor = |entries: &Vec<DescriptorEntry>| Descriptor {
        entries: entries.iter().map(entry).collect(),
        hits_addend: Some(0),
        ..Descriptor::default()
    };
    let descriptors = descriptors.iter().map(descriptor).collect();
    let request = RateLimitRequest {
        domain: domain.to_owned().into(),
        descriptors,
        ..RateLimitRequest::default()
    };
    match client.reply(client.rate_limits().should_rate_limit(request)).await {
        Ok(answer) => answer.statuses.iter().all(|status| status.current_limit.is_none()),
        Err(_) => false,
    }
}
