//! Files that are read whole: what they are is looked at first, and how much of them is read is
//! bounded.
//!
//! A FIFO that nobody writes to is waited for, and a device such as `/dev/zero` never ends: neither
//! may keep a start or a reload.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// More than any file of settings, tokens or certificates has.
const MAX_BYTES: u64 = 16 << 20;

/// Opens what can be read to its end. `what` completes "and no …". A FIFO that is handed over by
/// the caller, as `<(…)` of a shell does, is read: the caller writes to it.
///
/// # Errors
/// It is a FIFO with a name, a socket or a device, or cannot be opened.
pub fn open(path: &Path, what: &str) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    let is = if kind.is_fifo() && !is_handed_over(path) {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        return File::open(path);
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {is}, and no {what}")))
}

fn is_handed_over(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|of_process| path.starts_with(of_process))
}

/// Reads a file of settings, tokens or certificates.
///
/// # Errors
/// See [`open`]; it is larger than 16 MiB, or cannot be read.
pub fn read(path: &Path, what: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = open(path, what)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(length).is_ok_and(|length| length <= MAX_BYTES) {
        return Ok(bytes);
    }
    Err(io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it is larger than {} MiB", MAX_BYTES >> 20),
    ))
}

/// Reads a file of text.
///
/// # Errors
/// See [`read`]; it is not UTF-8.
pub fn read_text(path: &Path, what: &str) -> io::Result<String> {
    String::from_utf8(read(path, what)?).map_err(|wrong| {
        let place = wrong.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("byte {place} is not UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_file_is_told_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, socket) = (folder.path().join("fifo"), folder.path().join("socket"));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, is) in
            [(&*fifo, "a FIFO"), (&*socket, "a socket"), (Path::new("/dev/zero"), "a device")]
        {
            let refused = read_text(path, "file of tokens").unwrap_err().to_string();
            assert_eq!(refused, format!("it is {is}, and no file of tokens"));
        }
        assert!(is_handed_over(Path::new("/dev/fd/63")) && !is_handed_over(&fifo));
    }

    #[test]
    fn no_more_is_read_than_such_a_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path, "file").unwrap().len() as u64, MAX_BYTES);
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&path, "file").unwrap_err().to_string(), "it is larger than 16 MiB");
        fs::write(&path, b"abc\xff").unwrap();
        assert_eq!(read_text(&path, "file").unwrap_err().to_string(), "byte 3 is not UTF-8");
    }
}
