//! Who else may touch the files that decide: who may write them decides, and who may read a key is
//! the server.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_READ: u32 = 0o004;
const GROUP_READS: u32 = 0o040;
/// In such a folder nobody takes away what is another's.
const STICKY: u32 = 0o1000;

/// What a file is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// They may know what stands there.
    Decisions,
    /// They may not.
    Secrets,
}

/// What an operator should know of who else may touch a file or a folder. `what` names it, mostly
/// by its setting. Blocks on the file system.
pub fn findings(what: &str, path: &Path, holds: Holds) -> Vec<String> {
    let ours = Ours::now();
    let mut findings = Vec::new();
    // What cannot be read at all is told by who reads it.
    let Ok(found) = std::fs::metadata(path) else { return findings };
    findings.extend(ours.finding(what, path, &found, holds));
    let folder = path
        .parent()
        .map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    if let Some((folder, found)) =
        folder.and_then(|folder| Some((folder, std::fs::metadata(folder).ok()?)))
        && found.mode() & STICKY == 0
    {
        findings.extend(ours.finding(
            &format!("the folder of {what}"),
            folder,
            &found,
            Holds::Decisions,
        ));
    }
    findings
}

/// The findings of several files, those of a folder that they share once.
pub fn all_findings<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a Path, Holds)>,
) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for finding in files.into_iter().flat_map(|(what, path, holds)| findings(what, path, holds)) {
        if !all.contains(&finding) {
            all.push(finding);
        }
    }
    all
}

/// Who this process is.
struct Ours {
    user: u32,
    groups: Vec<u32>,
}

impl Ours {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        let mut groups: Vec<u32> = rustix::process::getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        groups.push(rustix::process::getegid().as_raw());
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }

    /// Everything is taken to be its own: what everyone may do is found all the same.
    #[cfg(not(target_os = "linux"))]
    fn now() -> Self {
        Self { user: 0, groups: Vec::new() }
    }

    fn finding(&self, what: &str, path: &Path, found: &Metadata, holds: Holds) -> Option<String> {
        let (mode, file) = (found.mode(), found.is_file());
        let foreign_group = cfg!(target_os = "linux") && !self.groups.contains(&found.gid());
        let may = |others: u32, group: u32| {
            if mode & others != 0 {
                Some(("everyone on this machine", "o"))
            } else {
                (mode & group != 0 && foreign_group)
                    .then_some(("a group of which this process is not", "g"))
            }
        };
        let path = quoted(path);
        if let Some((who, whose)) = may(OTHERS_WRITE, GROUP_WRITES) {
            return Some(format!(
                "{what} {path} has mode {:04o}: {who} can change it; chmod {whose}-w {path}",
                mode & 0o7777
            ));
        }
        if holds == Holds::Secrets
            && file
            && let Some((who, whose)) = may(OTHERS_READ, GROUP_READS)
        {
            return Some(format!(
                "{what} {path} has mode {:04o}: {who} can read it; chmod {whose}-rwx {path}",
                mode & 0o7777
            ));
        }
        let foreign = cfg!(target_os = "linux") && found.uid() != self.user && found.uid() != 0;
        foreign.then(|| {
            format!(
                "{what} {path} belongs to another user ({}), who can change it; chown {} {path}",
                found.uid(),
                self.user
            )
        })
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |char: char| char.is_alphanumeric() || "/._-+,:@%".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Files that are looked at again and again.
#[derive(Debug)]
pub struct Watch {
    files: Vec<(&'static str, PathBuf, Holds)>,
    /// What was found last.
    told: Mutex<Vec<String>>,
}

impl Watch {
    pub fn new(files: Vec<(&'static str, PathBuf, Holds)>) -> Self {
        Self { files, told: Mutex::default() }
    }

    /// Tells what is found: when it is another thing than the last time, or when the files were
    /// `loaded`. Blocks on the file system.
    pub fn look(&self, loaded: bool) {
        let found = all_findings(
            self.files.iter().map(|(what, path, holds)| (*what, path.as_path(), *holds)),
        );
        let mut told = self.told.lock();
        if loaded || *told != found {
            tell(&found);
        }
        *told = found;
    }
}

/// Many files may have the same fault: so many are told one by one.
const TOLD_EACH: usize = 5;

/// Warns of each, or of the first and how many more there are.
pub fn tell(findings: &[String]) {
    for finding in findings.iter().take(TOLD_EACH) {
        tracing::warn!("{finding}");
    }
    if let Some(more) = findings.len().checked_sub(TOLD_EACH).filter(|&more| more > 0) {
        tracing::warn!("and {more} more files or folders that others can change or read");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_else_may_touch_a_file_is_told_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "").unwrap();
        let found = |mode: u32, holds: Holds| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            findings("tls.key", &path, holds)
        };
        // The mode, and what is to be said of a file with decisions, and of one with secrets.
        for (mode, decisions, secrets) in [
            (0o600, None, None),
            (0o640, None, None),
            (0o644, None, Some("can read it; chmod o-rwx")),
            (0o604, None, Some("can read it; chmod o-rwx")),
            (0o660, None, None),
            (0o666, Some("can change it; chmod o-w"), Some("can change it; chmod o-w")),
            (0o602, Some("can change it; chmod o-w"), Some("can change it; chmod o-w")),
        ] {
            for (holds, said) in [(Holds::Decisions, decisions), (Holds::Secrets, secrets)] {
                let found = found(mode, holds);
                assert_eq!(
                    found.len(),
                    usize::from(said.is_some()),
                    "{mode:o} {holds:?}: {found:?}"
                );
                for (found, said) in found.iter().zip(said) {
                    let expected = format!(
                        "tls.key {} has mode {mode:04o}: everyone on this machine {said} {}",
                        path.display(),
                        path.display()
                    );
                    assert_eq!(*found, expected);
                }
            }
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for (mode, said) in [(0o777, true), (0o1777, false), (0o755, false), (0o775, false)] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            let found = findings("tls.key", &path, Holds::Secrets);
            assert_eq!(found.len(), usize::from(said), "{mode:o}: {found:?}");
            assert!(
                found.iter().all(|found| found.starts_with("the folder of tls.key ")),
                "{found:?}"
            );
        }
        assert_eq!(findings("tls.key", &folder.path().join("none"), Holds::Secrets).len(), 0);
    }

    #[test]
    fn another_user_or_group_counts_and_root_does_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let found = |ours: &Ours, mode: u32| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            ours.finding("data_dir", path, &fs::metadata(path).unwrap(), Holds::Secrets)
        };
        let own = fs::metadata(path).unwrap();
        let stranger = Ours { user: own.uid() + 1, groups: vec![own.gid() + 1] };
        if cfg!(target_os = "linux") {
            assert!(
                found(&stranger, 0o660)
                    .unwrap()
                    .contains("a group of which this process is not can change it; chmod g-w")
            );
            assert!(found(&stranger, 0o640).unwrap().contains("can read it; chmod g-rwx"));
            assert_eq!(
                found(&stranger, 0o600).is_some(),
                own.uid() != 0,
                "what belongs to root is root's to change"
            );
        }
        assert_eq!(found(&Ours { user: own.uid(), groups: vec![own.gid()] }, 0o660), None);
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        for (path, text) in [
            ("/a/b-c_1.yaml", "/a/b-c_1.yaml"),
            ("/a b", "'/a b'"),
            ("/a'b", r"'/a'\''b'"),
            ("/a;b", "'/a;b'"),
        ] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }
}
