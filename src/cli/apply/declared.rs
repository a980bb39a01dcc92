//! What files declare together, and where in them each resource stands.

use std::path::PathBuf;

use tonic::Status;

use crate::cli::Failure;
use crate::cli::client::file::{self, Document};
use crate::cli::client::output::note;
use crate::cli::client::place;
use crate::decide::invalid::Invalid;
use crate::grpc::pb::tollgate::ApplyRequest;
use crate::grpc::pb::tollgate::apply_request::Kind;
use crate::grpc::{convert, details, json};

/// What all files declare.
pub(super) struct Declared {
    pub(super) message: ApplyRequest,
    /// The kinds that a file has a list of.
    pub(super) kinds: Vec<Kind>,
    documents: Vec<Document>,
    targets: Vec<Origin>,
    usage_plans: Vec<Origin>,
    subscribers: Vec<Origin>,
}

/// The document of a resource, and which one it is there.
#[derive(Clone, Copy)]
struct Origin {
    document: usize,
    at: usize,
}

impl Declared {
    /// Reads files. Each must hold a resource, unless `none` says that they may be there to say
    /// that there are none.
    pub(super) fn read(files: &[PathBuf], none: bool) -> Result<Self, Failure> {
        let mut all = Self {
            message: ApplyRequest::default(),
            kinds: Vec::new(),
            documents: Vec::new(),
            targets: Vec::new(),
            usage_plans: Vec::new(),
            subscribers: Vec::new(),
        };
        let mut mistakes = Vec::new();
        for path in files {
            let (before, kinds) = (all.count(), all.kinds.len());
            let told = mistakes.len();
            for document in file::documents(path)? {
                all.add(document, &mut mistakes);
            }
            let says_none = none && all.kinds.len() > kinds;
            if all.count() == before && mistakes.len() == told && !says_none {
                mistakes.push(format!(
                    "{}: holds no target, plan or subscriber: nothing was changed (is it what a template should have filled?)",
                    file::name(path)
                ));
            }
        }
        // What can be read is looked at all the same, so that all mistakes are told at once.
        mistakes.extend(all.unusable());
        if mistakes.is_empty() { Ok(all) } else { Err(place::refused(mistakes, 0)) }
    }

    fn count(&self) -> usize {
        self.targets.len() + self.usage_plans.len() + self.subscribers.len()
    }

    fn add(&mut self, document: Document, mistakes: &mut Vec<String>) {
        let blank = document.left_blank();
        let (file, found) = json::declared_in_part(document.value.clone());
        // What is blank would be told a second time, as null.
        let found = found
            .iter()
            .filter(|one| blank.iter().all(|blank| blank.field != one.field))
            .chain(&blank);
        mistakes.extend(found.map(|mistake| document.told(mistake)));
        file.notes.iter().for_each(|text| note(&format!("{}: {text}", document.name())));
        let document_at = self.documents.len();
        let origin = |at| Origin { document: document_at, at };
        self.targets.extend(file.places.targets.into_iter().map(origin));
        self.usage_plans.extend(file.places.plans.into_iter().map(origin));
        self.subscribers.extend(file.places.subscribers.into_iter().map(origin));
        self.message.targets.extend(file.message.targets);
        self.message.target_masks.extend(file.message.target_masks);
        self.message.usage_plans.extend(file.message.usage_plans);
        self.message.usage_plan_masks.extend(file.message.usage_plan_masks);
        self.message.subscribers.extend(file.message.subscribers);
        self.kinds.extend(file.kinds);
        self.documents.push(document);
    }

    /// What the server would refuse whatever it has, at its place.
    fn unusable(&self) -> Vec<String> {
        let found = convert::apply::declared(self.message.clone()).err().unwrap_or_default();
        found.iter().map(|mistake| self.told(mistake)).collect()
    }

    /// What the server has refused, where it says which fields.
    pub(super) fn refused(&self, status: &Status) -> Option<Failure> {
        let (found, more) = details::violations(status)?;
        Some(place::refused(found.iter().map(|mistake| self.told(mistake)).collect(), more))
    }

    /// A mistake of the message at its place in the files.
    fn told(&self, mistake: &Invalid) -> String {
        let lists = [
            ("targets", &self.targets, "targets"),
            ("usage_plans", &self.usage_plans, "plans"),
            ("subscribers", &self.subscribers, "subscribers"),
        ];
        for (list, origins, in_file) in lists {
            let Some((at, rest)) = item(&mistake.field, list) else { continue };
            let Some((origin, document)) = origins
                .get(at)
                .and_then(|origin| Some((origin, self.documents.get(origin.document)?)))
            else {
                continue;
            };
            // What wraps a resource in the message is not in the file.
            let rest = rest
                .replacen(".subscriber.", ".", usize::from(list == "subscribers"))
                .replace(".api_key.", ".");
            return document.told(&Invalid::new(
                format!("{in_file}[{}]{rest}", origin.at),
                mistake.reason.clone(),
            ));
        }
        mistake.to_string()
    }
}

/// `targets[3].id` as 3 and `.id`, where it is of `list`.
fn item<'f>(field: &'f str, list: &str) -> Option<(usize, &'f str)> {
    let (at, rest) = field.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
    Some((at.parse().ok()?, rest))
}
