//! Grants that are asked for again, over a ledger that meets faults and processes that end.

use std::sync::mpsc;

use tempfile::TempDir;

use super::*;
use crate::ledger::faults::{Fault, FaultyLedger};
use crate::ledger::{Ledger, Scope};
use crate::testkit::declared;
use crate::testkit::started::{self, Started};

const NOW: Now = Now { unix_ns: 1_795_341_600_123_456_789, steady_ns: 1 };

/// One start of a service on a folder.
struct Site {
    grants: Grants,
    ledger: Arc<FaultyLedger>,
}

impl Site {
    /// As soon as the start before has let go of the folder.
    fn start(folder: &TempDir, fault: impl FnMut(u64) -> Fault + Send + 'static) -> Self {
        let ledger = Arc::new(FaultyLedger::new(Arc::new(started::open(folder.path())), fault));
        let file = "{plans: [{id: gold, entitlements: [{name: all, targets: [t], quotas: [{name: q, limit: 3, unit: DAY}]}]}],
                     subscribers: [{id: acme, plans: [gold]}]}";
        let catalog = declared::catalog(file, NOW);
        let clock = Clock::from_fn(|| NOW);
        let started = Started::over(ledger.clone(), 1, catalog, clock, started::settings());
        Self { grants: started.grants(), ledger }
    }

    async fn grant(&self, (grant, request): Asked) -> Result<GrantAnswer, ServiceError> {
        self.grants.make(&grant, request.as_ref(), NOW).await
    }

    /// Units that were granted in all, as the file says.
    fn granted(&self) -> i64 {
        self.ledger.usage(&Scope::All, 0, u64::MAX).unwrap().iter().map(|row| row.granted).sum()
    }
}

/// A grant, and the name of its request.
type Asked = (Grant, Option<RequestKey>);

fn key(message: &[u8]) -> RequestKey {
    RequestKey::new("r", "Grant", message).unwrap().unwrap()
}

fn grant(change: Change, request: Option<RequestKey>) -> Asked {
    (declared::grant(change), request)
}

fn two() -> Asked {
    grant(Change::Add(2), Some(key(b"two")))
}

fn broken() -> LedgerError {
    LedgerError::Fault("on purpose".to_owned())
}

#[tokio::test]
async fn a_grant_whose_answer_was_lost_or_an_error_is_made_once_and_answered_alike_also_after_a_restart()
 {
    for fault in
        [|| Fault::None, || Fault::Before(broken()), || Fault::After(broken()), || Fault::Die]
    {
        let folder = TempDir::new().unwrap();
        let site =
            Site::start(&folder, move |number| if number == 1 { fault() } else { Fault::None });
        let _first = site.grant(two()).await;
        let retried = site.grant(two()).await;
        drop(site);
        let site = Site::start(&folder, |_| Fault::None);
        let again = site.grant(two()).await.unwrap();
        assert_eq!((again.granted, again.remaining, site.granted()), (2, 5, 2));
        if let Ok(retried) = retried {
            assert_eq!(retried, again, "the first answer");
        }
        assert_eq!(site.grants.made_before(&key(b"two")).await, Ok(Some(again)));
        let other = site.grants.made_before(&key(b"other")).await;
        assert!(
            matches!(other, Err(ServiceError::Refused(EditError::Invalid(mistakes))) if mistakes[0].field == "request_id")
        );
    }
}

#[tokio::test]
async fn a_grant_whose_caller_gives_up_is_made_once_however_often_it_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (open, gate) = mpsc::channel();
    let mut gate = Some(gate);
    let site = Site::start(&folder, move |_| gate.take().map_or(Fault::None, Fault::Wait));
    let gone = site.grant(two());
    tokio::select! {
        biased;
        _ = gone => panic!("nobody has opened the gate"),
        () = std::future::ready(()) => {}
    }
    // It was begun, and its caller is gone. Two retries at once wait behind it.
    let retries = async { tokio::join!(site.grant(two()), site.grant(two())) };
    let opened = async {
        while site.ledger.commits() == 0 {
            tokio::task::yield_now().await;
        }
        open.send(()).unwrap();
    };
    let ((one, other), ()) = tokio::join!(retries, opened);
    assert_eq!(one, other);
    assert_eq!((one.unwrap().granted, site.granted()), (2, 2));
}

#[tokio::test]
async fn another_grant_under_the_name_is_refused_and_makes_nothing() {
    let folder = TempDir::new().unwrap();
    let site = Site::start(&folder, |_| Fault::None);
    site.grant(two()).await.unwrap();
    let other = site.grant(grant(Change::Add(3), Some(key(b"three")))).await;
    assert!(
        matches!(other, Err(ServiceError::Refused(EditError::Invalid(mistakes))) if mistakes[0].field == "request_id")
    );
    assert_eq!(site.granted(), 2);
    let unnamed = site.grant(grant(Change::Add(2), None)).await.unwrap();
    assert_eq!(
        (unnamed.granted, unnamed.remaining, site.granted()),
        (4, 7, 4),
        "without a name each is another"
    );
}

#[tokio::test]
async fn what_remains_is_set_once_and_a_retry_does_not_set_it_again() {
    let folder = TempDir::new().unwrap();
    let site = Site::start(&folder, |_| Fault::None);
    let set = || grant(Change::SetRemaining(1), Some(key(b"set")));
    let first = site.grant(set()).await.unwrap();
    assert_eq!((first.granted, first.remaining), (-2, 1));
    site.grant(grant(Change::Add(5), None)).await.unwrap();
    assert_eq!(site.grant(set()).await.unwrap(), first);
    assert_eq!(site.granted(), 3);
}
