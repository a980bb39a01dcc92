//! What became of the requests that were admitted: reported soon or late, once or again, until
//! there is an answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tollgate::grpc::pb::tollgate::ReportRequest;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;

use super::{Lane, PAUSE, Random};
use crate::soak::log::{Ending, Receipt, Report};

/// Reports that wait to be made. Beyond it requests stay as they were counted, as those stay that
/// no gateway reports.
const ROOM: usize = 20_000;
/// In one message.
const AT_ONCE: usize = 64;

/// Reports to make, of all lanes.
#[derive(Debug, Default)]
pub struct Reports {
    now: Mutex<VecDeque<Report>>,
    /// Held back for a while: some until their period has ended.
    later: Mutex<VecDeque<Report>>,
    ending: AtomicBool,
}

impl Reports {
    pub(super) fn want(&self, caller: u32, text: Bytes, receipt: Receipt, random: &mut Random) {
        let ending = match random.below(100) {
            0..10 => Ending::Failed,
            10..12 => Ending::NoResponse,
            12..14 => Ending::CallerGone,
            14..25 => Ending::NotFound,
            _ => Ending::Success,
        };
        let real = (random.below(20) == 0).then(|| 1 + random.below(6));
        let Receipt { cost, charges, .. } = receipt;
        let report = Report {
            caller,
            receipt: text,
            cost,
            charges,
            ending,
            real,
            unanswered: false,
            corrected: false,
        };
        let queue =
            &mut *(if random.below(32) == 0 { &self.later } else { &self.now }).lock().unwrap();
        if queue.len() < ROOM {
            queue.push_back(report);
        }
    }

    /// Those that were held back are made now.
    pub fn release(&self) {
        let mut later = std::mem::take(&mut *self.later.lock().unwrap());
        self.now.lock().unwrap().append(&mut later);
    }

    /// No more come: whoever sends them ends with the last.
    pub fn end(&self) {
        self.release();
        self.ending.store(true, Ordering::SeqCst);
    }

    fn take(&self) -> Vec<Report> {
        let queue = &mut *self.now.lock().unwrap();
        let count = queue.len().min(AT_ONCE);
        queue.drain(..count).collect()
    }

    fn again(&self, reports: impl IntoIterator<Item = Report>) {
        self.now.lock().unwrap().extend(reports);
    }
}

pub(super) async fn send(lane: Arc<Lane>) {
    let mut client = DecisionServiceClient::new(lane.channel.clone());
    loop {
        let mut reports = lane.reports.take();
        if reports.is_empty() {
            if lane.reports.ending.load(Ordering::SeqCst) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        lane.turn().await;
        let began = lane.stops.look();
        match client
            .report(ReportRequest { outcomes: reports.iter().map(Report::wire).collect() })
            .await
        {
            Ok(answer) => {
                let answer = answer.into_inner();
                assert_eq!(answer.results.len(), reports.len());
                let tally = &mut *lane.tally.lock().unwrap();
                for (report, settlement) in reports.iter().zip(answer.results()) {
                    tally.settle(
                        report,
                        lane.callers[report.caller as usize].kind().quotas,
                        settlement,
                    );
                }
                let random = &mut lane.random.lock().unwrap();
                let repeated = reports
                    .into_iter()
                    .filter(|report| !report.corrected && random.below(8) == 0)
                    .collect::<Vec<_>>();
                lane.reports.again(repeated.into_iter().map(|report| lane.repeated(report)));
            }
            Err(status) => {
                lane.failed(&status, began);
                reports.iter_mut().for_each(|report| report.unanswered = true);
                lane.reports.again(reports);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Lane {
    /// What is reported after this was answered: the same where it corrected something, else that
    /// the target failed after all.
    fn repeated(&self, report: Report) -> Report {
        let corrected = report.corrects(self.callers[report.caller as usize].kind().quotas);
        let ending = if corrected { report.ending } else { Ending::Failed };
        Report { ending, corrected, unanswered: false, ..report }
    }
}
