//! How a plan is written in a file. Who speaks JSON has the mapping, and gives it at the start:
//! see [`StoredForms`](super::stored::StoredForms).

use std::fmt;

use crate::catalog::Stored;
use crate::decide::compiled::CompiledPlan;
use crate::decide::invalid::Invalid;
use crate::decide::plan::Plan;

/// Reads plans out of files, and writes them.
pub trait PlanFiles: fmt::Debug + Send + Sync {
    /// The plan of a file in JSON or YAML: tollgate's own form, or that of OCI.
    ///
    /// # Errors
    /// Every field that is wrong. The field is empty where it is the whole file.
    fn read(&self, text: &str) -> Result<FromFile, Vec<Invalid>>;

    /// The plan in JSON, as [`Self::read`] reads it.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn write(&self, plan: &Stored<CompiledPlan>) -> Result<String, String>;
}

/// A plan that was read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromFile {
    pub plan: Plan,
    /// What the file says and the plan does not, a sentence each.
    pub notes: Vec<String>,
}
