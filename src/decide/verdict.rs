//! What a decision says.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::plan::Id;

/// May the request be made?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow {
        /// A quota whose breach is allowed is used up.
        over_quota: bool,
    },
    Deny {
        /// The first failure in the fixed order.
        reason: Reason,
        /// From now to the earliest moment at which the same request can pass, if nothing else is
        /// charged until then. `None`: waiting cannot help.
        retry_after_ns: Option<u64>,
    },
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Allow { .. } => None,
            Self::Deny { reason, .. } => Some(*reason),
        }
    }
}

/// Why a request was refused. In the order of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    ApiKeyMissing,
    ApiKeyUnknown,
    ApiKeyDisabled,
    ApiKeyNotYetValid,
    ApiKeyExpired,
    NotSubscribed,
    RateExceeded,
    MethodRateExceeded,
    TargetRateExceeded,
    AccountRateExceeded,
    QuotaExceeded,
    LedgerUnavailable,
    InvalidRequest,
}

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::ApiKeyMissing,
        Self::ApiKeyUnknown,
        Self::ApiKeyDisabled,
        Self::ApiKeyNotYetValid,
        Self::ApiKeyExpired,
        Self::NotSubscribed,
        Self::RateExceeded,
        Self::MethodRateExceeded,
        Self::TargetRateExceeded,
        Self::AccountRateExceeded,
        Self::QuotaExceeded,
        Self::LedgerUnavailable,
        Self::InvalidRequest,
    ];

    /// What the gateway should answer.
    pub fn http_status(self) -> u16 {
        match self {
            Self::ApiKeyMissing
            | Self::ApiKeyUnknown
            | Self::ApiKeyDisabled
            | Self::ApiKeyNotYetValid
            | Self::ApiKeyExpired
            | Self::NotSubscribed => 403,
            Self::RateExceeded
            | Self::MethodRateExceeded
            | Self::TargetRateExceeded
            | Self::AccountRateExceeded
            | Self::QuotaExceeded => 429,
            Self::LedgerUnavailable => 503,
            Self::InvalidRequest => 400,
        }
    }

    /// As the contract spells it: `RATE_EXCEEDED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiKeyMissing => "API_KEY_MISSING",
            Self::ApiKeyUnknown => "API_KEY_UNKNOWN",
            Self::ApiKeyDisabled => "API_KEY_DISABLED",
            Self::ApiKeyNotYetValid => "API_KEY_NOT_YET_VALID",
            Self::ApiKeyExpired => "API_KEY_EXPIRED",
            Self::NotSubscribed => "NOT_SUBSCRIBED",
            Self::RateExceeded => "RATE_EXCEEDED",
            Self::MethodRateExceeded => "METHOD_RATE_EXCEEDED",
            Self::TargetRateExceeded => "TARGET_RATE_EXCEEDED",
            Self::AccountRateExceeded => "ACCOUNT_RATE_EXCEEDED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::LedgerUnavailable => "LEDGER_UNAVAILABLE",
            Self::InvalidRequest => "INVALID_REQUEST",
        }
    }
}

/// One limit that a request met, as it stands after the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus<'a> {
    /// `rate`, `method:GET /users/{id}`, `target`, `target:GET /users`, `account`, or the name of
    /// the quota.
    pub name: Cow<'a, str>,
    /// Where it comes from. Names are for people: a quota may be called `account`.
    pub scope: LimitScope,
    pub kind: LimitKind,
    /// The burst of a rate limit, the limit of a quota with its grants.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// Until the burst is whole again, or the next period starts.
    pub reset_after_ns: u64,
    /// The time in which a rate limit refills from empty, or the length of the period.
    pub window_ns: u64,
    /// It refused the request, or would have, were its breach not allowed.
    pub violated: bool,
    /// Its breach refuses a request.
    pub enforced: bool,
    /// From now until this limit alone lets the same request pass; 0 where it does. `None`: it
    /// never will.
    pub wait_ns: Option<u64>,
}

impl LimitStatus<'_> {
    /// Does it refuse the request?
    pub fn refuses(&self) -> bool {
        self.violated && self.enforced
    }

    /// How long until it changes for the caller: until the same request passes where it was
    /// refused, else until the limit is whole again.
    pub fn settles_after_ns(&self) -> u64 {
        if self.refuses() {
            self.wait_ns.unwrap_or(self.reset_after_ns)
        } else {
            self.reset_after_ns
        }
    }
}

/// What declares a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitScope {
    /// The general rate limit, or a quota, of the entitlement.
    Entitlement,
    /// A method rate limit of the entitlement.
    Method,
    /// The target, for all its traffic: its general limit, or one of a method.
    Target,
    /// The whole service.
    Account,
}

impl LimitScope {
    /// Is it the caller's own, and not shared with other subscribers?
    pub fn is_own(self) -> bool {
        matches!(self, Self::Entitlement | Self::Method)
    }

    /// Why a request is refused that exceeds a rate limit which is declared here.
    pub fn rate_exceeded(self) -> Reason {
        match self {
            Self::Entitlement => Reason::RateExceeded,
            Self::Method => Reason::MethodRateExceeded,
            Self::Target => Reason::TargetRateExceeded,
            Self::Account => Reason::AccountRateExceeded,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    Rate,
    Quota,
}

/// The limits of one decision: few enough not to need an allocation in the usual case.
pub type Limits<'a> = SmallVec<[LimitStatus<'a>; 4]>;

/// A decision. Borrows names from the declarations that it was made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    pub verdict: Verdict,
    /// Empty where the decision fell before it was known; likewise the next two.
    pub plan: Cow<'a, str>,
    pub entitlement: Cow<'a, str>,
    pub subscriber: Cow<'a, str>,
    /// Every limit that the request met, in the order of the decision.
    pub limits: Limits<'a>,
    /// On an admission under an entitlement that has a quota.
    pub receipt: Option<String>,
    /// What an operator should know about a refusal, beyond its reason.
    pub note: Option<Note>,
}

/// A mistake in the declarations that a decision ran into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    #[error(
        "the default plan `{plan}` of the target `{target}` has no entitlement that covers it: add the target to the plan, or name another plan"
    )]
    DefaultPlanDoesNotCover { target: Id, plan: Id },
    #[error("the API key `{key}` belongs to the subscriber `{subscriber}`, who does not exist")]
    SubscriberMissing { key: Id, subscriber: Id },
}

impl Decision<'_> {
    /// The one limit to show where there is room for one: of a refusal the limit that keeps the
    /// caller longest, else the one of the caller's own limits that refuses first. Of equals, the
    /// one that takes longest to be whole again.
    pub fn tightest(&self) -> Option<&LimitStatus<'_>> {
        let refusing =
            self.limits.iter().filter(|limit| !self.verdict.is_allowed() && limit.refuses());
        let longest =
            |limit: &&LimitStatus<'_>| (limit.wait_ns.unwrap_or(u64::MAX), limit.reset_after_ns);
        refusing.max_by_key(longest).or_else(|| {
            let own = self.limits.iter().filter(|limit| limit.scope.is_own());
            own.min_by_key(|limit| {
                (!limit.enforced, limit.remaining, std::cmp::Reverse(limit.reset_after_ns))
            })
        })
    }

    /// A refusal that fell before anything about the caller was known.
    pub fn refused(reason: Reason, retry_after_ns: Option<u64>) -> Self {
        let nothing = Cow::Borrowed("");
        Self {
            verdict: Verdict::Deny { reason, retry_after_ns },
            plan: nothing.clone(),
            entitlement: nothing.clone(),
            subscriber: nothing,
            limits: Limits::new(),
            receipt: None,
            note: None,
        }
    }

    /// The same decision, owning its names.
    pub fn into_owned<'b>(self) -> Decision<'b> {
        let owned = |name: Cow<'_, str>| Cow::Owned(name.into_owned());
        Decision {
            verdict: self.verdict,
            plan: owned(self.plan),
            entitlement: owned(self.entitlement),
            subscriber: owned(self.subscriber),
            limits: self
                .limits
                .into_iter()
                .map(|limit| LimitStatus { name: Cow::Owned(limit.name.into_owned()), ..limit })
                .collect(),
            receipt: self.receipt,
            note: self.note,
        }
    }
}
