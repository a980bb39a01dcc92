//! Rules that come as named resources of a management server, each good or bad by itself.
//!
//! A set replaces the set before it. What is good of it comes into force; what is bad stays as it
//! was when it was last good, and is named. The order in which resources come means nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::compile::{compile, composite};
use super::declared::File;
use super::{LoadError, LoadOptions, RuleSet};

/// All resources of one answer of the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub read: Vec<File>,
    pub unread: Vec<Unread>,
}

/// A resource that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Where it is known.
    pub name: Option<String>,
    pub reason: String,
}

/// What of a set can be in force.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub rules: RuleSet,
    /// The resources that these are the rules of, by name.
    pub in_force: Vec<Arc<File>>,
    /// Why others of the set are not.
    pub refused: Vec<LoadError>,
}

/// Puts a set into the place of the one before.
///
/// Two resources of one domain exclude each other, unless domains are merged; then the same holds
/// for two of one descriptor at the top. The one that is in force for the domain stays, else the
/// first by name. Where an unread resource has no name it may be any of those that are in force and
/// not in the set: all of these stay.
///
/// # Errors
/// All rules together cannot be served.
pub fn accept(
    before: &[Arc<File>],
    resources: Resources,
    options: &LoadOptions,
) -> Result<Accepted, LoadError> {
    let Resources { mut read, unread } = resources;
    read.sort_by(|a, b| (&a.name, &a.domain).cmp(&(&b.name, &b.domain)));
    let by_name: HashMap<&str, &Arc<File>> =
        before.iter().map(|file| (file.name.as_str(), file)).collect();
    let names: HashSet<String> = read.iter().map(|file| file.name.clone()).collect();

    let mut refused = Vec::new();
    let (mut good, mut kept) = (Vec::new(), Vec::new());
    for file in read {
        match compile([&file], *options) {
            Ok(_) => good.push(Arc::new(file)),
            Err(error) => {
                kept.extend(by_name.get(file.name.as_str()).copied().cloned());
                refused.push(error);
            }
        }
    }
    for Unread { name, reason } in &unread {
        match name {
            Some(name) => kept.extend(by_name.get(name.as_str()).copied().cloned()),
            None => kept.extend(before.iter().filter(|file| !names.contains(&file.name)).cloned()),
        }
        refused.push(LoadError::new(name.as_deref().unwrap_or("a resource"), None, reason));
    }

    let mut places = Places::new(before, options.merge_domains);
    kept.retain(|file| places.reserve(file));
    // Those in force come first, and the sort keeps names in order.
    good.sort_by_key(|file| !places.was_there(file));
    for file in good {
        match places.take(&file) {
            Ok(()) => kept.push(file),
            Err(error) => {
                let last_good = by_name.get(file.name.as_str()).copied();
                kept.extend(last_good.filter(|before| places.reserve(before)).cloned());
                refused.push(error);
            }
        }
    }
    kept.sort_by(|a, b| (&a.name, &a.domain).cmp(&(&b.name, &b.domain)));
    let rules = compile(kept.iter().map(|file| &**file), *options)?;
    Ok(Accepted { rules, in_force: kept, refused })
}

/// Who has which domain, and which descriptors of it.
struct Places<'b> {
    merge: bool,
    /// Domain and name of those that were in force.
    before: HashSet<(&'b str, &'b str)>,
    /// By domain, the descriptors at its top.
    taken: HashMap<String, HashSet<String>>,
    /// Name and domain of those that have a place.
    placed: HashSet<(String, String)>,
}

impl<'b> Places<'b> {
    fn new(before: &'b [Arc<File>], merge: bool) -> Self {
        let before = before.iter().map(|file| (file.domain.as_str(), file.name.as_str())).collect();
        Self { merge, before, taken: HashMap::new(), placed: HashSet::new() }
    }

    fn was_there(&self, file: &File) -> bool {
        self.before.contains(&(file.domain.as_str(), file.name.as_str()))
    }

    /// Takes the place of one that was in force. False where it has it already, or another has.
    fn reserve(&mut self, file: &File) -> bool {
        !self.placed.contains(&(file.name.clone(), file.domain.clone())) && self.take(file).is_ok()
    }

    fn take(&mut self, file: &File) -> Result<(), LoadError> {
        let composites: Vec<String> = file.descriptors.iter().map(composite).collect();
        if let Some(taken) = self.taken.get(&file.domain) {
            let domain = &file.domain;
            if !self.merge {
                let message = format!("duplicate domain '{domain}' in config file");
                return Err(LoadError::new(&file.name, file.line, message));
            }
            if let Some(twice) = composites.iter().find(|composite| taken.contains(*composite)) {
                let message = format!("duplicate descriptor composite key '{domain}.{twice}'");
                return Err(LoadError::new(&file.name, file.line, message));
            }
        }
        self.taken.entry(file.domain.clone()).or_default().extend(composites);
        self.placed.insert((file.name.clone(), file.domain.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
