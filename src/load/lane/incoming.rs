//! What came in over a connection: messages and endings, matched to the calls that they answer.

use std::sync::Arc;

use tonic::Code;

use super::Lane;
use crate::load::answers::{Answer, VERDICTS};
use crate::load::http2::{Event, REFILL};

/// A gRPC message is preceded by a flag and its length.
const PREFIX: usize = 5;
/// Nothing that is asked for has an answer as large.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

impl Lane {
    /// Understands as much of the input as is there.
    pub(super) fn understand(&mut self, now_ns: u64) -> Result<(), String> {
        let input = std::mem::take(&mut self.input);
        let come = input.get(..self.filled).unwrap_or_default();
        let mut used = 0;
        let outcome = loop {
            match self.http2.read(come.get(used..).unwrap_or_default()) {
                Ok(Some((length, event))) => {
                    used += length;
                    if let Err(reason) = self.handle(event, now_ns) {
                        break Err(reason);
                    }
                }
                Ok(None) => break Ok(()),
                Err(reason) => break Err(reason),
            }
        };
        self.input = input;
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        outcome
    }

    fn handle(&mut self, event: Event<'_>, now_ns: u64) -> Result<(), String> {
        match event {
            Event::Nothing => Ok(()),
            Event::Data { stream, bytes, end } => {
                self.data(stream, bytes, now_ns)?;
                if end {
                    self.end(stream, Code::Unknown, Some("the answer has no trailers"), now_ns)
                } else {
                    Ok(())
                }
            }
            Event::Head { end: false, .. } => Ok(()),
            Event::Head { stream, head, end: true } => {
                let code = match (head.grpc_status, head.http_status) {
                    (Some(code), _) => Code::from_i32(code.into()),
                    (None, status) => of_http(status.unwrap_or(0)),
                };
                self.end(stream, code, head.grpc_message.as_deref(), now_ns)
            }
            Event::Reset { stream, code } => {
                self.end(stream, of_http2(code), Some("the server reset the stream"), now_ns)
            }
            Event::Window { stream, bytes } => {
                if let Some(own) = self.stream.as_mut().filter(|own| own.id == stream) {
                    own.credit += i64::from(bytes);
                }
                Ok(())
            }
            Event::GoAway { last_stream } => {
                let reason: Arc<str> = "the server went away".into();
                while let Some(flight) = self.flights.take_after(last_stream) {
                    self.fail(
                        flight.start_ns,
                        flight.is_report,
                        Code::Unavailable,
                        Some(&reason),
                        now_ns,
                    );
                }
                if let Some(stream) = &self.stream {
                    self.http2.send(stream.id, &[], true);
                }
                Ok(())
            }
        }
    }

    /// Bytes of a stream: messages, whole or in parts.
    fn data(&mut self, stream: u32, bytes: &[u8], now_ns: u64) -> Result<(), String> {
        if let Some(own) = self.stream.as_mut().filter(|own| own.id == stream) {
            own.received =
                own.received.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            if own.received >= REFILL {
                self.http2.refill(stream, std::mem::take(&mut own.received));
            }
        }
        let mut whole = self.parts.remove(&stream);
        let bytes = match &mut whole {
            Some(part) => {
                part.extend_from_slice(bytes);
                part.as_slice()
            }
            None => bytes,
        };
        let mut rest = bytes;
        while let Some((message, after)) = message(rest)? {
            self.message(stream, message, now_ns);
            rest = after;
        }
        if !rest.is_empty() {
            self.parts.insert(stream, rest.to_vec());
        }
        Ok(())
    }

    fn message(&mut self, stream: u32, message: &[u8], now_ns: u64) {
        if self.stream.as_ref().is_some_and(|own| own.id == stream) {
            return self.batch(message, now_ns);
        }
        let Some(flight) = self.flights.get_mut(stream) else { return };
        flight.answered = true;
        let (start_ns, is_report) = (flight.start_ns, flight.is_report);
        let script = &self.worker.shared.script;
        let answer = if is_report { Answer::Report } else { script.answer };
        let mut counts = [0; VERDICTS];
        let receipt = answer.read(message, &mut counts).receipt;
        if script.report.is_some() && !is_report {
            self.receipts.extend(receipt.map(<[u8]>::to_vec));
        }
        self.decisions += u64::from(!is_report);
        self.count(&counts, start_ns, is_report);
    }

    fn batch(&mut self, message: &[u8], now_ns: u64) {
        let Some(start_ns) = self.stream.as_mut().and_then(|stream| stream.batches.pop_front())
        else {
            return;
        };
        let mut counts = [0; VERDICTS];
        let read = Answer::Batch.read(message, &mut counts);
        if let Some(refused) = read.refused {
            let reason = String::from_utf8_lossy(refused).into();
            return self.fail(start_ns, false, Code::InvalidArgument, Some(&reason), now_ns);
        }
        self.decisions += counts.iter().sum::<u64>();
        self.count(&counts, start_ns, false);
        self.answered(start_ns, false, now_ns);
    }

    fn count(&mut self, counts: &[u64; VERDICTS], start_ns: u64, is_report: bool) {
        if self.worker.shared.is_measured(start_ns) {
            let mut tally = self.worker.tally.borrow_mut();
            let calls = if is_report { &mut tally.reports } else { &mut tally.calls };
            calls.verdicts.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
        }
    }

    fn answered(&mut self, start_ns: u64, is_report: bool, now_ns: u64) {
        self.answers += 1;
        if self.worker.shared.is_measured(start_ns) {
            let mut tally = self.worker.tally.borrow_mut();
            tally.last_ns = now_ns;
            let calls = if is_report { &mut tally.reports } else { &mut tally.calls };
            calls.answer(now_ns.saturating_sub(start_ns));
        }
    }

    /// A stream has ended.
    fn end(
        &mut self,
        stream: u32,
        code: Code,
        reason: Option<&str>,
        now_ns: u64,
    ) -> Result<(), String> {
        if self.stream.as_ref().is_some_and(|own| own.id == stream) {
            return self.stream_ended(code, reason, now_ns);
        }
        let Some(flight) = self.flights.take(stream) else { return Ok(()) };
        if code == Code::Ok && flight.answered {
            self.answered(flight.start_ns, flight.is_report, now_ns);
            return Ok(());
        }
        self.parts.remove(&stream);
        let (code, reason) = if code == Code::Ok {
            (Code::Internal, Some("the answer has no message"))
        } else {
            (code, reason)
        };
        self.fail(flight.start_ns, flight.is_report, code, reason.map(Into::into).as_ref(), now_ns);
        Ok(())
    }

    fn stream_ended(
        &mut self,
        code: Code,
        reason: Option<&str>,
        now_ns: u64,
    ) -> Result<(), String> {
        let waited = self.open() > 0;
        let code = if code == Code::Ok && waited { Code::Unavailable } else { code };
        self.end_stream(code, reason.map(Into::into).as_ref(), now_ns);
        if code == Code::Ok && self.http2.is_leaving() {
            return Ok(());
        }
        Err(format!("the stream ended: {}", reason.unwrap_or(code.description())))
    }
}

/// A message, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The first message of these bytes, and what follows it. `None`: it is not all there.
fn message(bytes: &[u8]) -> Result<Option<Split<'_>>, String> {
    let Some(([flag, length @ ..], rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if *flag != 0 || length > MAX_MESSAGE_BYTES {
        return Err("an answer is compressed, or far too large".to_owned());
    }
    Ok(rest.split_at_checked(length))
}

/// What gRPC makes of an answer that has no status of its own.
fn of_http(status: u16) -> Code {
    match status {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What gRPC makes of a stream that was reset.
fn of_http2(code: u32) -> Code {
    match code {
        7 => Code::Unavailable,
        8 => Code::Cancelled,
        11 => Code::ResourceExhausted,
        12 => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        let two = [0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0];
        assert_eq!(message(&two).unwrap(), Some((&[7, 8][..], &two[7..])));
        assert_eq!(message(&two[7..]).unwrap(), Some((&[][..], &[][..])));
        for cut in 0..7 {
            assert_eq!(message(&two[..cut]).unwrap(), None, "{cut}");
        }
        assert!(message(&[1, 0, 0, 0, 0]).is_err(), "compressed");
        assert!(message(&[0, 0xff, 0, 0, 0]).is_err(), "too large");
    }
}
