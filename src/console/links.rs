//! Addresses of resources. An id may hold `/`, and may be a word that an address of ours ends in.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What of an id needs no encoding in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Last segments of our own addresses, where an id could stand.
const WORDS: [&str; 2] = ["new", "import"];

/// Where a person signs out.
pub(super) const SIGN_OUT: &str = "/console/sign-out";

/// The address of a plan.
pub(super) fn plan(id: &str) -> String {
    resource("plans", id)
}

/// The address of a target.
pub(super) fn target(id: &str) -> String {
    resource("targets", id)
}

fn resource(section: &str, id: &str) -> String {
    let id = if WORDS.contains(&id) {
        // `%6Eew` is the same id, and another address.
        id.bytes()
            .enumerate()
            .map(|(place, byte)| match place {
                0 => format!("%{byte:02X}"),
                _ => char::from(byte).to_string(),
            })
            .collect()
    } else {
        text(id)
    };
    format!("/console/{section}/{id}")
}

/// A text as a part of a query or of a path.
pub(super) fn text(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_an_address_of_its_own() {
        for (id, address) in [
            ("gold", "/console/plans/gold"),
            ("orders/prod", "/console/plans/orders%2Fprod"),
            ("a:b~c._-", "/console/plans/a%3Ab~c._-"),
            ("new", "/console/plans/%6Eew"),
            ("import", "/console/plans/%69mport"),
            ("news", "/console/plans/news"),
        ] {
            assert_eq!(plan(id), address);
            let shown = address.strip_prefix("/console/plans/").unwrap();
            let read = percent_encoding::percent_decode_str(shown).decode_utf8().unwrap();
            assert_eq!(read, id, "it leads back");
        }
    }
}
