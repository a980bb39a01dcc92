//! Files that are read whole: what they are is looked at first, and how much of them is read is
//! bounded.
//!
//! A FIFO that nobody writes to is waited for, and a device such as `/dev/zero` never ends: neither
//! may keep a start or a reload.

use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// More than any file of settings, tokens or certificates has.
const MAX_BYTES: u64 = 16 << 20;

/// More than any file of plans and customers has.
const MAX_DECLARED_BYTES: u64 = 1 << 30;
const CHUNK_BYTES: u64 = 1 << 16;

/// Opens what can be read to its end. `what` completes "and no …". A FIFO that is handed over by
/// the caller, as `<(…)` of a shell does, is read: the caller writes to it.
///
/// # Errors
/// It is a FIFO with a name, a socket or a device, or cannot be opened.
pub fn open(path: &Path, what: &str) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    match special(kind).filter(|_| !(kind.is_fifo() && is_handed_over(path))) {
        Some(is) => Err(refused(is, what)),
        None => File::open(path),
    }
}

/// Looks at what others will open, before they do. What is not there is fine.
///
/// # Errors
/// It is there, and no file; or that cannot be told.
pub fn look(path: &Path, what: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(refused("a folder", what)),
        Ok(found) => special(found.file_type()).map_or(Ok(()), |is| Err(refused(is, what))),
        Err(wrong) if wrong.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(wrong) => Err(wrong),
    }
}

/// What is waited for, or never ends.
fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("a device")
    } else {
        None
    }
}

fn refused(is: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {is}, and no {what}"))
}

fn is_handed_over(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|of_process| path.starts_with(of_process))
}

/// Reads a text of any length that people have. What is no text is noticed on the way: `/dev/zero`
/// as standard input has no end.
///
/// # Errors
/// It is no text, larger than 1 GiB, or cannot be read.
pub fn read_long_text(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let (mut from, mut pending) = (from.take(MAX_DECLARED_BYTES + 1), Vec::new());
    loop {
        let read = (&mut from).take(CHUNK_BYTES).read_to_end(&mut pending)?;
        let valid = match str::from_utf8(&pending) {
            Ok(valid) => valid,
            // The rest of a character may come.
            Err(wrong) if wrong.error_len().is_none() && read > 0 => pending
                .get(..wrong.valid_up_to())
                .map_or("", |valid| str::from_utf8(valid).unwrap_or_default()),
            Err(wrong) => return Err(not_utf8(text.len() + wrong.valid_up_to())),
        };
        if let Some(place) = valid.find('\0') {
            let place = text.len() + place;
            let what = format!("byte {place} is NUL: it is no text");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        text.push_str(valid);
        let valid = valid.len();
        pending.drain(..valid);
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_DECLARED_BYTES) {
            return Err(too_large(MAX_DECLARED_BYTES));
        }
        if read == 0 {
            return Ok(text);
        }
    }
}

fn not_utf8(place: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("byte {place} is not UTF-8"))
}

fn too_large(most: u64) -> io::Error {
    let what = format!("it is larger than {} MiB", most >> 20);
    io::Error::new(io::ErrorKind::FileTooLarge, what)
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
    Err(too_large(MAX_BYTES))
}

/// Reads a file of text.
///
/// # Errors
/// See [`read`]; it is not UTF-8.
pub fn read_text(path: &Path, what: &str) -> io::Result<String> {
    String::from_utf8(read(path, what)?).map_err(|wrong| not_utf8(wrong.utf8_error().valid_up_to()))
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
            assert_eq!(look(path, "file of tokens").unwrap_err().to_string(), refused);
        }
        look(&folder.path().join("none"), "file").unwrap();
        let refused = look(folder.path(), "file").unwrap_err().to_string();
        assert_eq!(refused, "it is a folder, and no file");
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

    #[test]
    fn a_long_text_is_read_to_its_end_and_what_is_no_text_is_not() {
        let long = "ä€😀x".repeat(40_000);
        assert_eq!(read_long_text(long.as_bytes()).unwrap(), long);
        assert_eq!(read_long_text(&b""[..]).unwrap(), "");
        let refused = |bytes: &[u8]| read_long_text(bytes).unwrap_err().to_string();
        assert_eq!(refused(b"ab\0c"), "byte 2 is NUL: it is no text");
        assert_eq!(refused(b"ab\xff"), "byte 2 is not UTF-8");
        assert_eq!(refused("ab€".as_bytes().split_last().unwrap().1), "byte 2 is not UTF-8");
        let endless = |path| read_long_text(File::open(path).unwrap()).unwrap_err().to_string();
        assert_eq!(endless("/dev/zero"), "byte 0 is NUL: it is no text");
        assert!(endless("/dev/urandom").starts_with("byte "));
    }
}
