//! Requests that were answered, so that a retry gets the first answer and changes nothing. Where
//! the catalog is kept, they are kept with it.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::decide::invalid::Invalid;
use crate::decide::time::{Now, SECOND_NS};

/// Requests remembered: the newest.
pub const MAX_REQUESTS: usize = 10_000;
/// How long a request is remembered, at least.
pub const KEPT_NS: u64 = 24 * 3_600 * SECOND_NS;
/// Bytes of a `request_id`.
pub const MAX_REQUEST_ID: usize = 128;

/// Hashes of the name that a caller gave to a request, and of all that it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    pub name: [u8; 16],
    pub fields: [u8; 16],
}

/// What was made of the request that had a name first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRequest {
    /// Of [`RequestKey`].
    pub fields: [u8; 16],
    /// As it was written down.
    pub answer: Vec<u8>,
}

/// A request that an edit is made for, and its answer.
#[derive(Clone, Debug)]
pub struct MadeRequest<'a> {
    pub key: &'a RequestKey,
    pub answer: Vec<u8>,
    pub now: Now,
}

/// An answer that can be written down, for a retry after a restart.
pub trait Answer: Sized {
    fn write(&self) -> Vec<u8>;
    /// `None`: nothing that [`Self::write`] has written.
    fn read(written: &[u8]) -> Option<Self>;
}

impl RequestKey {
    /// `None` without an id. `method` and `message` are what the request asks; its own encoding
    /// will do, as long as equal requests encode alike. The error says what is wrong with the id.
    pub fn new(id: &str, method: &str, message: &[u8]) -> Result<Option<Self>, Invalid> {
        if id.len() > MAX_REQUEST_ID {
            return Err(Invalid::new(
                "request_id",
                format!("must be at most {MAX_REQUEST_ID} bytes, not {}", id.len()),
            ));
        }
        let mut hash = blake3::Hasher::new();
        hash.update(method.as_bytes()).update(&[0]).update(message);
        let (name, fields) = (half(blake3::hash(id.as_bytes())), half(hash.finalize()));
        Ok((!id.is_empty()).then_some(Self { name, fields }))
    }

    /// The first answer, where this very request was made before. The error: another request had
    /// this name.
    pub fn answered(&self, first: &FirstRequest) -> Result<Vec<u8>, Invalid> {
        if first.fields == self.fields { Ok(first.answer.clone()) } else { Err(Self::taken()) }
    }

    /// Another request had this name.
    pub fn taken() -> Invalid {
        Invalid::new(
            "request_id",
            "was used for another request in the last 24 hours: use a new one for each request",
        )
    }
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash.as_bytes()).for_each(|(to, byte)| *to = *byte);
    half
}

/// The requests that were answered, and their answers, in memory alone.
#[derive(Default)]
pub struct Requests {
    answers: HashMap<[u8; 16], (FirstRequest, u64)>,
    /// Oldest first; every entry is in `answers`.
    order: VecDeque<[u8; 16]>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("remembered", &self.order.len()).finish()
    }
}

impl Requests {
    /// The request that had the name of this one, where it is remembered.
    pub fn find(&self, key: &RequestKey, now: Now) -> Option<&FirstRequest> {
        let (first, steady_ns) = self.answers.get(&key.name)?;
        (now.steady_ns.saturating_sub(*steady_ns) < KEPT_NS).then_some(first)
    }

    /// Remembers the answer to a request that [`Self::find`] did not know.
    pub fn remember(&mut self, MadeRequest { key, answer, now }: MadeRequest<'_>) {
        self.forget(now);
        let first = FirstRequest { fields: key.fields, answer };
        if self.answers.insert(key.name, (first, now.steady_ns)).is_none() {
            self.order.push_back(key.name);
        }
    }

    /// Makes room for one more, and lets go of the old.
    fn forget(&mut self, now: Now) {
        while let Some(oldest) = self.order.front() {
            let is_old =
                |(_, steady_ns): &(_, u64)| now.steady_ns.saturating_sub(*steady_ns) >= KEPT_NS;
            if !self.answers.get(oldest).is_none_or(is_old) && self.order.len() < MAX_REQUESTS {
                break;
            }
            self.answers.remove(oldest);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady_ns: u64) -> Now {
        Now { unix_ns: 1, steady_ns }
    }

    fn key(id: &str, message: &str) -> RequestKey {
        RequestKey::new(id, "Create", message.as_bytes()).unwrap().unwrap()
    }

    fn remember(requests: &mut Requests, id: &str, answer: &str, now: Now) {
        requests.remember(MadeRequest { key: &key(id, "x"), answer: answer.into(), now });
    }

    #[test]
    fn the_same_request_gets_the_first_answer_and_another_is_refused() {
        let mut requests = Requests::default();
        assert_eq!(requests.find(&key("a", "x"), at(1)), None);
        remember(&mut requests, "a", "seven", at(1));
        let answered = |key: RequestKey| key.answered(requests.find(&key, at(2)).unwrap());
        assert_eq!(answered(key("a", "x")), Ok(b"seven".to_vec()));
        assert_eq!(answered(key("a", "y")).unwrap_err().field, "request_id");
        let elsewhere = RequestKey::new("a", "Delete", b"x").unwrap().unwrap();
        assert!(answered(elsewhere).is_err(), "the same message to another method");
    }

    #[test]
    fn a_request_is_remembered_for_a_day() {
        let mut requests = Requests::default();
        remember(&mut requests, "a", "seven", at(5));
        assert!(requests.find(&key("a", "y"), at(4 + KEPT_NS)).is_some());
        assert!(requests.find(&key("a", "y"), at(5 + KEPT_NS)).is_none());
        remember(&mut requests, "b", "eight", at(5 + KEPT_NS));
        assert_eq!(requests.answers.len(), 1);
    }

    #[test]
    fn the_newest_are_remembered() {
        let mut requests = Requests::default();
        for i in 0..=MAX_REQUESTS {
            remember(&mut requests, &i.to_string(), &i.to_string(), at(1));
        }
        assert_eq!((requests.answers.len(), requests.order.len()), (MAX_REQUESTS, MAX_REQUESTS));
        assert_eq!(requests.find(&key("0", "x"), at(1)), None);
        assert!(requests.find(&key("1", "x"), at(1)).is_some());
    }

    #[test]
    fn ids_are_bounded() {
        assert_eq!(RequestKey::new("", "m", b""), Ok(None));
        assert!(RequestKey::new(&"x".repeat(128), "m", b"").is_ok());
        assert_eq!(RequestKey::new(&"x".repeat(129), "m", b"").unwrap_err().field, "request_id");
    }
}
