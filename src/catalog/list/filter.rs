//! The filter of a list: terms, all of which must hold.

use std::collections::BTreeSet;

use crate::catalog::snapshot::{Catalog, KeyEntry};
use crate::catalog::table::Resource;
use crate::decide::compiled::{CompiledPlan, CompiledTarget};
use crate::decide::invalid::Invalid;
use crate::decide::plan::{Id, Subscriber};

/// Bytes of a filter.
const MAX_FILTER: usize = 4_096;
/// Terms of a filter: each is looked at for every resource.
const MAX_TERMS: usize = 20;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// In lower case.
    texts: Vec<String>,
    relations: Vec<Relation>,
}

/// What a resource has to do with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Plan(String),
    Target(String),
    Subscriber(String),
}

/// A kind of resource that can be listed.
pub(super) trait Listed: Resource {
    /// Whether it is, names, or serves the one that the relation names.
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool;
    /// Ids among which all are that can be related, where the catalog knows them without a search.
    fn candidates(catalog: &Catalog, relation: &Relation) -> Option<BTreeSet<Id>>;
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > MAX_FILTER {
            return Err(wrong(format!("must be at most {MAX_FILTER} bytes")));
        }
        let mut filter = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, value, after) = term(rest)?;
            match name {
                None => filter.texts.push(value.to_lowercase()),
                Some("plan") => filter.relations.push(Relation::Plan(value)),
                Some("target") => filter.relations.push(Relation::Target(value)),
                Some("subscriber") => filter.relations.push(Relation::Subscriber(value)),
                Some(other) => {
                    let shown: String = other.chars().take(32).collect();
                    return Err(wrong(format!(
                        "knows `plan=`, `target=` and `subscriber=`, not `{shown}=` (put text that holds `=` in quotes)"
                    )));
                }
            }
            rest = after.trim_start();
        }
        if filter.texts.len() + filter.relations.len() > MAX_TERMS {
            return Err(wrong(format!("must have at most {MAX_TERMS} terms")));
        }
        Ok(filter)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.relations.is_empty()
    }

    pub(super) fn matches<T: Listed>(&self, catalog: &Catalog, resource: &T) -> bool {
        self.relations.iter().all(|relation| resource.is_related(catalog, relation)) && self.names(resource)
    }

    fn names<T: Listed>(&self, resource: &T) -> bool {
        if self.texts.is_empty() {
            return true;
        }
        let (id, name) = (resource.id().to_lowercase(), resource.about().display_name.to_lowercase());
        self.texts.iter().all(|text| id.contains(text) || name.contains(text))
    }

    /// Ids among which all matches are; `None`: everything has to be looked at.
    pub(super) fn candidates<T: Listed>(&self, catalog: &Catalog) -> Option<BTreeSet<Id>> {
        self.relations.iter().filter_map(|relation| T::candidates(catalog, relation)).min_by_key(BTreeSet::len)
    }
}

fn wrong(reason: String) -> Invalid {
    Invalid::new("filter", reason)
}

/// The first term of `text`, which is not empty: its name where it has one, its value, and what follows it.
fn term(text: &str) -> Result<(Option<&str>, String, &str), Invalid> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = unquote(quoted)?;
        return Ok((None, value, rest));
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '=' || c == '"').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let Some(value) = rest.strip_prefix('=') else {
        return if rest.starts_with('"') {
            Err(wrong("needs a space before a quote".to_owned()))
        } else {
            Ok((None, word.to_owned(), rest))
        };
    };
    let (value, rest) = match value.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let (value, rest) = value.split_at(value.find(char::is_whitespace).unwrap_or(value.len()));
            (value.to_owned(), rest)
        }
    };
    if value.is_empty() { Err(wrong(format!("needs an id after `{word}=`"))) } else { Ok((Some(word), value, rest)) }
}

/// What stands before the closing quote, and what follows it. `\"` and `\\` stand for themselves.
fn unquote(text: &str) -> Result<(String, &str), Invalid> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') => return Ok((value, chars.as_str())),
            Some('\\') => value.extend(chars.next()),
            Some(other) => value.push(other),
            None => return Err(wrong("has a quote that is not closed".to_owned())),
        }
    }
}

impl Listed for CompiledPlan {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        match relation {
            Relation::Plan(id) => **self.id() == **id,
            Relation::Target(id) => self.entitlement_for(id).is_some(),
            Relation::Subscriber(id) => plans_of_subscriber(catalog, id).contains(self.id()),
        }
    }

    fn candidates(catalog: &Catalog, relation: &Relation) -> Option<BTreeSet<Id>> {
        Some(match relation {
            Relation::Plan(id) => [id.as_str().into()].into(),
            Relation::Target(id) => catalog.plans_of(id).cloned().collect(),
            Relation::Subscriber(id) => plans_of_subscriber(catalog, id).iter().cloned().collect(),
        })
    }
}

impl Listed for CompiledTarget {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        match relation {
            Relation::Plan(id) => self.target.default_plan.as_deref() == Some(id) || catalog.covers(id, self.id()),
            Relation::Target(id) => **self.id() == **id,
            Relation::Subscriber(id) => plans_of_subscriber(catalog, id).iter().any(|plan| catalog.covers(plan, self.id())),
        }
    }

    fn candidates(catalog: &Catalog, relation: &Relation) -> Option<BTreeSet<Id>> {
        let of_plan = |plan: &str| {
            let plan = catalog.plans.get(plan).into_iter();
            plan.flat_map(|plan| &plan.value.plan.entitlements).flat_map(|one| &one.targets).cloned().collect::<Vec<_>>()
        };
        Some(match relation {
            // A default plan covers its target.
            Relation::Plan(id) => of_plan(id).into_iter().collect(),
            Relation::Target(id) => [id.as_str().into()].into(),
            Relation::Subscriber(id) => plans_of_subscriber(catalog, id).iter().flat_map(|plan| of_plan(plan)).collect(),
        })
    }
}

impl Listed for Subscriber {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        match relation {
            Relation::Plan(id) => self.plans.iter().any(|plan| **plan == **id),
            Relation::Target(id) => self.plans.iter().any(|plan| catalog.covers(plan, id)),
            Relation::Subscriber(id) => *self.id == **id,
        }
    }

    fn candidates(catalog: &Catalog, relation: &Relation) -> Option<BTreeSet<Id>> {
        Some(match relation {
            Relation::Plan(id) => catalog.subscribers_of(id).cloned().collect(),
            Relation::Target(id) => catalog.plans_of(id).flat_map(|plan| catalog.subscribers_of(plan)).cloned().collect(),
            Relation::Subscriber(id) => [id.as_str().into()].into(),
        })
    }
}

/// An API key has to do with what its subscriber has to do with.
impl Listed for KeyEntry {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        catalog.subscribers.get(&self.key.subscriber).is_some_and(|subscriber| subscriber.value.is_related(catalog, relation))
    }

    fn candidates(catalog: &Catalog, relation: &Relation) -> Option<BTreeSet<Id>> {
        let subscribers = Subscriber::candidates(catalog, relation)?;
        Some(subscribers.iter().flat_map(|subscriber| catalog.keys_of(subscriber)).cloned().collect())
    }
}

fn plans_of_subscriber<'a>(catalog: &'a Catalog, id: &str) -> &'a [Id] {
    catalog.subscribers.get(id).map_or(&[], |subscriber| &subscriber.value.plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(filter: &str) -> Vec<String> {
        Filter::parse(filter).unwrap().texts
    }

    #[test]
    fn terms() {
        assert!(Filter::parse("").unwrap().is_empty());
        assert!(Filter::parse("  \t").unwrap().is_empty());
        assert_eq!(texts("Gold"), ["gold"]);
        assert_eq!(texts("\"Gold plan\" x"), ["gold plan", "x"]);
        assert_eq!(texts(r#""a \"quoted\" word and a \\""#), [r#"a "quoted" word and a \"#]);
        assert_eq!(texts("\"plan=gold\""), ["plan=gold"]);
        let relations = Filter::parse("plan=gold target=orders/prod subscriber=\"acme\"").unwrap().relations;
        let expected = [Relation::Plan("gold".into()), Relation::Target("orders/prod".into()), Relation::Subscriber("acme".into())];
        assert_eq!(relations, expected);
    }

    #[test]
    fn wrong_filters() {
        let cases = [
            ("colour=red", "not `colour=`"),
            ("=x", "not `=`"),
            ("plan=", "needs an id after `plan=`"),
            ("plan= gold", "needs an id after `plan=`"),
            ("\"open", "not closed"),
            ("plan=\"open", "not closed"),
            ("a\"b\"", "needs a space"),
        ];
        for (filter, reason) in cases {
            let wrong = Filter::parse(filter).unwrap_err();
            assert_eq!(wrong.field, "filter");
            assert!(wrong.reason.contains(reason), "{filter}: {wrong}");
        }
        assert!(Filter::parse(&"a ".repeat(20)).is_ok());
        assert!(Filter::parse(&"a ".repeat(21)).is_err());
        assert!(Filter::parse(&"a".repeat(4_096)).is_ok());
        assert!(Filter::parse(&"a".repeat(4_097)).is_err());
    }
}
