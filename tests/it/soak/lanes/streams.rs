//! Many checks in a message, on a stream that stays open until the server is about to stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tollgate::grpc::pb::tollgate::decision_service_client::DecisionServiceClient;
use tollgate::grpc::pb::tollgate::{CheckBatch, CheckBatchResponse, Verdict};

use super::{Lane, PAUSE, Phase, nanos, unix_us};
use crate::soak::world::TARGETS;

/// Checks in a message.
pub const BATCH: usize = 64;
/// Messages without an answer.
const IN_FLIGHT: usize = 8;

/// A batch that was sent.
struct Sent {
    since: Instant,
    asked_us: u64,
    /// Who asked, and the cost.
    items: Vec<(u32, u64)>,
}

pub(super) async fn ask(lane: Arc<Lane>, mut phase: watch::Receiver<Phase>) {
    loop {
        let now = *phase.wait_for(|phase| *phase != Phase::Stop).await.unwrap();
        if now == Phase::Over {
            return;
        }
        one_stream(&lane, &mut phase).await;
    }
}

/// Asks on one stream, until the server is about to stop or the stream breaks.
async fn one_stream(lane: &Lane, phase: &mut watch::Receiver<Phase>) {
    let began = lane.stops.look();
    let (sender, batches) = mpsc::channel(IN_FLIGHT);
    let opened = DecisionServiceClient::new(lane.channel.clone())
        .check_stream(ReceiverStream::new(batches))
        .await;
    let mut answers = match opened {
        Ok(answers) => answers.into_inner(),
        Err(status) => {
            lane.failed(&status, began);
            return tokio::time::sleep(PAUSE).await;
        }
    };
    let (waiting, room) = (Mutex::new(HashMap::new()), Semaphore::new(IN_FLIGHT));
    let sending = async {
        let sender = sender;
        for id in 0.. {
            let Ok(place) = room.acquire().await else { return };
            place.forget();
            let since = tokio::select! {
                biased;
                _ = phase.changed() => return,
                since = lane.turn() => since,
            };
            let (batch, sent) = lane.batch(id, since);
            waiting.lock().unwrap().insert(id, sent);
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    };
    let receiving = async {
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(answer) => {
                    let sent = waiting.lock().unwrap().remove(&answer.id).unwrap();
                    lane.answered(sent, answer);
                    room.add_permits(1);
                }
                Err(status) => {
                    lane.failed(&status, began);
                    break;
                }
            }
        }
        room.close();
    };
    tokio::join!(sending, receiving);
    let tally = &mut *lane.tally.lock().unwrap();
    for (caller, cost) in
        waiting.into_inner().unwrap().into_values().flat_map(|sent: Sent| sent.items)
    {
        *tally.unknown.entry(caller).or_default() += cost;
    }
}

impl Lane {
    fn batch(&self, id: u64, since: Instant) -> (CheckBatch, Sent) {
        let random = &mut self.random.lock().unwrap();
        let items: Vec<(u32, u64)> = (0..BATCH).map(|_| self.pick(random)).collect();
        let batch = CheckBatch {
            id,
            api_keys: items
                .iter()
                .map(|(caller, _)| self.callers[*caller as usize].value.clone())
                .collect(),
            targets: vec![TARGETS[id as usize % 2].to_owned()],
            costs: items.iter().map(|(_, cost)| *cost).collect(),
            ..CheckBatch::default()
        };
        (batch, Sent { since, asked_us: unix_us(), items })
    }

    fn answered(&self, sent: Sent, answer: CheckBatchResponse) {
        assert_eq!((&*answer.error, answer.verdicts.len()), ("", sent.items.len()));
        let tally = &mut *self.tally.lock().unwrap();
        tally.latency.record(nanos(sent.since)).unwrap();
        // Where all would be empty they are left out.
        let mut receipts = answer.receipts.into_iter();
        for (index, ((caller, cost), verdict)) in
            sent.items.into_iter().zip(answer.verdicts).enumerate()
        {
            let verdict = Verdict::try_from(verdict).unwrap();
            let reason = answer.reasons.get(index).copied().unwrap_or_default();
            self.decided(
                tally,
                caller,
                cost,
                (verdict, reason, receipts.next().unwrap_or_default()),
                sent.asked_us,
            );
        }
    }
}
