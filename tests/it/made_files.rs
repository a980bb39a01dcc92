//! Files that a test makes before it starts a server with them.

use std::path::Path;
use std::process::Command;

/// A library that stands before the C library (`LD_PRELOAD`), from its source: its path.
pub fn preloaded(folder: &Path, source: &str) -> String {
    let (c, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&c, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &c]);
    assert!(cc.status().unwrap().success());
    library.to_str().unwrap().to_owned()
}

/// A certificate for localhost that vouches for itself, and its key, in PEM: their paths.
pub fn self_signed(folder: &Path) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned())
}
