//! Reading rules files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config;
use crate::plain_file;
use crate::rules::{Source, Warning};

/// All rules files together, in bytes.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
/// How deep directories may nest. Ends loops of symbolic links.
const MAX_DEPTH: usize = 16;

/// What was found where the rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sources: Vec<Source>,
    /// What lies there and was not read, with the reason.
    pub(super) skipped: Vec<Warning>,
}

/// Reads every file, in the order of the settings and, within a directory, of the names.
pub(super) fn read(settings: &config::Rules) -> Result<Found, String> {
    let mut paths = Vec::new();
    let mut skipped = Vec::new();
    for path in &settings.paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                list(path, path, settings, 0, &mut paths, &mut skipped)?
            }
            Ok(_) => paths.push(path.clone()),
            Err(error) => return Err(format!("{}: cannot be read: {error}", path.display())),
        }
    }
    let mut bytes = 0;
    let sources = paths.iter().map(|path| read_one(path, &mut bytes)).collect::<Result<_, _>>()?;
    Ok(Found { sources, skipped })
}

fn list(
    root: &Path,
    directory: &Path,
    settings: &config::Rules,
    depth: usize,
    paths: &mut Vec<PathBuf>,
    skipped: &mut Vec<Warning>,
) -> Result<(), String> {
    let skip = |path: &Path, text: &str| Warning {
        file: path.display().to_string(),
        line: 0,
        text: text.to_owned(),
    };
    let failed =
        |error: std::io::Error| format!("{}: cannot be listed: {error}", directory.display());
    if depth > MAX_DEPTH {
        return Err(format!("{}: directories nest deeper than {MAX_DEPTH}", directory.display()));
    }
    let listed = match fs::read_dir(directory) {
        // `lost+found` at the root of a volume is nobody's business.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && depth > 0 => {
            skipped.push(skip(directory, "the directory cannot be listed, and was passed over"));
            return Ok(());
        }
        listed => listed.map_err(failed)?,
    };
    let entries: Result<Vec<_>, _> = listed.collect();
    let mut entries: Vec<PathBuf> =
        entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
    entries.sort_unstable();
    for path in entries {
        let name =
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if settings.ignore_dotfiles && name.starts_with('.') {
            continue;
        }
        // Follows symbolic links: a mounted ConfigMap consists of them. One that leads nowhere is a
        // file that is just being replaced.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            list(root, &path, settings, depth + 1, paths, skipped)?;
        } else if !has_prefix(root, &path, &settings.prefix) {
            continue;
        } else if settings.any_extension || name.ends_with(".yaml") || name.ends_with(".yml") {
            if paths.len() >= MAX_FILES {
                return Err(format!("{}: more than {MAX_FILES} rules files", directory.display()));
            }
            paths.push(path);
        } else if [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| name.to_ascii_lowercase().ends_with(end))
        {
            skipped.push(skip(&path, "it was not read: names of rules files end in `.yaml` or `.yml` (or set rules_any_extension)"));
        }
    }
    Ok(())
}

/// Does the path below the root, with dots for slashes, start so?
fn has_prefix(root: &Path, path: &Path, prefix: &str) -> bool {
    let below = path.strip_prefix(root).unwrap_or(path);
    prefix.is_empty() || below.to_string_lossy().replace('/', ".").starts_with(prefix)
}

fn read_one(path: &Path, bytes: &mut u64) -> Result<Source, String> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| format!("{name}: cannot be read: {error}");
    let too_large =
        || format!("{name}: the rules files are larger than {} MiB together", MAX_BYTES >> 20);
    let mut file = plain_file::open(path, "file of rules").map_err(failed)?;
    let room = MAX_BYTES.saturating_sub(*bytes);
    if file.metadata().map_err(failed)?.len() > room {
        return Err(too_large());
    }
    let mut read = Vec::new();
    // It may grow while it is read.
    let length = file.by_ref().take(room + 1).read_to_end(&mut read).map_err(failed)?;
    *bytes += u64::try_from(length).unwrap_or(u64::MAX);
    if *bytes > MAX_BYTES {
        return Err(too_large());
    }
    let text = String::from_utf8(read).map_err(|error| {
        format!(
            "{name}: error loading config file: byte {} is not UTF-8",
            error.utf8_error().valid_up_to()
        )
    })?;
    Ok(Source { name, text })
}
