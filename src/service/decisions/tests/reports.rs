//! Reports without a receipt that are sent again.

use super::*;
use crate::decide::outcome::{Ending, Outcome};
use crate::engine::plans::ReportSubject;
use crate::ledger::Scope;

/// A report of a request of the one caller, of this cost.
async fn report(
    plans: &Decisions,
    operation_id: &[u8],
    cost: u64,
) -> Result<Settlement, NotSettled> {
    let subject = ReportSubject::Caller { api_key: KEY, target: "t", operation_id };
    let outcome = Outcome { ending: Ending::Http(200), made_by_gateway: false };
    plans.settle(&Report { subject, outcome, cost: Some(cost) }).await
}

#[tokio::test]
async fn a_report_without_a_receipt_charges_once_under_its_id_also_where_its_answer_was_lost() {
    let bench = Bench::new(settings());
    let file = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [
        {name: q, limit: 9, unit: YEAR, charge: AT_REPORT}, {name: r, limit: 9, unit: DAY, charge: AT_REPORT}]}]}]}";
    declare(&bench.plans, file);
    let charged = || {
        bench
            .ledger
            .usage(&Scope::All, 0, u64::MAX)
            .unwrap()
            .iter()
            .map(|row| row.charged)
            .collect::<Vec<_>>()
    };

    bench.every_commit(|| Fault::After(LedgerError::Fault("on purpose".to_owned())));
    assert!(matches!(report(&bench.plans, b"one", 2).await, Err(NotSettled::Ledger(_))));
    bench.every_commit(|| Fault::None);
    // Whatever of it was committed is not committed again.
    assert!(report(&bench.plans, b"one", 2).await.is_ok());
    assert_eq!(charged(), [2, 2]);
    for (id, cost, expected, then) in [
        (&b"one"[..], 2, Settlement::Duplicate, 2),
        // Another report under the id.
        (b"one", 3, Settlement::Invalid, 2),
        (b"two", 2, Settlement::Counted, 4),
        (b"two", 2, Settlement::Duplicate, 4),
        (&[b'x'; 128], 1, Settlement::Counted, 5),
        (&[b'x'; 129], 1, Settlement::Invalid, 5),
        // Without an id each is another.
        (b"", 1, Settlement::Counted, 6),
        (b"", 1, Settlement::Counted, 7),
    ] {
        assert_eq!(
            (report(&bench.plans, id, cost).await.unwrap(), charged()),
            (expected, vec![then; 2]),
            "{id:?} of {cost}"
        );
    }
}
