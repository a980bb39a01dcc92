//! What all resources have, and which fields of a resource were given.

use std::collections::BTreeMap;

use prost_types::FieldMask;
use serde_json::Value;

use crate::cli::Failure;

/// The flags for what all resources have.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct About {
    /// A name for people [default: the id]
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A label, repeatable; together they replace the labels that it has
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
}

impl About {
    pub(in crate::cli) fn put(
        self,
        given: &mut Given,
        display_name: &mut String,
        description: &mut String,
        labels: &mut BTreeMap<String, String>,
    ) {
        given.put("display_name", self.display_name, display_name);
        given.put("description", self.description, description);
        given.put("labels", list(self.labels, self.no_labels).map(BTreeMap::from_iter), labels);
    }
}

/// A repeatable flag and the flag for none: what they say, if anything.
pub(in crate::cli) fn list<T>(items: Vec<T>, none: bool) -> Option<Vec<T>> {
    (none || !items.is_empty()).then_some(items)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The names of the fields that were given, as an update mask has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Given(Vec<String>);

impl Given {
    /// Puts a value that was given into its field.
    pub(in crate::cli) fn put<T>(&mut self, name: &'static str, value: Option<T>, field: &mut T) {
        if let Some(value) = value {
            *field = value;
            self.add(name);
        }
    }

    pub(in crate::cli) fn add(&mut self, name: &'static str) {
        if !self.has(name) {
            self.0.push(name.to_owned());
        }
    }

    /// The fields that a file says.
    pub(in crate::cli) fn in_mask(mask: &FieldMask) -> Self {
        Self(mask.paths.clone())
    }

    /// The fields of `editable` that a file names, in either spelling.
    pub(in crate::cli) fn in_file(value: &Value, editable: &[&'static str]) -> Self {
        let names: Vec<String> = value
            .as_object()
            .map(|fields| fields.keys().map(|name| snake(name)).collect())
            .unwrap_or_default();
        Self(
            editable
                .iter()
                .filter(|field| names.iter().any(|name| name == *field))
                .map(|&field| field.to_owned())
                .collect(),
        )
    }

    pub(in crate::cli) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|given| given == name)
    }

    /// The mask of an update of just that.
    pub(in crate::cli) fn mask(self) -> Result<FieldMask, Failure> {
        if self.0.is_empty() {
            return Err(Failure::unusable(
                "nothing to change was given (--help lists what can be)",
            ));
        }
        Ok(FieldMask { paths: self.0 })
    }
}

/// `displayName` as `display_name`.
fn snake(name: &str) -> String {
    name.chars()
        .flat_map(|c| {
            c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()])
        })
        .collect()
}
