//! How a request ended, and which quotas count it.
//!
//! | outcome | default | with `countStatuses` |
//! |---|---|---|
//! | a status from the target | 1xx to 4xx | as listed |
//! | a 4xx that the gateway itself made | no | no |
//! | a 5xx that the gateway itself made | no | no |
//! | another status that the gateway itself made | yes | as listed |
//! | no response | no | no |
//! | the caller went away, or nobody reported | yes | yes |
//!
//! `countStatuses` lists responses of the target. A 4xx or 5xx of the gateway's own is none, so it
//! is never counted; what a gateway answers in the target's name (a redirect, a cached 200) is
//! taken for the target's.

use super::plan::CountStatuses;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub ending: Ending,
    /// The gateway made the response; the target never saw the request.
    pub made_by_gateway: bool,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An HTTP status, 100 to 599.
    Http(u16),
    /// A gRPC status, 0 to 16.
    Grpc(u8),
    /// The target gave no response.
    NoResponse,
    /// The caller went away before the response.
    CallerGone,
}

/// What a statistic files an outcome under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Informational,
    Success,
    Redirect,
    CallerError,
    TargetError,
    NoResponse,
    CallerGone,
}

impl Class {
    pub const ALL: [Self; 7] = [
        Self::Informational,
        Self::Success,
        Self::Redirect,
        Self::CallerError,
        Self::TargetError,
        Self::NoResponse,
        Self::CallerGone,
    ];

    /// `1xx` to `5xx`, `no_response`, `caller_gone`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::CallerError => "4xx",
            Self::TargetError => "5xx",
            Self::NoResponse => "no_response",
            Self::CallerGone => "caller_gone",
        }
    }
}

/// The HTTP status that stands for each gRPC status, by its number. UNKNOWN, DEADLINE_EXCEEDED,
/// UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS are 5xx, the other errors 4xx.
const HTTP_OF_GRPC: [u16; 17] =
    [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

impl Outcome {
    /// A response of the target.
    pub fn http(status: u16) -> Self {
        Self { ending: Ending::Http(status), made_by_gateway: false }
    }

    /// Any ending, not made by the gateway.
    pub fn of(ending: Ending) -> Self {
        Self { ending, made_by_gateway: false }
    }

    /// The class, or `None` for a status out of range.
    pub fn class(&self) -> Option<Class> {
        match self.ending {
            Ending::NoResponse => Some(Class::NoResponse),
            Ending::CallerGone => Some(Class::CallerGone),
            Ending::Http(_) | Ending::Grpc(_) => match self.status()? / 100 {
                1 => Some(Class::Informational),
                2 => Some(Class::Success),
                3 => Some(Class::Redirect),
                4 => Some(Class::CallerError),
                _ => Some(Class::TargetError),
            },
        }
    }

    /// The HTTP status of a response, or the one that stands for its gRPC status. `None`: there is
    /// none, or it is out of range.
    fn status(&self) -> Option<u16> {
        match self.ending {
            Ending::Http(status) => (100..=599).contains(&status).then_some(status),
            Ending::Grpc(status) => HTTP_OF_GRPC.get(usize::from(status)).copied(),
            Ending::NoResponse | Ending::CallerGone => None,
        }
    }
}

/// Which statuses a quota counts: one bit for each of 100 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CountRule([u64; 8]);

impl Default for CountRule {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl CountRule {
    /// 1xx to 4xx.
    pub const DEFAULT: Self =
        Self([u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX, (1 << 16) - 1, 0]);

    /// What a plan declares.
    pub fn of(declared: &CountStatuses) -> Self {
        let mut rule = Self([0; 8]);
        let named = |class: u16| declared.codes.iter().any(|code| code / 100 == class);
        for (class, &counted) in (1u16..).zip(&declared.classes) {
            if counted || (declared.others && !named(class)) {
                (class * 100..class * 100 + 100).for_each(|status| rule.add(status));
            }
        }
        declared.codes.iter().for_each(|&code| rule.add(code));
        rule
    }

    /// One bit for each status from 100 on, as [`Self::of_bits`] reads them.
    pub fn bits(&self) -> [u64; 8] {
        self.0
    }

    /// The rule that was written so.
    pub fn of_bits(bits: [u64; 8]) -> Self {
        Self(bits)
    }

    fn add(&mut self, status: u16) {
        if let Some((word, bit)) = Self::place(status)
            && let Some(word) = self.0.get_mut(word)
        {
            *word |= bit;
        }
    }

    fn place(status: u16) -> Option<(usize, u64)> {
        let index = status.checked_sub(100).filter(|&index| index < 500)?;
        Some((usize::from(index / 64), 1 << (index % 64)))
    }

    fn has(&self, status: u16) -> bool {
        Self::place(status)
            .is_some_and(|(word, bit)| self.0.get(word).is_some_and(|word| word & bit != 0))
    }

    /// Does a quota of this rule count a request that ended so? A status out of range is not
    /// counted.
    pub fn counts(&self, outcome: &Outcome) -> bool {
        match outcome.ending {
            Ending::CallerGone => true,
            Ending::NoResponse => false,
            Ending::Http(_) | Ending::Grpc(_) => outcome.status().is_some_and(|status| {
                !(outcome.made_by_gateway && status >= 400) && self.has(status)
            }),
        }
    }
}

#[cfg(test)]
mod tests;
