//! What was used.

use prost::Message;
use tonic::Status;

use super::UsagePlans;
use crate::decide::ledger::Scope;
use crate::grpc::convert::usage::{day_to_wire, quota_to_wire};
use crate::grpc::pb::tollgate as pb;
use crate::service::usage::{Row, UsageRequest};
use pb::get_usage_request::Scope as WireScope;

/// Bytes of the rows on a page, at most: ordinary clients take 4 MiB.
const MAX_PAGE_BYTES: usize = 3 << 20;

impl UsagePlans {
    pub(super) async fn usage(
        &self,
        request: pb::GetUsageRequest,
    ) -> Result<pb::GetUsageResponse, Status> {
        let mut page = Page::default();
        let asked = asked(request);
        // The books of one subscriber or key are refused where a row of theirs is damaged.
        let may_lack_rows = matches!(asked.scope, Scope::All | Scope::Plan(_));
        let next = self.usage.page(&asked, |row| page.put(row)).await?;
        // After it was read: that is when damage is met.
        let damage = if may_lack_rows { self.usage.damage() } else { None };
        let next_page_token = next.unwrap_or_default();
        Ok(pb::GetUsageResponse {
            next_page_token,
            damage: damage.unwrap_or_default(),
            ..page.answer
        })
    }
}

fn asked(wire: pb::GetUsageRequest) -> UsageRequest {
    let pb::GetUsageRequest { scope, start_date, end_date, page_size, page_token } = wire;
    let scope = match scope {
        None => Scope::All,
        Some(WireScope::Subscriber(id)) => Scope::Subscriber(id.into()),
        Some(WireScope::ApiKey(id)) => Scope::Key(id.into()),
        Some(WireScope::Plan(id)) => Scope::Plan(id.into()),
    };
    UsageRequest { scope, start_date, end_date, page_size, page_token }
}

/// A page while it is filled.
#[derive(Default)]
struct Page {
    answer: pb::GetUsageResponse,
    bytes: usize,
}

impl Page {
    /// Puts a row on the page, unless it would be too many bytes.
    fn put(&mut self, row: Row<'_>) -> bool {
        match row {
            Row::Quota(row) => {
                let row = quota_to_wire(row);
                let fits = self.has_room(row.encoded_len());
                if fits {
                    self.answer.quotas.push(row);
                }
                fits
            }
            Row::Day(row) => {
                let row = day_to_wire(row);
                let fits = self.has_room(row.encoded_len());
                if fits {
                    self.answer.days.push(row);
                }
                fits
            }
        }
    }

    /// Whether a row of so many bytes still fits, and then takes the room for it. The first does.
    fn has_room(&mut self, bytes: usize) -> bool {
        let bytes = self.bytes.saturating_add(bytes).saturating_add(ROW_HEAD_BYTES);
        let fits = self.bytes == 0 || bytes <= MAX_PAGE_BYTES;
        if fits {
            self.bytes = bytes;
        }
        fits
    }
}

/// What stands before a row in the answer: its tag and its length.
const ROW_HEAD_BYTES: usize = 8;
