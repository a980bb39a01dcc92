//! Why a ledger cannot do its work, in words for an operator.

use std::path::PathBuf;

/// The ledger failed. A state, not a crash: when the cause is gone, the next operation works again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    #[error("there is no room left for the ledger {}: free some disk space", .0.display())]
    Full(PathBuf),
    #[error("the ledger {} cannot be written: check the permissions of the file and its folder, and whether the disk is mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    #[error("the ledger {} cannot be read or written: {what}", path.display())]
    Io { path: PathBuf, what: String },
    #[error("the ledger {} is damaged: {what}. Stop the service and restore a backup, or move the file away to start with an empty ledger", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("a row of the ledger {} cannot be read: {what}. What needs it fails, and nothing else. Run `tollgate ledger check`, and restore a backup", path.display())]
    Row { path: PathBuf, what: String },
    #[error("{} is not a ledger of tollgate: {what}. Choose another data folder, or move the file away", path.display())]
    Foreign { path: PathBuf, what: String },
    #[error(
        "the ledger {} was written by a newer tollgate (its schema is {found}, this program knows up to {known}): run that version, or a newer one",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "the ledger {} is used by another process{}: one tollgate for one data folder. Stop that one, or choose another folder with `--data-dir`",
        folder.display(), of_process(*.pid)
    )]
    InUse { folder: PathBuf, pid: Option<u32> },
    #[error("the ledger {} is not where it was: {what}. Until then nothing is written, and leases end", path.display())]
    Gone { path: PathBuf, what: String },
    #[error(
        "the ledger {} has gone back: {what}. What was charged since would be charged again. Bring back the files as they were; or, where a backup \
         was restored on purpose, say so with `tollgate ledger accept`",
        path.display()
    )]
    WentBack { path: PathBuf, what: String },
    #[error("there is no ledger {}, and `ledger.must_exist` says that there is one: is the disk mounted, and `data_dir` right?", .0.display())]
    Missing(PathBuf),
    #[error("the database of the ledger ({place}) cannot be reached or does not answer: {what}")]
    Away { place: String, what: String },
    #[error("the database of the ledger ({place}) refuses: {what}")]
    Denied { place: String, what: String },
    #[error(
        "the database of the ledger ({place}) is read-only: it is a standby, or was told to be. The ledger goes on where one can be written: name \
         all servers in `ledger.url`"
    )]
    Standby { place: String },
    #[error(
        "another process has taken the ledger over from node `{node}`: this one draws nothing more, and ends. It has the same `node.name`, or this \
         one was not heard for so long that it counted as gone"
    )]
    Fenced { node: String },
    #[error(
        "the ledger {place} is used by the node `{node}`, heard {ago_s} s ago: several nodes on one ledger are not there yet. Stop that one; one \
         that was killed counts as gone after {gone_s} s"
    )]
    OtherNode { place: String, node: String, ago_s: u64, gone_s: u64 },
    #[error("too many operations wait for the ledger")]
    Busy,
    /// It may be done all the same.
    #[error("the ledger did not answer in time")]
    Late,
    #[error("the ledger has stopped")]
    Stopped,
    #[error("the ledger has a fault: {0}")]
    Fault(String),
}

impl LedgerError {
    /// Every word of [`Self::reason`].
    pub const REASONS: [&'static str; 20] = [
        "full",
        "read_only",
        "io",
        "damaged",
        "row",
        "foreign",
        "newer",
        "in_use",
        "gone",
        "went_back",
        "missing",
        "away",
        "denied",
        "standby",
        "fenced",
        "other_node",
        "busy",
        "late",
        "stopped",
        "fault",
    ];

    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::ReadOnly(_) => "read_only",
            Self::Io { .. } => "io",
            Self::Damaged { .. } => "damaged",
            Self::Row { .. } => "row",
            Self::Foreign { .. } => "foreign",
            Self::Newer { .. } => "newer",
            Self::InUse { .. } => "in_use",
            Self::Gone { .. } => "gone",
            Self::WentBack { .. } => "went_back",
            Self::Missing(_) => "missing",
            Self::Away { .. } => "away",
            Self::Denied { .. } => "denied",
            Self::Standby { .. } => "standby",
            Self::Fenced { .. } => "fenced",
            Self::OtherNode { .. } => "other_node",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Stopped => "stopped",
            Self::Fault(_) => "fault",
        }
    }

    /// It is about what one operation needs: others may work.
    pub(super) fn is_of_one(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Damaged { .. })
    }
}

fn of_process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
