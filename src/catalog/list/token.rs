//! Page tokens: where the last page ended. A token says where, not how many, so edits between two
//! pages neither repeat nor skip a resource.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{First, Position};
use crate::catalog::kind::Kind;
use crate::catalog::secret::HashKey;
use crate::decide::invalid::Invalid;

/// Bytes that tie a token to its list.
const TAG: usize = 8;

/// What a token belongs to: with another filter or order it would lead nowhere.
pub(super) struct Token<'a> {
    pub(super) key: &'a HashKey,
    pub(super) kind: Kind,
    pub(super) filter: &'a str,
    pub(super) order_by: &'a str,
}

/// A position that is kept.
#[derive(Debug)]
pub(super) struct Place {
    first: OwnedFirst,
    pub(super) id: String,
    /// Resources that were found up to there, where nobody knows how many there are in all.
    pub(super) found: Option<usize>,
}

#[derive(Debug)]
enum OwnedFirst {
    Same,
    Text(String),
    Instant(u64),
}

impl Place {
    pub(super) fn position(&self) -> Position<'_> {
        let first = match &self.first {
            OwnedFirst::Same => First::Same,
            OwnedFirst::Text(text) => First::Text(text),
            OwnedFirst::Instant(instant) => First::Instant(*instant),
        };
        Position { first, id: &self.id }
    }
}

impl Token<'_> {
    pub(super) fn write(&self, position: Position<'_>) -> String {
        let first = match position.first {
            First::Same => "s".to_owned(),
            First::Text(text) => format!("t{text}"),
            First::Instant(instant) => format!("i{instant}"),
        };
        self.write_payload(position.id, &first)
    }

    /// Of a list by id that is looked through in parts: as far as was looked, and how many were
    /// found up to there.
    pub(super) fn write_found(&self, id: &str, found: usize) -> String {
        self.write_payload(id, &format!("f{found}"))
    }

    fn write_payload(&self, id: &str, first: &str) -> String {
        // No id holds a line feed.
        let payload = format!("{id}\n{first}");
        let mut bytes = self.tag(payload.as_bytes()).to_vec();
        bytes.extend(payload.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for an empty text: the first page. Errors: a text that is no token of this list.
    pub(super) fn read(&self, text: &str) -> Result<Option<Place>, Invalid> {
        if text.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            Invalid::new(
                "page_token",
                "is not a token of this list: give the `next_page_token` of the page before, with the same `filter` and `order_by`",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let (tag, payload) = bytes.split_first_chunk::<TAG>().ok_or_else(wrong)?;
        if *tag != self.tag(payload) {
            return Err(wrong());
        }
        let payload = std::str::from_utf8(payload).map_err(|_| wrong())?;
        let (id, first) = payload.split_once('\n').ok_or_else(wrong)?;
        let first = match first.split_at_checked(1) {
            Some(("s", "")) => OwnedFirst::Same,
            Some(("t", text)) => OwnedFirst::Text(text.to_owned()),
            Some(("i", instant)) => OwnedFirst::Instant(instant.parse().map_err(|_| wrong())?),
            Some(("f", found)) => {
                let found = Some(found.parse().map_err(|_| wrong())?);
                return Ok(Some(Place { first: OwnedFirst::Same, id: id.to_owned(), found }));
            }
            _ => return Err(wrong()),
        };
        Ok(Some(Place { first, id: id.to_owned(), found: None }))
    }

    fn tag(&self, payload: &[u8]) -> [u8; TAG] {
        tag(
            self.key,
            self.kind.word(),
            &[self.filter.as_bytes(), self.order_by.as_bytes(), payload],
        )
    }
}

/// Ties what a token says to what was asked for.
pub(super) fn tag(key: &HashKey, list: &str, parts: &[&[u8]]) -> [u8; TAG] {
    // The byte 0 begins no value of an API key, which the same secret hashes.
    let mut hash = blake3::Hasher::new_keyed(&key.0);
    hash.update(b"\0page\0").update(list.as_bytes());
    for part in parts {
        hash.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes()).update(part);
    }
    let mut tag = [0; TAG];
    hash.finalize_xof().fill(&mut tag);
    tag
}
