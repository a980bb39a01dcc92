//! The filter of a list: terms, all of which must hold. The form is that of the Google API guide
//! (AIP-160), as far as it goes here: what is not understood is refused, and never just finds
//! nothing.

use std::collections::BTreeSet;

use crate::catalog::key_entry::KeyEntry;
use crate::catalog::kind::Kind;
use crate::catalog::snapshot::Catalog;
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
    fields: Vec<Field>,
}

/// What a resource has to do with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Plan(String),
    Target(String),
    Subscriber(String),
}

/// What a field of a resource must be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Id(Match),
    DisplayName(Match),
    Description(Match),
    /// `None`: whatever its value.
    Label(String, Option<String>),
    Enabled(bool),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Match {
    /// `=`
    Is(String),
    /// `:`, in lower case
    Has(String),
    /// `:*`
    Any,
}

impl Match {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(whole) => text == whole,
            Self::Has(part) => text.to_lowercase().contains(part),
            Self::Any => !text.is_empty(),
        }
    }
}

/// A kind of resource that can be listed.
pub(super) trait Listed: Resource {
    /// Whether it is, names, or serves the one that the relation names.
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool;
    /// Ids among which all are that can be related, where the catalog knows them without a search,
    /// and they are at most so many.
    fn candidates(catalog: &Catalog, relation: &Relation, most: usize) -> Option<BTreeSet<Id>>;
    /// `None`: its kind cannot be switched off.
    fn enabled(&self) -> Option<bool> {
        None
    }
}

/// A term as it is written.
#[derive(Debug, PartialEq, Eq)]
enum Term<'a> {
    Text(String),
    /// The name, whether `:` stands before the value, the value, and whether it is in quotes.
    Field {
        name: &'a str,
        has: bool,
        value: String,
        quoted: bool,
    },
}

impl Filter {
    pub(super) fn parse(text: &str, kind: Kind) -> Result<Self, Invalid> {
        if text.len() > MAX_FILTER {
            return Err(wrong(format!("must be at most {MAX_FILTER} bytes")));
        }
        let mut filter = Self::default();
        let (mut rest, mut joins) = (text.trim_start(), false);
        while !rest.is_empty() {
            if let Some(("AND", after)) = word(rest) {
                if joins || filter.is_empty() || after.trim().is_empty() {
                    return Err(wrong("needs a term on both sides of `AND`".to_owned()));
                }
                (rest, joins) = (after.trim_start(), true);
                continue;
            }
            let (found, after) = term(rest, kind)?;
            match found {
                Term::Text(text) => filter.texts.push(text.to_lowercase()),
                Term::Field { name, has, value, quoted } => {
                    filter.add(name, has, value, quoted, kind)?
                }
            }
            (rest, joins) = (after.trim_start(), false);
        }
        if filter.texts.len() + filter.relations.len() + filter.fields.len() > MAX_TERMS {
            return Err(wrong(format!("must have at most {MAX_TERMS} terms")));
        }
        Ok(filter)
    }

    fn add(
        &mut self,
        name: &str,
        has: bool,
        value: String,
        quoted: bool,
        kind: Kind,
    ) -> Result<(), Invalid> {
        let is_any = value == "*" && !quoted;
        if value.contains('*') && !quoted && !(is_any && has) {
            return Err(wrong(format!(
                "knows no `*` but alone behind a colon, as in `display_name:*`; `{}:` finds a part of a text",
                shown(name)
            )));
        }
        let relation = match name {
            "plan" | "plans" => Some(Relation::Plan(value.clone())),
            "target" | "targets" => Some(Relation::Target(value.clone())),
            "subscriber" => Some(Relation::Subscriber(value.clone())),
            _ => None,
        };
        if let Some(relation) = relation {
            if is_any || value.is_empty() {
                return Err(wrong(format!("needs an id after `{name}`, not `{value}`")));
            }
            self.relations.push(relation);
            return Ok(());
        }
        let matched = match has {
            true if is_any => Match::Any,
            true => Match::Has(value.to_lowercase()),
            false => Match::Is(value.clone()),
        };
        self.fields.push(match name {
            "id" => Field::Id(matched),
            "display_name" | "displayName" => Field::DisplayName(matched),
            "description" => Field::Description(matched),
            "labels" if has => Field::Label(value, None),
            "enabled" if kind == Kind::Key => match value.as_str() {
                "true" => Field::Enabled(true),
                "false" => Field::Enabled(false),
                _ => return Err(wrong("needs `true` or `false` after `enabled`".to_owned())),
            },
            _ => match name.strip_prefix("labels.").filter(|label| !label.is_empty()) {
                Some(label) => Field::Label(label.to_owned(), Some(value).filter(|_| !is_any)),
                None => return Err(unknown(name, if has { ':' } else { '=' }, kind)),
            },
        });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.relations.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches<T: Listed>(&self, catalog: &Catalog, resource: &T) -> bool {
        self.relations.iter().all(|relation| resource.is_related(catalog, relation))
            && self.fields.iter().all(|field| field.holds(resource))
            && self.names(resource)
    }

    fn names<T: Listed>(&self, resource: &T) -> bool {
        if self.texts.is_empty() {
            return true;
        }
        let (id, name) = (resource.id().to_lowercase(), resource.display_name().to_lowercase());
        self.texts.iter().all(|text| id.contains(text) || name.contains(text))
    }

    /// At most so many ids among which all matches are; `None`: everything has to be looked at.
    pub(super) fn candidates<T: Listed>(
        &self,
        catalog: &Catalog,
        most: usize,
    ) -> Option<BTreeSet<Id>> {
        let by_id = self.fields.iter().filter_map(|field| match field {
            Field::Id(Match::Is(id)) => Some([Id::from(id.as_str())].into()),
            _ => None,
        });
        self.relations
            .iter()
            .filter_map(|relation| T::candidates(catalog, relation, most))
            .chain(by_id)
            .min_by_key(BTreeSet::len)
    }
}

impl Field {
    fn holds<T: Listed>(&self, resource: &T) -> bool {
        let about = resource.about();
        match self {
            Self::Id(wanted) => wanted.holds(resource.id()),
            Self::DisplayName(wanted) => wanted.holds(resource.display_name()),
            Self::Description(wanted) => wanted.holds(&about.description),
            Self::Label(key, wanted) => about
                .labels
                .get(key)
                .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value)),
            Self::Enabled(wanted) => resource.enabled() == Some(*wanted),
        }
    }
}

fn wrong(reason: String) -> Invalid {
    Invalid::new("filter", reason)
}

fn shown(text: &str) -> String {
    text.chars().take(32).collect()
}

fn unknown(name: &str, operator: char, kind: Kind) -> Invalid {
    let enabled = if kind == Kind::Key { ", `enabled`" } else { "" };
    wrong(format!(
        "knows the fields `id`, `display_name`, `description`, `labels.NAME`{enabled}, `plan`, `target` and `subscriber`, not `{}{operator}` \
         (put text that holds `{operator}` in quotes)",
        shown(name)
    ))
}

/// The first word of `text`, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let end =
        text.find(|c: char| c.is_whitespace() || "=:<>!\"()".contains(c)).unwrap_or(text.len());
    text.split_at_checked(end)
}

/// The first term of `text`, which is not empty, and what follows it.
fn term(text: &str, kind: Kind) -> Result<(Term<'_>, &str), Invalid> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = unquote(quoted, '"')?;
        return Ok((Term::Text(value), rest));
    }
    let (name, rest) = word(text).unwrap_or((text, ""));
    let behind = rest.trim_start();
    if let "OR" | "NOT" = name {
        return Err(wrong(format!(
            "knows no `{name}`: its terms must all hold (put it in quotes to find it as text)"
        )));
    }
    if let Some(operator) =
        ["!=", "<", ">", "!", "(", ")"].into_iter().find(|operator| behind.starts_with(operator))
        && (behind.len() == rest.len() || operator != "(")
    {
        return Err(wrong(format!(
            "knows `=` and `:` between a field and a value, not `{operator}` (put text that holds it in quotes)"
        )));
    }
    if behind.starts_with('(') && !name.is_empty() {
        // A word, and behind it what the next term will be refused for.
        return Ok((Term::Text(name.to_owned()), rest));
    }
    let Some(operator) = behind.chars().next().filter(|c| "=:".contains(*c)) else {
        return if rest.starts_with('"') {
            Err(wrong("needs a space before a quote".to_owned()))
        } else {
            Ok((Term::Text(name.to_owned()), rest))
        };
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(unknown(name, operator, kind));
    }
    let value = behind.get(1..).unwrap_or_default().trim_start();
    let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
    let (value, quoted, rest) = match (quote, value.get(1..)) {
        (Some(quote), Some(inside)) => {
            let (value, rest) = unquote(inside, quote)?;
            (value, true, rest)
        }
        _ => {
            let (value, rest) =
                value.split_at(value.find(char::is_whitespace).unwrap_or(value.len()));
            if value.starts_with(['=', ':', '(']) || value.ends_with(')') {
                return Err(wrong(format!(
                    "needs a value after `{}{operator}`, in quotes where it holds `=`, `:` or parentheses",
                    shown(name)
                )));
            }
            (value.to_owned(), false, rest)
        }
    };
    if value.is_empty() && !quoted || value.is_empty() && operator == ':' {
        return Err(wrong(format!("needs an id or a value after `{}{operator}`", shown(name))));
    }
    Ok((Term::Field { name, has: operator == ':', value, quoted }, rest))
}

/// What stands before the closing quote, and what follows it. A backslash makes what is behind it
/// stand for itself.
fn unquote(text: &str, quote: char) -> Result<(String, &str), Invalid> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some(end) if end == quote => return Ok((value, chars.as_str())),
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

    fn candidates(catalog: &Catalog, relation: &Relation, most: usize) -> Option<BTreeSet<Id>> {
        match relation {
            Relation::Plan(id) => few([id.as_str().into()], most),
            Relation::Target(id) => few(catalog.plans_of(id).cloned(), most),
            Relation::Subscriber(id) => few(plans_of_subscriber(catalog, id).iter().cloned(), most),
        }
    }
}

impl Listed for CompiledTarget {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        match relation {
            Relation::Plan(id) => {
                self.target.default_plan.as_deref() == Some(id) || catalog.covers(id, self.id())
            }
            Relation::Target(id) => **self.id() == **id,
            Relation::Subscriber(id) => {
                plans_of_subscriber(catalog, id).iter().any(|plan| catalog.covers(plan, self.id()))
            }
        }
    }

    fn candidates(catalog: &Catalog, relation: &Relation, most: usize) -> Option<BTreeSet<Id>> {
        let of_plan = |plan: &str| {
            let plan = catalog.plans.get(plan).into_iter();
            plan.flat_map(|plan| &plan.value.plan.entitlements)
                .flat_map(|one| &one.targets)
                .cloned()
                .collect::<Vec<_>>()
        };
        match relation {
            // A default plan covers its target.
            Relation::Plan(id) => few(of_plan(id), most),
            Relation::Target(id) => few([id.as_str().into()], most),
            Relation::Subscriber(id) => {
                let plans = plans_of_subscriber(catalog, id).iter();
                few(plans.flat_map(|plan| of_plan(plan)), most)
            }
        }
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

    fn candidates(catalog: &Catalog, relation: &Relation, most: usize) -> Option<BTreeSet<Id>> {
        match relation {
            Relation::Plan(id) => few(catalog.subscribers_of(id).cloned(), most),
            Relation::Target(id) => {
                let plans = catalog.plans_of(id);
                few(plans.flat_map(|plan| catalog.subscribers_of(plan)).cloned(), most)
            }
            Relation::Subscriber(id) => few([id.as_str().into()], most),
        }
    }
}

/// An API key has to do with what its subscriber has to do with.
impl Listed for KeyEntry {
    fn is_related(&self, catalog: &Catalog, relation: &Relation) -> bool {
        catalog
            .subscribers
            .get(&self.key.subscriber)
            .is_some_and(|subscriber| subscriber.value.is_related(catalog, relation))
    }

    fn candidates(catalog: &Catalog, relation: &Relation, most: usize) -> Option<BTreeSet<Id>> {
        let subscribers = Subscriber::candidates(catalog, relation, most)?;
        few(subscribers.iter().flat_map(|subscriber| catalog.keys_of(subscriber)).cloned(), most)
    }

    fn enabled(&self) -> Option<bool> {
        Some(self.key.enabled)
    }
}

/// Ids in order, where there are no more of them.
fn few(ids: impl IntoIterator<Item = Id>, most: usize) -> Option<BTreeSet<Id>> {
    let mut found = BTreeSet::new();
    for (count, id) in ids.into_iter().enumerate() {
        if count >= most {
            return None;
        }
        found.insert(id);
    }
    Some(found)
}

fn plans_of_subscriber<'a>(catalog: &'a Catalog, id: &str) -> &'a [Id] {
    catalog.subscribers.get(id).map_or(&[], |subscriber| &subscriber.value.plans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(filter: &str) -> Filter {
        Filter::parse(filter, Kind::Key).unwrap_or_else(|wrong| panic!("{filter}: {wrong}"))
    }

    fn texts(filter: &str) -> Vec<String> {
        parse(filter).texts
    }

    #[test]
    fn terms() {
        assert!(parse("").is_empty());
        assert!(parse("  \t").is_empty());
        assert_eq!(texts("Gold"), ["gold"]);
        assert_eq!(texts("\"Gold plan\" x"), ["gold plan", "x"]);
        assert_eq!(texts("gold AND -1 AND android"), ["gold", "-1", "android"]);
        assert_eq!(texts(r#""a \"quoted\" word and a \\""#), [r#"a "quoted" word and a \"#]);
        assert_eq!(texts("\"plan=gold\" \"OR\""), ["plan=gold", "or"]);
        let expected = [
            Relation::Plan("gold".into()),
            Relation::Target("orders/prod".into()),
            Relation::Subscriber("acme".into()),
        ];
        for filter in [
            "plan=gold target=orders/prod subscriber=\"acme\"",
            "plan:gold AND target:orders/prod AND subscriber:acme",
            "plans:gold target = \"orders/prod\"  AND  subscriber : 'acme'",
            "plan= gold target =orders/prod\tsubscriber=acme",
        ] {
            assert_eq!(parse(filter).relations, expected, "{filter}");
        }
    }

    #[test]
    fn fields() {
        use Match::{Any, Has, Is};
        let label =
            |key: &str, value: Option<&str>| Field::Label(key.into(), value.map(str::to_owned));
        for (filter, field) in [
            ("display_name:bronze", Field::DisplayName(Has("bronze".into()))),
            ("displayName:BRONZE", Field::DisplayName(Has("bronze".into()))),
            ("display_name = \"Bronze plan\"", Field::DisplayName(Is("Bronze plan".into()))),
            ("display_name:*", Field::DisplayName(Any)),
            ("display_name=\"*\"", Field::DisplayName(Is("*".into()))),
            ("display_name=\"\"", Field::DisplayName(Is(String::new()))),
            ("id = \"x\"", Field::Id(Is("x".into()))),
            ("id:eu:1", Field::Id(Has("eu:1".into()))),
            ("description:\"two words\"", Field::Description(Has("two words".into()))),
            ("labels.team:x", label("team", Some("x"))),
            ("labels.team=x", label("team", Some("x"))),
            ("labels.team:*", label("team", None)),
            ("labels:team", label("team", None)),
            ("enabled=true", Field::Enabled(true)),
            ("enabled:false", Field::Enabled(false)),
        ] {
            assert_eq!(parse(filter).fields, [field], "{filter}");
        }
    }

    #[test]
    fn wrong_filters() {
        let cases = [
            ("colour=red", "not `colour=`"),
            ("colour:red", "not `colour:`"),
            ("displayname:red", "knows the fields `id`, `display_name`,"),
            ("=x", "not `=`"),
            (":x", "not `:`"),
            ("-id:x", "not `-id:`"),
            ("plan=", "needs an id or a value after `plan=`"),
            ("plan=\"\"", "needs an id after `plan`"),
            ("plan:\"\"", "needs an id or a value after `plan:`"),
            ("id==x", "needs a value after `id=`"),
            ("plan!=gold", "not `!=`"),
            ("id < x", "not `<`"),
            ("id>=x", "not `>`"),
            ("(id=x)", "not `(`"),
            ("id=x OR id=y", "no `OR`"),
            ("NOT id=x", "no `NOT`"),
            ("AND x", "both sides of `AND`"),
            ("x AND", "both sides of `AND`"),
            ("x AND AND y", "both sides of `AND`"),
            ("id=x*", "knows no `*`"),
            ("id=*", "knows no `*`"),
            ("plan:*", "not `*`"),
            ("enabled=yes", "`true` or `false`"),
            ("labels=team", "not `labels=`"),
            ("labels.:x", "not `labels.:`"),
            ("\"open", "not closed"),
            ("plan=\"open", "not closed"),
            ("plan='open", "not closed"),
            ("a\"b\"", "needs a space"),
        ];
        for (filter, reason) in cases {
            let wrong = Filter::parse(filter, Kind::Key).expect_err(filter);
            assert_eq!(wrong.field, "filter");
            assert!(wrong.reason.contains(reason), "{filter}: {wrong}");
        }
        let of_plans = Filter::parse("enabled=true", Kind::Plan).unwrap_err();
        assert!(
            of_plans.reason.contains("not `enabled=`") && !of_plans.reason.contains("`enabled`,"),
            "{of_plans}"
        );
        let size = |text: &str| Filter::parse(text, Kind::Plan).is_ok();
        assert!(size(&"a ".repeat(20)) && !size(&"a ".repeat(21)) && !size(&"id:a ".repeat(21)));
        assert!(size(&"a".repeat(4_096)) && !size(&"a".repeat(4_097)));
    }
}
