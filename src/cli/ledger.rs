//! `tollgate ledger`: look after the file that holds what must not be lost. `check` and `backup`
//! work beside a running service, and without one.

use std::path::PathBuf;

use super::Failure;
use super::client::output::{note, print};
use super::serve::unopened;
use crate::config::{Config, DataDir, Flags};
use crate::grpc::stored::Messages;
use crate::ledger::postgres::migrate;
use crate::ledger::sqlite::{FILE, Found, accept, backup, check};
use crate::service::catalog_storage::unusable;

/// What to do about a damaged ledger.
const MEND: &str = "A service that uses it serves everybody else. To mend it: declare a damaged target, plan, subscriber or API key again (`apply -f`); \
                    for anything else stop the service and restore a backup";

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read the whole ledger, and say what is wrong with it.
    Check {
        #[command(flatten)]
        of: Of,
    },
    /// Copy the ledger to a new file, as it stands at one moment. To restore: stop the service, put
    /// the copy in the place of `ledger.sqlite`, remove `ledger.sqlite-wal` and
    /// `ledger.sqlite-shm`, and say that it is meant: `tollgate ledger accept`.
    Backup {
        /// The file to make
        #[arg(value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        of: Of,
    },
    /// Make the tables of a ledger in PostgreSQL, or bring old ones to this version, as a role that
    /// may. A service whose role may do it does it by itself.
    Migrate {
        /// The database [default: as `serve` finds it]
        #[arg(long, value_name = "URL")]
        ledger: Option<String>,
        /// A file with the settings of the service
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Take a ledger that has gone back as it is, after a backup was restored on purpose, or the
    /// file removed. The service must be stopped. What was charged since is forgotten, and can be
    /// spent again.
    Accept {
        #[command(flatten)]
        of: OfService,
    },
}

/// Which service.
#[derive(Debug, clap::Args)]
pub(super) struct OfService {
    /// The folder of the service [default: as `serve` finds it]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A file with the settings of the service
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Which ledger.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// The folder of the service [default: as `serve` finds it]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A file with the settings of the service
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A ledger in any place, such as a backup
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "config"])]
    file: Option<PathBuf>,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check { of } => {
            let path = of.path()?;
            let Found { mut mistakes, catalog } = check(&path).map_err(unopened)?;
            mistakes.extend(
                unusable(&Messages, &catalog).into_iter().map(|what| format!("it holds {what}")),
            );
            if mistakes.is_empty() {
                return print(&format!("{} is sound\n", path.display()));
            }
            Err(Failure::unusable(format!(
                "the ledger {} is damaged:\n  {}\n{}",
                path.display(),
                mistakes.join("\n  "),
                MEND
            )))
        }
        Command::Backup { to, of } => {
            backup(&of.path()?, &to).map_err(unopened)?;
            note(&format!("copied to {}", to.display()));
            Ok(())
        }
        Command::Migrate { ledger, config } => {
            let config = settings(config, ledger.map(|url| ("ledger.url", url)))?;
            let Some(shared) = config.shared else {
                return Err(Failure::unusable(
                    "no database is named: `--ledger postgres://…`, or the setting ledger.url",
                ));
            };
            let place = shared.postgres.shown();
            let (found, version) = migrate(&shared.postgres).map_err(unopened)?;
            note(&match found {
                0 => format!("{place} has the tables of version {version} now"),
                found if found == version => format!("{place} is of version {version} already"),
                found => format!("{place} is of version {version} now, and was of {found}"),
            });
            Ok(())
        }
        Command::Accept { of: OfService { data_dir, config } } => {
            let path = Of { data_dir, config, file: None }.path()?;
            note(&accept(path.parent().unwrap_or(&path)).map_err(unopened)?);
            Ok(())
        }
    }
}

impl Of {
    fn path(self) -> Result<PathBuf, Failure> {
        if let Some(file) = self.file {
            return Ok(file);
        }
        let named = self.data_dir.is_some();
        let config = settings(self.config, self.data_dir.map(|folder| ("data_dir", folder)))?;
        if let Some(shared) = config.shared.filter(|_| !named) {
            return Err(Failure::unusable(format!(
                "the service keeps its ledger in {}: there is no file. PostgreSQL checks and copies \
                 its own: `pg_amcheck`, `pg_dump`",
                shared.postgres.shown()
            )));
        }
        match config.data_dir {
            DataDir::Path(folder) => Ok(folder.join(FILE)),
            DataDir::Memory => Err(Failure::unusable(
                "the service keeps its ledger in memory (`data_dir`): there is no file",
            )),
        }
    }
}

/// The settings of the service. Nothing is served here, so nothing is asked about who could reach
/// it.
fn settings(
    file: Option<PathBuf>,
    given: Option<(&'static str, String)>,
) -> Result<Config, Failure> {
    let insecure = Some(("insecure", "true".to_owned()));
    let settings = given.into_iter().chain(insecure).collect();
    let flags = Flags { file, settings, as_ratelimit: false };
    Config::resolve_in(&flags, &std::env::vars_os().collect::<Vec<_>>()).map_err(Failure::unusable)
}
