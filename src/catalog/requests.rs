//! Requests that were answered, so that a retry gets the first answer and changes nothing.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::decide::invalid::Invalid;
use crate::decide::time::{Now, SECOND_NS};

/// Requests remembered: the newest.
pub const MAX_REQUESTS: usize = 10_000;
/// How long a request is remembered.
pub const KEPT_NS: u64 = 24 * 3_600 * SECOND_NS;
/// Bytes of a `request_id`.
pub const MAX_REQUEST_ID: usize = 128;

/// The name that a caller gave to a request, and a hash of all that it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    id: String,
    fingerprint: [u8; 32],
}

impl RequestKey {
    /// `None` without an id. `method` and `message` are what the request asks; its own encoding will do, as long as equal requests encode alike.
    /// The error says what is wrong with the id.
    pub fn new(id: &str, method: &str, message: &[u8]) -> Result<Option<Self>, Invalid> {
        if id.len() > MAX_REQUEST_ID {
            return Err(Invalid::new("request_id", format!("must be at most {MAX_REQUEST_ID} bytes, not {}", id.len())));
        }
        let mut hash = blake3::Hasher::new();
        hash.update(method.as_bytes()).update(&[0]).update(message);
        Ok((!id.is_empty()).then(|| Self { id: id.to_owned(), fingerprint: *hash.finalize().as_bytes() }))
    }
}

/// The requests that were answered, and their answers.
#[derive(Default)]
pub struct Requests {
    answers: HashMap<String, Answered>,
    /// Oldest first; every entry is in `answers`.
    order: VecDeque<String>,
}

struct Answered {
    fingerprint: [u8; 32],
    steady_ns: u64,
    answer: Box<dyn Any + Send>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("remembered", &self.order.len()).finish()
    }
}

impl Requests {
    /// The first answer to this very request, where it is remembered. The error: another request had this id.
    pub fn find<A: Clone + 'static>(&self, key: &RequestKey, now: Now) -> Result<Option<A>, Invalid> {
        let Some(first) = self.answers.get(&key.id).filter(|first| now.steady_ns.saturating_sub(first.steady_ns) < KEPT_NS) else {
            return Ok(None);
        };
        let same = first.fingerprint == key.fingerprint;
        match first.answer.downcast_ref::<A>().filter(|_| same) {
            Some(answer) => Ok(Some(answer.clone())),
            None => Err(Invalid::new("request_id", "was used for another request in the last 24 hours")),
        }
    }

    /// Remembers the answer to a request that [`Self::find`] did not know.
    pub fn remember<A: Clone + Send + 'static>(&mut self, key: RequestKey, answer: &A, now: Now) {
        self.forget(now);
        let answered = Answered { fingerprint: key.fingerprint, steady_ns: now.steady_ns, answer: Box::new(answer.clone()) };
        if self.answers.insert(key.id.clone(), answered).is_none() {
            self.order.push_back(key.id);
        }
    }

    /// Makes room for one more, and lets go of the old.
    fn forget(&mut self, now: Now) {
        while let Some(oldest) = self.order.front() {
            let old = self.answers.get(oldest).is_none_or(|first| now.steady_ns.saturating_sub(first.steady_ns) >= KEPT_NS);
            if !old && self.order.len() < MAX_REQUESTS {
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

    #[test]
    fn the_same_request_gets_the_first_answer_and_another_is_refused() {
        let mut requests = Requests::default();
        assert_eq!(requests.find::<u32>(&key("a", "x"), at(1)), Ok(None));
        requests.remember(key("a", "x"), &7_u32, at(1));
        assert_eq!(requests.find::<u32>(&key("a", "x"), at(2)), Ok(Some(7)));
        assert_eq!(requests.find::<u32>(&key("a", "y"), at(2)).unwrap_err().field, "request_id");
        assert!(requests.find::<String>(&key("a", "x"), at(2)).is_err(), "an answer of another kind");
        let elsewhere = RequestKey::new("a", "Delete", b"x").unwrap().unwrap();
        assert!(requests.find::<u32>(&elsewhere, at(2)).is_err(), "the same message to another method");
    }

    #[test]
    fn a_request_is_remembered_for_a_day() {
        let mut requests = Requests::default();
        requests.remember(key("a", "x"), &7_u32, at(5));
        assert_eq!(requests.find::<u32>(&key("a", "y"), at(4 + KEPT_NS)).map_err(|wrong| wrong.field), Err("request_id".to_owned()));
        assert_eq!(requests.find::<u32>(&key("a", "y"), at(5 + KEPT_NS)), Ok(None));
        requests.remember(key("b", "x"), &8_u32, at(5 + KEPT_NS));
        assert_eq!(requests.answers.len(), 1);
    }

    #[test]
    fn the_newest_are_remembered() {
        let mut requests = Requests::default();
        for i in 0..=MAX_REQUESTS {
            requests.remember(key(&i.to_string(), "x"), &i, at(1));
        }
        assert_eq!((requests.answers.len(), requests.order.len()), (MAX_REQUESTS, MAX_REQUESTS));
        assert_eq!(requests.find::<usize>(&key("0", "x"), at(1)), Ok(None));
        assert_eq!(requests.find::<usize>(&key("1", "x"), at(1)), Ok(Some(1)));
    }

    #[test]
    fn ids_are_bounded() {
        assert_eq!(RequestKey::new("", "m", b""), Ok(None));
        assert!(RequestKey::new(&"x".repeat(128), "m", b"").is_ok());
        assert_eq!(RequestKey::new(&"x".repeat(129), "m", b"").unwrap_err().field, "request_id");
    }
}
