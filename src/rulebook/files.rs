//! Reading rules files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config;
use crate::rules::Source;

/// All rules files together, in bytes.
const MAX_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 10_000;
/// How deep directories may nest. Ends loops of symbolic links.
const MAX_DEPTH: usize = 16;

/// Reads every file, in the order of the settings and, within a directory, of the names.
pub(super) fn read(settings: &config::Rules) -> Result<Vec<Source>, String> {
    let mut paths = Vec::new();
    for path in &settings.paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => list(path, settings, 0, &mut paths)?,
            Ok(_) => paths.push(path.clone()),
            Err(error) => return Err(format!("{}: cannot be read: {error}", path.display())),
        }
    }
    let mut bytes = 0;
    paths.iter().map(|path| read_one(path, &mut bytes)).collect()
}

fn list(directory: &Path, settings: &config::Rules, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: cannot be listed: {error}", directory.display());
    if depth > MAX_DEPTH {
        return Err(format!("{}: directories nest deeper than {MAX_DEPTH}", directory.display()));
    }
    let entries: Result<Vec<_>, _> = fs::read_dir(directory).map_err(failed)?.collect();
    let mut entries: Vec<PathBuf> = entries.map_err(failed)?.iter().map(fs::DirEntry::path).collect();
    entries.sort_unstable();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if settings.ignore_dotfiles && name.starts_with('.') {
            continue;
        }
        // Follows symbolic links: a mounted ConfigMap consists of them. One that leads nowhere is a file that is just being replaced.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            list(&path, settings, depth + 1, paths)?;
        } else if settings.any_extension || name.ends_with(".yaml") || name.ends_with(".yml") {
            if paths.len() >= MAX_FILES {
                return Err(format!("{}: more than {MAX_FILES} rules files", directory.display()));
            }
            paths.push(path);
        }
    }
    Ok(())
}

fn read_one(path: &Path, bytes: &mut u64) -> Result<Source, String> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| format!("{name}: cannot be read: {error}");
    *bytes += fs::metadata(path).map_err(failed)?.len();
    if *bytes > MAX_BYTES {
        return Err(format!("{name}: the rules files are larger than {} MiB together", MAX_BYTES >> 20));
    }
    let text = String::from_utf8(fs::read(path).map_err(failed)?)
        .map_err(|error| format!("{name}: error loading config file: byte {} is not UTF-8", error.utf8_error().valid_up_to()))?;
    Ok(Source { name, text })
}
