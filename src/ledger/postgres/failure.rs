//! PostgreSQL's errors in the ledger's words.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::ledger::LedgerError;

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Wrong {
    Sql(Error),
    /// A row that holds what no row of ours holds.
    Row(String),
    /// The database said of a commit that it may be lost with this server.
    Unsure(String),
    /// No answer came in time.
    Silent,
    Ledger(LedgerError),
}

impl From<Error> for Wrong {
    fn from(wrong: Error) -> Self {
        Self::Sql(wrong)
    }
}

impl From<LedgerError> for Wrong {
    fn from(wrong: LedgerError) -> Self {
        Self::Ledger(wrong)
    }
}

impl Wrong {
    /// Nothing was done, another was quicker, and it can be done again at once.
    pub(super) fn is_quicker_other(&self) -> bool {
        let Self::Sql(wrong) = self else { return false };
        wrong.code().is_some_and(|code| {
            [
                &SqlState::UNIQUE_VIOLATION,
                &SqlState::FOREIGN_KEY_VIOLATION,
                &SqlState::T_R_SERIALIZATION_FAILURE,
                &SqlState::T_R_DEADLOCK_DETECTED,
            ]
            .contains(&code)
        })
    }

    /// The session can go on: the transaction was ended, and nothing is wrong with the connection.
    pub(super) fn leaves_session(&self) -> bool {
        match self {
            Self::Sql(wrong) => wrong.as_db_error().is_some_and(|told| {
                !["57P", "08", "25006"].iter().any(|class| told.code().code().starts_with(class))
            }),
            Self::Row(_) | Self::Ledger(_) => true,
            Self::Unsure(_) | Self::Silent => false,
        }
    }

    /// What it means for the ledger at a place.
    pub(super) fn classify(self, place: &str) -> LedgerError {
        let place = place.to_owned();
        match self {
            Self::Ledger(wrong) => wrong,
            Self::Row(what) => LedgerError::Row { path: place.into(), what },
            Self::Unsure(what) => LedgerError::Away {
                place,
                what: format!("whether the last transaction is kept is not known: {what}"),
            },
            Self::Silent => LedgerError::Away {
                place,
                what: "it does not answer, and the connection was given up".to_owned(),
            },
            Self::Sql(wrong) => classify(place, &wrong),
        }
    }
}

fn classify(place: String, wrong: &Error) -> LedgerError {
    let what = words(wrong);
    let Some(code) = wrong.code() else {
        // So the client says that a server which was asked for one that can be written is none.
        let behind = wrong.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        if behind.is_some_and(|behind| behind.kind() == std::io::ErrorKind::PermissionDenied) {
            return LedgerError::Standby { place };
        }
        return LedgerError::Away { place, what };
    };
    // By the standard's classes, and PostgreSQL's appendix of codes.
    match code.code() {
        "53100" => LedgerError::Full(place.into()),
        "25006" => LedgerError::Standby { place },
        code if code.starts_with("28") || ["3D000", "42501"].contains(&code) => {
            LedgerError::Denied { place, what }
        }
        code if ["08", "53", "57", "58", "55", "40"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            LedgerError::Away { place, what }
        }
        _ => LedgerError::Fault(what),
    }
}

/// The error and what is behind it, in one line.
pub(super) fn words(wrong: &Error) -> String {
    if let Some(told) = wrong.as_db_error() {
        let detail = told.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", told.message()).replace('\n', " ");
    }
    let behind = wrong.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{wrong}{behind}").replace('\n', " ")
}
