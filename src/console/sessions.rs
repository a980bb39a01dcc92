//! Who is signed in. A browser keeps a random word in a cookie; here is its hash, and the hash of
//! the token that the person signed in with.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metrics::Gauge;
use parking_lot::Mutex;

use crate::access::TokenHash;
use crate::decide::time::SECOND_NS;
use crate::metrics::Metrics;

/// A session ends when nothing was asked for so long,
pub(super) const IDLE_NS: u64 = 30 * 60 * SECOND_NS;
/// and when it is so old.
pub(super) const LONGEST_NS: u64 = 12 * 3_600 * SECOND_NS;
/// Sessions at a time. One more takes the place of the one that was used longest ago.
const MOST: usize = 1_000;

/// Sessions of one token. One more ends its own that was used longest ago, and nobody else's.
const MOST_OF_A_TOKEN: usize = 50;

/// Names a session without opening it.
pub(super) type SessionId = [u8; 32];

#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<HashMap<SessionId, Session>>,
    shown: Gauge,
}

#[derive(Debug)]
struct Session {
    token: TokenHash,
    since_ns: u64,
    seen_ns: u64,
}

impl Session {
    fn is_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.seen_ns) >= IDLE_NS
            || now_ns.saturating_sub(self.since_ns) >= LONGEST_NS
    }
}

impl Sessions {
    pub(super) fn new(metrics: &Metrics) -> Self {
        metrics.describe_gauge(
            "tollgate_console_sessions",
            "People who are signed in to the console; at 1,000 one more ends the one that was used longest ago",
        );
        Self { open: Mutex::default(), shown: metrics.gauge("tollgate_console_sessions", &[]) }
    }

    /// Opens a session, at an instant of the steady clock. The answer is the word for the cookie.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(super) fn open(&self, token: TokenHash, now_ns: u64) -> Result<String, getrandom::Error> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)?;
        let word = URL_SAFE_NO_PAD.encode(random);
        let mut open = self.open.lock();
        open.retain(|_, session| !session.is_over(now_ns));
        let own = open.values().filter(|session| session.token == token).count();
        if own >= MOST_OF_A_TOKEN || open.len() >= MOST {
            let may_end = |session: &Session| own < MOST_OF_A_TOKEN || session.token == token;
            let longest_ago = open.iter().filter(|(_, session)| may_end(session));
            let longest_ago = longest_ago.min_by_key(|(_, session)| session.seen_ns);
            longest_ago.map(|(id, _)| *id).and_then(|id| open.remove(&id));
        }
        open.insert(id_of(&word), Session { token, since_ns: now_ns, seen_ns: now_ns });
        self.show(&open);
        Ok(word)
    }

    /// The session of a cookie's word, and the token that it was opened with; it counts as used
    /// now.
    pub(super) fn find(&self, word: &str, now_ns: u64) -> Option<(SessionId, TokenHash)> {
        let id = id_of(word);
        let mut open = self.open.lock();
        let session = open.get_mut(&id)?;
        if session.is_over(now_ns) {
            open.remove(&id);
            self.show(&open);
            return None;
        }
        session.seen_ns = now_ns;
        Some((id, session.token))
    }

    pub(super) fn close(&self, id: &SessionId) {
        let mut open = self.open.lock();
        open.remove(id);
        self.show(&open);
    }

    #[allow(clippy::cast_precision_loss)]
    fn show(&self, open: &HashMap<SessionId, Session>) {
        self.shown.set(open.len() as f64);
    }
}

fn id_of(word: &str) -> SessionId {
    *blake3::hash(word.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Token;

    fn sessions() -> Sessions {
        Sessions { open: Mutex::default(), shown: Gauge::noop() }
    }

    fn token() -> TokenHash {
        Token::new().unwrap().hash()
    }

    #[test]
    fn a_session_ends_half_an_hour_after_it_was_used() {
        let sessions = sessions();
        let (token, start) = (token(), 7);
        let word = sessions.open(token, start).unwrap();
        let last = start + IDLE_NS - 1;
        assert_eq!(sessions.find(&word, last).unwrap().1, token);
        assert!(sessions.find(&word, last + IDLE_NS - 1).is_some(), "it was used since");
        assert!(sessions.find(&word, last + 2 * IDLE_NS - 1).is_none());
        assert!(sessions.find(&word, last + IDLE_NS).is_none(), "what is over stays so");
    }

    #[test]
    fn a_session_ends_after_twelve_hours_however_much_it_is_used() {
        let sessions = sessions();
        let word = sessions.open(token(), 0).unwrap();
        let step = IDLE_NS - 1;
        let mut now = 0;
        while now + step < LONGEST_NS {
            now += step;
            assert!(sessions.find(&word, now).is_some());
        }
        assert!(sessions.find(&word, LONGEST_NS - 1).is_some());
        assert!(sessions.find(&word, LONGEST_NS).is_none());
    }

    #[test]
    fn one_that_was_closed_is_no_more_and_others_stay() {
        let sessions = sessions();
        let (one, other) = (sessions.open(token(), 0).unwrap(), sessions.open(token(), 0).unwrap());
        assert_ne!(one, other);
        let (id, _) = sessions.find(&one, 0).unwrap();
        sessions.close(&id);
        assert!(sessions.find(&one, 0).is_none() && sessions.find(&other, 0).is_some());
        assert!(sessions.find("", 0).is_none() && sessions.find(&other[1..], 0).is_none());
    }

    #[test]
    fn a_token_has_so_many_and_one_more_ends_its_own_alone() {
        let sessions = sessions();
        let (many, other) = (token(), token());
        let of_other = sessions.open(other, 0).unwrap();
        let words: Vec<_> =
            (1..=MOST_OF_A_TOKEN as u64).map(|now| sessions.open(many, now).unwrap()).collect();
        assert_eq!(sessions.open.lock().len(), MOST_OF_A_TOKEN + 1);
        let one_more = sessions.open(many, 1_000).unwrap();
        assert_eq!(sessions.open.lock().len(), MOST_OF_A_TOKEN + 1);
        assert!(sessions.find(&words[0], 1_000).is_none());
        for stays in [&of_other, &words[1], &one_more] {
            assert!(sessions.find(stays, 1_000).is_some());
        }
    }

    #[test]
    fn there_are_so_many_and_one_more_ends_the_one_that_was_used_longest_ago() {
        let sessions = sessions();
        let words: Vec<_> =
            (0..MOST as u64).map(|now| sessions.open(token(), now).unwrap()).collect();
        assert!(sessions.find(&words[0], 5_000).is_some(), "used now: the second is the idlest");
        let one_more = sessions.open(token(), 5_000).unwrap();
        assert_eq!(sessions.open.lock().len(), MOST);
        assert!(sessions.find(&words[1], 5_000).is_none());
        assert!(sessions.find(&words[0], 5_000).is_some());
        assert!(sessions.find(&one_more, 5_000).is_some());
    }
}
