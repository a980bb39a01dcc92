//! What a decision reads of the catalog. One decision reads one consistent state.

use super::compiled::{CompiledPlan, CompiledTarget};
use super::gcra::RateLimit;
use super::plan::{ApiKey, Subscriber};

/// Of which kinds some declarations are kept and cannot be read. What is not found of such a kind
/// may be one of them: it is not known to be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    pub targets: bool,
    pub plans: bool,
    pub subscribers: bool,
    pub keys: bool,
}

/// A consistent view of the declarations. Answers are by exact id; every call is O(1) and without
/// I/O.
pub trait Lookup {
    /// The API key with this presented value, whether or not it may be used now.
    fn api_key(&self, presented: &[u8]) -> Option<&ApiKey>;
    fn subscriber(&self, id: &str) -> Option<&Subscriber>;
    /// [`Self::api_key`], and its subscriber.
    fn caller(&self, presented: &[u8]) -> Option<(&ApiKey, Option<&Subscriber>)> {
        self.api_key(presented).map(|key| (key, self.subscriber(&key.subscriber)))
    }
    fn plan(&self, id: &str) -> Option<&CompiledPlan>;
    fn target(&self, id: &str) -> Option<&CompiledTarget>;
    /// The rate limit of the whole service for plan traffic.
    fn account(&self) -> Option<&RateLimit>;
    /// What cannot be read, of which nothing is found.
    fn unreadable(&self) -> Unreadable {
        Unreadable::default()
    }
    /// Which state this is: an edit makes it greater. 0 where the declarations are never edited.
    fn revision(&self) -> u64 {
        0
    }
}
