//! Which fields of a resource a declaration says something of, and what a resource is when only
//! those change.

use crate::decide::plan::{About, ApiKey, Dates, Plan, Rate, Said, Subscriber, Target};

/// What is said of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated<T> {
    /// Where there is none of its id yet, it becomes this.
    pub value: T,
    /// The fields that are said; of one that exists the others stay.
    pub fields: Fields,
}

/// All of it is said.
impl<T> From<T> for Stated<T> {
    fn from(value: T) -> Self {
        Self { value, fields: Fields::ALL }
    }
}

/// A field of a resource that can be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    DisplayName,
    Description,
    Labels,
    Entitlements,
    RateLimit,
    /// The rate of the rate limit, and not its burst.
    RequestsPerSecond,
    MethodRateLimits,
    OpenMethods,
    DefaultPlan,
    Plans,
    /// Of a subscriber: which API keys it has. Of importance to `prune` alone.
    Keys,
    Enabled,
    NotBefore,
    ExpireTime,
}

impl Field {
    const ALL: [Self; 14] = [
        Self::DisplayName,
        Self::Description,
        Self::Labels,
        Self::Entitlements,
        Self::RateLimit,
        Self::RequestsPerSecond,
        Self::MethodRateLimits,
        Self::OpenMethods,
        Self::DefaultPlan,
        Self::Plans,
        Self::Keys,
        Self::Enabled,
        Self::NotBefore,
        Self::ExpireTime,
    ];

    /// The name of the contract, as a mask has it.
    pub fn path(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Description => "description",
            Self::Labels => "labels",
            Self::Entitlements => "entitlements",
            Self::RateLimit => "rate_limit",
            Self::RequestsPerSecond => "rate_limit.requests_per_second",
            Self::MethodRateLimits => "method_rate_limits",
            Self::OpenMethods => "open_methods",
            Self::DefaultPlan => "default_plan",
            Self::Plans => "plans",
            Self::Keys => "keys",
            Self::Enabled => "enabled",
            Self::NotBefore => "not_before",
            Self::ExpireTime => "expire_time",
        }
    }
}

/// Fields of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u16);

impl Fields {
    /// Every field that there is.
    pub const ALL: Self = Self(u16::MAX);

    /// The fields of these paths. A path that is none of a field says nothing.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut fields = Self::default();
        for path in paths {
            Field::ALL
                .into_iter()
                .filter(|field| field.path() == path)
                .for_each(|field| fields.add(field));
        }
        fields
    }

    /// Adds a field.
    pub fn add(&mut self, field: Field) {
        self.0 |= 1 << field as u16;
    }

    /// Whether `field` is among them.
    pub fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u16 != 0
    }

    /// What is said, or what was before.
    fn choose<T: Clone>(self, field: Field, before: &T, said: &T) -> T {
        if self.has(field) { said.clone() } else { before.clone() }
    }
}

fn about(before: &About, said: &About, fields: Fields) -> About {
    let about = Said {
        display_name: fields.choose(Field::DisplayName, &before.display_name, &said.display_name),
        description: fields.choose(Field::Description, &before.description, &said.description),
        labels: fields.choose(Field::Labels, &before.labels, &said.labels),
    };
    about.into()
}

fn rate_limit(before: Option<Rate>, said: Option<Rate>, fields: Fields) -> Option<Rate> {
    if !fields.has(Field::RateLimit) && fields.has(Field::RequestsPerSecond) {
        return said.map(|said| Rate {
            burst: said.burst.or(before.and_then(|before| before.burst)),
            ..said
        });
    }
    fields.choose(Field::RateLimit, &before, &said)
}

/// The target with what is said of it.
pub(super) fn target(before: &Target, Stated { value: said, fields }: &Stated<Target>) -> Target {
    Target {
        id: said.id.clone(),
        about: about(&before.about, &said.about, *fields),
        rate_limit: rate_limit(before.rate_limit, said.rate_limit, *fields),
        method_rate_limits: fields.choose(
            Field::MethodRateLimits,
            &before.method_rate_limits,
            &said.method_rate_limits,
        ),
        open_methods: fields.choose(Field::OpenMethods, &before.open_methods, &said.open_methods),
        default_plan: fields.choose(Field::DefaultPlan, &before.default_plan, &said.default_plan),
    }
}

/// The plan with what is said of it.
pub(super) fn plan(before: &Plan, Stated { value: said, fields }: &Stated<Plan>) -> Plan {
    Plan {
        id: said.id.clone(),
        about: about(&before.about, &said.about, *fields),
        entitlements: fields.choose(Field::Entitlements, &before.entitlements, &said.entitlements),
    }
}

/// The subscriber with what is said of it.
pub(super) fn subscriber(
    before: &Subscriber,
    Stated { value: said, fields }: &Stated<Subscriber>,
) -> Subscriber {
    Subscriber {
        id: said.id.clone(),
        plans: fields.choose(Field::Plans, &before.plans, &said.plans),
        about: about(&before.about, &said.about, *fields),
    }
}

/// The API key with what is said of it. Whose it is is always said.
pub(super) fn key(before: &ApiKey, Stated { value: said, fields }: &Stated<ApiKey>) -> ApiKey {
    let (old, new) = (&*before.dates, &*said.dates);
    let dates = Dates {
        not_before_ns: fields.choose(Field::NotBefore, &old.not_before_ns, &new.not_before_ns),
        expire_ns: fields.choose(Field::ExpireTime, &old.expire_ns, &new.expire_ns),
    };
    ApiKey {
        id: said.id.clone(),
        dates: dates.into(),
        enabled: fields.choose(Field::Enabled, &before.enabled, &said.enabled),
        subscriber: said.subscriber.clone(),
        about: about(&before.about, &said.about, *fields),
        last_four: before.last_four,
    }
}
