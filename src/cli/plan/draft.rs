//! A plan as flags and a file declare it.

use std::path::PathBuf;

use crate::cli::Failure;
use crate::cli::client::about::{About, Given, list};
use crate::cli::client::output::note;
use crate::cli::client::{file, quota};
use crate::grpc::json;
use crate::grpc::pb::tollgate::{Entitlement, Quota, RateLimit, UsagePlan};

/// The entitlement that flags make where no name is given.
const ENTITLEMENT: &str = "default";

const GIVES: &str = "What it gives (one entitlement; a file can have several)";

#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Draft {
    /// The plan's id; where a file names one, this replaces it
    id: Option<String>,
    /// A plan in JSON (or YAML): tollgate's own, or a usage-plan file of OCI as it is. Flags
    /// replace what it says
    #[arg(long, value_name = "FILE|-")]
    from_json: Option<PathBuf>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    gives: Gives,
}

/// What one entitlement gives.
#[derive(Clone, Debug, Default, clap::Args)]
struct Gives {
    /// Which entitlement the flags below are about [default: the only one, or a new one called
    /// `default`]
    #[arg(long, help_heading = GIVES, value_name = "NAME")]
    entitlement: Option<String>,
    /// A target that it covers, repeatable; together they replace those that it covers
    #[arg(long = "target", help_heading = GIVES, value_name = "ID", value_delimiter = ',')]
    targets: Vec<String>,
    /// Requests per second
    #[arg(long, help_heading = GIVES, value_name = "N", conflicts_with = "no_rate")]
    rate: Option<f64>,
    /// The most that can pass at once [default: what was set, else the rate rounded up]
    #[arg(long, help_heading = GIVES, value_name = "N", conflicts_with = "no_rate")]
    burst: Option<u64>,
    /// Take the rate limit away
    #[arg(long, help_heading = GIVES)]
    no_rate: bool,
    /// A quota, repeatable; together they replace those that it has. For example daily=100/day,
    /// month=2000/month@Asia/Seoul:allow
    #[arg(long = "quota", help_heading = GIVES, value_name = "NAME=LIMIT/UNIT[@ZONE][:allow]", value_parser = quota::parse, conflicts_with = "no_quotas")]
    quotas: Vec<Quota>,
    /// Take all quotas away
    #[arg(long, help_heading = GIVES)]
    no_quotas: bool,
}

/// What was read of a draft, before it is laid over what a plan has.
#[derive(Clone, Debug)]
pub(super) struct Read {
    plan: UsagePlan,
    given: Given,
    gives: Gives,
}

impl Draft {
    /// Reads the file, and puts the flags over it.
    pub(super) fn read(self) -> Result<Read, Failure> {
        let (mut plan, mut given) = match (self.from_json, self.id) {
            (Some(path), id) => from_file(&path, id)?,
            (None, Some(id)) => (UsagePlan { id, ..UsagePlan::default() }, Given::default()),
            (None, None) => {
                return Err(Failure::unusable("name the plan: its id, or a file with --from-json"));
            }
        };
        self.about.put(&mut given, &mut plan.display_name, &mut plan.description, &mut plan.labels);
        Ok(Read { plan, given, gives: self.gives })
    }
}

fn from_file(path: &std::path::Path, id: Option<String>) -> Result<(UsagePlan, Given), Failure> {
    let document = file::document(path)?;
    let read = json::named_usage_plan(document.value.clone(), id)
        .map_err(|mistakes| document.refused(&mistakes))?;
    read.notes.into_iter().for_each(|text| note(&format!("{}: {text}", file::name(path))));
    Ok((read.message, Given::in_mask(&read.mask)))
}

impl Read {
    pub(super) fn id(&self) -> String {
        self.plan.id.clone()
    }

    /// Must the plan be read before it can be changed so?
    pub(super) fn needs_entitlements(&self) -> bool {
        self.gives.say_something() && !self.given.has("entitlements")
    }

    /// The plan, and which of its fields were given. `entitlements` are those that the plan has,
    /// where [`Self::needs_entitlements`].
    pub(super) fn over(
        mut self,
        entitlements: Vec<Entitlement>,
    ) -> Result<(UsagePlan, Given), Failure> {
        if self.gives.say_something() {
            if !self.given.has("entitlements") {
                self.plan.entitlements = entitlements;
            }
            self.gives.put(&mut self.plan.entitlements)?;
            self.given.add("entitlements");
        }
        Ok((self.plan, self.given))
    }
}

impl Gives {
    fn say_something(&self) -> bool {
        let Self { entitlement, targets, rate, burst, no_rate, quotas, no_quotas } = self;
        entitlement.is_some()
            || !targets.is_empty()
            || rate.is_some()
            || burst.is_some()
            || *no_rate
            || !quotas.is_empty()
            || *no_quotas
    }

    fn put(self, entitlements: &mut Vec<Entitlement>) -> Result<(), Failure> {
        let entitlement = one_of(entitlements, self.entitlement)?;
        if let Some(targets) = list(self.targets, false) {
            entitlement.targets = targets;
        }
        if let Some(quotas) = list(self.quotas, self.no_quotas) {
            entitlement.quotas = quotas;
        }
        if self.no_rate {
            entitlement.rate_limit = None;
        }
        if let Some(requests_per_second) = self.rate {
            // A burst that was set stays, as all that is not given does.
            let burst =
                self.burst.or(entitlement.rate_limit.as_ref().and_then(|before| before.burst));
            entitlement.rate_limit = Some(RateLimit { requests_per_second, burst });
        } else if let Some(burst) = self.burst {
            let limit = entitlement
                .rate_limit
                .as_mut()
                .ok_or_else(|| Failure::unusable("--burst needs a --rate: there is none yet"))?;
            limit.burst = Some(burst);
        }
        Ok(())
    }
}

/// The entitlement that flags are about, made where it is not there.
fn one_of(
    entitlements: &mut Vec<Entitlement>,
    name: Option<String>,
) -> Result<&mut Entitlement, Failure> {
    let at = match &name {
        Some(name) => entitlements.iter().position(|entitlement| entitlement.name == *name),
        None if entitlements.len() > 1 => {
            let names: Vec<&str> =
                entitlements.iter().map(|entitlement| entitlement.name.as_str()).collect();
            return Err(Failure::unusable(format!(
                "say which entitlement is meant with --entitlement: {}",
                names.join(", ")
            )));
        }
        None => (!entitlements.is_empty()).then_some(0),
    };
    let at = at.unwrap_or_else(|| {
        entitlements.push(Entitlement {
            name: name.unwrap_or_else(|| ENTITLEMENT.to_owned()),
            ..Entitlement::default()
        });
        entitlements.len() - 1
    });
    entitlements.get_mut(at).ok_or_else(|| Failure::failed("the plan has no entitlement"))
}

#[cfg(test)]
mod tests;
