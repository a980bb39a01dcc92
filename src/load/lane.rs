//! One connection: begins calls where there is room, sends and receives without waiting for either,
//! and connects again when it must.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::Code;

use super::flights::{Flight, Flights};
use super::http2::Http2;
use super::messages::framed;
use super::worker::{Slot, Worker};
use crate::grpc::pb::tollgate::outcome::{Result as Ending, Subject};
use crate::grpc::pb::tollgate::{Outcome, ReportRequest};

mod incoming;

/// Room for what is read at once, and for the largest frame.
const INPUT_BYTES: usize = 32 << 10;
/// A call that begins so much after its time is late.
const LATE_NS: u64 = 1_000_000;
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// Which headers a call has.
const CALL: usize = 0;
const REPORT: usize = 1;

pub(super) struct Lane {
    worker: Rc<Worker>,
    slot: Rc<Slot>,
    http2: Http2,
    flights: Flights,
    /// The one stream of a lane that streams.
    stream: Option<Stream>,
    /// What came in and was not understood yet.
    input: Vec<u8>,
    filled: usize,
    /// Messages of which more is to come, by stream.
    parts: HashMap<u32, Vec<u8>>,
    /// Receipts of what was admitted and is to be reported.
    receipts: VecDeque<Vec<u8>>,
    /// The message of the next call, and when the call began, where the server has not taken it
    /// yet.
    body: Vec<u8>,
    waiting: Option<u64>,
    /// Since they were last added to what all threads share.
    decisions: u64,
    failed: u64,
    /// Over all connections.
    answers: u64,
}

/// A stream of batches.
#[derive(Debug)]
struct Stream {
    id: u32,
    /// What may be sent on it, beside what may be sent on any new stream.
    credit: i64,
    /// Received on it since its window was last filled up.
    received: u32,
    /// When the batches began that are not answered.
    batches: VecDeque<u64>,
}

/// How a connection ended.
enum Ended {
    /// There is nothing more to do.
    Done,
    /// Another one must go on.
    Renew,
    Lost(String),
}

impl Lane {
    pub(super) fn new(worker: Rc<Worker>, slot: Rc<Slot>) -> Self {
        Self {
            http2: Http2::new(worker.shared.script.calls.clone()),
            worker,
            slot,
            flights: Flights::default(),
            stream: None,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            parts: HashMap::new(),
            receipts: VecDeque::new(),
            body: Vec::new(),
            waiting: None,
            decisions: 0,
            failed: 0,
            answers: 0,
        }
    }

    /// Works until there is nothing more to do, or nobody to connect to.
    pub(super) async fn run(mut self, first: std::net::TcpStream) {
        let mut first = Some(first);
        loop {
            let connected = match first.take() {
                Some(socket) => TcpStream::from_std(socket).ok(),
                None => self.connect().await,
            };
            let Some(mut io) = connected else { break };
            let before = self.answers;
            let ended = poll_fn(|cx| self.poll(cx, &mut io)).await;
            let (reason, pause) = match ended {
                Ended::Done => break,
                Ended::Renew => (None, false),
                Ended::Lost(reason) => (Some(reason), self.answers == before),
            };
            self.hang_up(reason);
            if pause {
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.give_up();
    }

    async fn connect(&self) -> Option<TcpStream> {
        let shared = &self.worker.shared;
        let patience_ns = self.now().saturating_add(shared.job.timeout_ns);
        loop {
            if shared.is_over(self.now())
                && self.slot.due.borrow().is_empty()
                && self.receipts.is_empty()
            {
                return None;
            }
            match TcpStream::connect(&shared.job.server).await {
                Ok(io) => {
                    // Without it small messages wait for each other.
                    let _ = io.set_nodelay(true);
                    return Some(io);
                }
                Err(_) if self.now() > patience_ns => return None,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn now(&self) -> u64 {
        self.worker.shared.clock.now().steady_ns
    }

    /// Does what can be done without waiting.
    fn poll<T: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut T,
    ) -> Poll<Ended> {
        loop {
            let came = match self.read(cx, io) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Ended::Lost("the server closed the connection".to_owned()));
                }
                Poll::Ready(Ok(_)) => true,
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error.to_string())),
                Poll::Pending => false,
            };
            let now_ns = self.now();
            let understood = if came { self.understand(now_ns) } else { Ok(()) };
            let worked =
                understood.and_then(|()| self.expire(now_ns)).and_then(|()| self.fill(now_ns));
            self.publish();
            if let Err(reason) = worked {
                return Poll::Ready(Ended::Lost(reason));
            }
            if self.is_done(now_ns) {
                return Poll::Ready(Ended::Done);
            }
            if self.http2.is_leaving() && self.open() == 0 {
                return Poll::Ready(Ended::Renew);
            }
            let went = match self.write(cx, io) {
                Poll::Ready(Ok(went)) => went,
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error.to_string())),
                Poll::Pending => false,
            };
            if !came && !went {
                self.slot.waker.replace(Some(cx.waker().clone()));
                return Poll::Pending;
            }
        }
    }

    fn read<T: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut T,
    ) -> Poll<std::io::Result<usize>> {
        let mut free = ReadBuf::new(self.input.get_mut(self.filled..).unwrap_or_default());
        let read = Pin::new(io).poll_read(cx, &mut free);
        let came = free.filled().len();
        self.filled += came;
        read.map_ok(|()| came)
    }

    /// Sends what waits to be sent, as far as it is taken. Was anything?
    fn write<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut T,
    ) -> Poll<std::io::Result<bool>> {
        let mut went = false;
        while !self.http2.unsent().is_empty() {
            match Pin::new(&mut *io).poll_write(cx, self.http2.unsent()) {
                Poll::Ready(Ok(sent)) => {
                    self.http2.was_sent(sent);
                    went = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(went))
    }

    /// How many calls are under way.
    fn open(&self) -> usize {
        self.flights.open() + self.stream.as_ref().map_or(0, |stream| stream.batches.len())
    }

    fn is_done(&self, now_ns: u64) -> bool {
        self.open() == 0
            && self.receipts.is_empty()
            && self.waiting.is_none()
            && self.worker.shared.is_over(now_ns)
            && self.slot.due.borrow().is_empty()
    }

    /// Begins as many calls as there is room for.
    fn fill(&mut self, now_ns: u64) -> Result<(), String> {
        if self.worker.shared.is_closed(now_ns) {
            self.give_up();
        }
        let free = self.worker.shared.job.in_flight.saturating_sub(self.open());
        let mut room = if self.worker.shared.script.streaming {
            if self.stream.is_some() && !self.http2.is_leaving() {
                free
            } else {
                self.http2.room(0).min(free)
            }
        } else {
            self.http2.room(self.flights.open()).min(free)
        };
        while room > 0 && self.report(now_ns) {
            room -= 1;
        }
        while room > 0 && self.receipts.is_empty() {
            let Some(start_ns) = self.prepare(now_ns) else { break };
            if !self.begin(start_ns) {
                self.waiting = Some(start_ns);
                self.must_fit()?;
                break;
            }
            room -= 1;
        }
        self.slot.open.set(self.open());
        Ok(())
    }

    /// Reports one of the receipts. Without any: false.
    fn report(&mut self, now_ns: u64) -> bool {
        let Some(receipt) = self.receipts.pop_front() else { return false };
        let failures = self.worker.shared.script.report.unwrap_or(0.0);
        let status = if self.worker.random.borrow_mut().part() < failures { 503 } else { 200 };
        let outcome = Outcome {
            subject: Some(Subject::Receipt(receipt.into())),
            result: Some(Ending::HttpStatus(status)),
            ..Outcome::default()
        };
        let mut body = Vec::new();
        framed(&ReportRequest { outcomes: vec![outcome] }, &mut body);
        let Some(stream) = self.http2.open(REPORT) else { return false };
        self.http2.send(stream, &body, true);
        self.flights.add(stream, Flight::new(now_ns, true));
        true
    }

    /// Puts the message of the next call into its place, and says when the call began. `None`:
    /// there is no next call now.
    fn prepare(&mut self, now_ns: u64) -> Option<u64> {
        if let Some(start_ns) = self.waiting.take() {
            return Some(start_ns);
        }
        self.give_up_late(now_ns);
        let worker = &self.worker;
        let start_ns = if worker.shared.job.rate.is_some() {
            self.slot.due.borrow_mut().pop_front()?
        } else {
            worker.shared.draw(now_ns).then_some(now_ns)?
        };
        let random = &mut *worker.random.borrow_mut();
        worker.shared.script.body.write(&mut self.body, || worker.skew.pick(random));
        if worker.shared.is_measured(start_ns) {
            let mut tally = worker.tally.borrow_mut();
            tally.asked += 1;
            tally.late += u64::from(now_ns.saturating_sub(start_ns) > LATE_NS);
        }
        Some(start_ns)
    }

    /// Who has waited for a place as long as one waits for an answer asks no more.
    fn give_up_late(&mut self, now_ns: u64) {
        let before_ns = now_ns.saturating_sub(self.worker.shared.job.timeout_ns);
        loop {
            let first = self.slot.due.borrow().front().copied();
            let Some(start_ns) = first.filter(|start_ns| *start_ns < before_ns) else { return };
            self.slot.due.borrow_mut().pop_front();
            if self.worker.shared.is_measured(start_ns) {
                let mut tally = self.worker.tally.borrow_mut();
                tally.asked += 1;
                tally.late += 1;
            }
            self.fail(start_ns, false, Code::DeadlineExceeded, None, now_ns);
        }
    }

    /// Begins the call whose message is in its place. The server does not take it now: false.
    fn begin(&mut self, start_ns: u64) -> bool {
        if self.worker.shared.script.streaming {
            if self.stream.is_none() {
                let Some(id) = self.http2.open(CALL) else { return false };
                self.stream = Some(Stream { id, credit: 0, received: 0, batches: VecDeque::new() });
            }
            let Some(stream) = &mut self.stream else { return false };
            if !self.http2.takes(self.body.len(), self.http2.stream_window() + stream.credit) {
                return false;
            }
            self.http2.send(stream.id, &self.body, false);
            stream.credit -= i64::try_from(self.body.len()).unwrap_or(i64::MAX);
            stream.batches.push_back(start_ns);
            return true;
        }
        if !self.http2.takes(self.body.len(), self.http2.stream_window()) {
            return false;
        }
        let Some(stream) = self.http2.open(CALL) else { return false };
        self.http2.send(stream, &self.body, true);
        self.flights.add(stream, Flight::new(start_ns, false));
        true
    }

    /// A message that the server never takes would be waited for without end.
    fn must_fit(&self) -> Result<(), String> {
        let most = self.http2.stream_window();
        if i64::try_from(self.body.len()).is_ok_and(|bytes| bytes <= most) {
            return Ok(());
        }
        Err(format!(
            "a message of {} bytes is more than the {most} that the server takes at once",
            self.body.len()
        ))
    }

    /// Ends the calls whose answers took too long.
    fn expire(&mut self, now_ns: u64) -> Result<(), String> {
        let before_ns = now_ns.saturating_sub(self.worker.shared.job.timeout_ns);
        while let Some((stream, flight)) = self.flights.take_older(before_ns) {
            self.http2.cancel(stream);
            self.parts.remove(&stream);
            self.fail(flight.start_ns, flight.is_report, Code::DeadlineExceeded, None, now_ns);
        }
        let oldest = self.stream.as_ref().and_then(|stream| stream.batches.front());
        if oldest.is_some_and(|start_ns| *start_ns < before_ns) {
            self.end_stream(Code::DeadlineExceeded, None, now_ns);
            return Err("a batch was not answered in time".to_owned());
        }
        Ok(())
    }

    /// Counts a call that failed.
    fn fail(
        &mut self,
        start_ns: u64,
        is_report: bool,
        code: Code,
        reason: Option<&std::sync::Arc<str>>,
        now_ns: u64,
    ) {
        self.failed += 1;
        if self.worker.shared.is_measured(start_ns) {
            let mut tally = self.worker.tally.borrow_mut();
            tally.last_ns = tally.last_ns.max(now_ns);
            let calls = if is_report { &mut tally.reports } else { &mut tally.calls };
            calls.failure(
                u8::try_from(i32::from(code)).unwrap_or(u8::MAX),
                now_ns.saturating_sub(start_ns),
                reason,
            );
        }
    }

    /// Ends a stream, and with it the batches on it.
    fn end_stream(&mut self, code: Code, reason: Option<&std::sync::Arc<str>>, now_ns: u64) {
        let Some(stream) = self.stream.take() else { return };
        self.parts.remove(&stream.id);
        for start_ns in stream.batches {
            self.fail(start_ns, false, code, reason, now_ns);
        }
    }

    /// The connection is gone: what was under way on it has failed.
    fn hang_up(&mut self, reason: Option<String>) {
        let now_ns = self.now();
        let said = reason.as_deref().map(Into::into);
        while let Some(flight) = self.flights.take_any() {
            self.fail(flight.start_ns, flight.is_report, Code::Unavailable, said.as_ref(), now_ns);
        }
        self.end_stream(Code::Unavailable, said.as_ref(), now_ns);
        self.parts.clear();
        self.filled = 0;
        self.http2 = Http2::new(self.worker.shared.script.calls.clone());
        self.publish();
        self.slot.open.set(0);
        let mut tally = self.worker.tally.borrow_mut();
        tally.reconnects += 1;
        tally.lost = tally.lost.take().or(reason);
    }

    /// What has not begun never will.
    fn give_up(&mut self) {
        let due = std::mem::take(&mut *self.slot.due.borrow_mut());
        let mut tally = self.worker.tally.borrow_mut();
        tally.unsent +=
            due.into_iter().filter(|start_ns| self.worker.shared.is_measured(*start_ns)).count()
                as u64;
        if let Some(start_ns) = self.waiting.take() {
            let measured = u64::from(self.worker.shared.is_measured(start_ns));
            tally.asked -= measured;
            tally.unsent += measured;
        }
    }

    fn publish(&mut self) {
        let shared = &self.worker.shared;
        if self.decisions > 0 {
            shared.decisions.fetch_add(std::mem::take(&mut self.decisions), Ordering::Relaxed);
        }
        if self.failed > 0 {
            shared.failed.fetch_add(std::mem::take(&mut self.failed), Ordering::Relaxed);
        }
    }
}
