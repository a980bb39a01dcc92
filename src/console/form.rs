//! What a form sent: names and texts, in order, of `application/x-www-form-urlencoded` or
//! `multipart/form-data`. Rows of a list have numbered names, `quotas[0].limit`, and each row says
//! that it is there by a field of its own, `quotas[0]`.

use std::collections::HashMap;
use std::fmt;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Proves that a form is one of our pages'.
pub(super) const CSRF: &str = "csrf";
/// Names what a form does, so that it is done once.
pub(super) const ONCE: &str = "once";
/// Which state of a resource the form was made from.
pub(super) const ETAG: &str = "etag";
/// Which button was pressed.
const DO: &str = "do";
/// Shows what was sent, and does nothing.
pub(super) const AGAIN: &str = "again";
/// What is in the field of a row that is there.
pub(super) const THERE: &str = "1";

/// Fields of one form. The largest plan that has a form at all has three quarters of it.
const MOST_FIELDS: usize = 8_000;
/// Fields that are never sent back: they hold what nobody may read in a page.
const SECRET: &[&str] = &["token", "value"];

/// What of a form is sent back to whoever has no session: answers wait for those who read them.
const MOST_CARRIED_BYTES: usize = 64 * 1024;

/// The fields of a form, each with its text.
#[derive(Clone, Default)]
pub(super) struct Form {
    fields: Vec<(String, String)>,
    /// Where the first field of each name is.
    places: HashMap<String, usize>,
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Eq for Form {}

impl FromIterator<(String, String)> for Form {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(fields: I) -> Self {
        let mut form = Self::default();
        fields.into_iter().for_each(|(name, text)| form.push(name, text));
        form
    }
}

/// What a form is sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To be saved.
    Save,
    /// To be shown again, with a row more, or one less, or as it is.
    Show,
}

/// What is sent may hold a token or the value of a key.
impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|(name, _)| name)).finish()
    }
}

impl Form {
    /// Reads a whole body.
    ///
    /// # Errors
    /// A sentence on why it is no form.
    pub(super) async fn read(headers: &HeaderMap, body: Bytes) -> Result<Self, String> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default();
        let form = if let Ok(boundary) = multer::parse_boundary(kind) {
            Self::parts(body, boundary).await?
        } else if kind.starts_with("application/x-www-form-urlencoded") {
            let text = std::str::from_utf8(&body).map_err(|_| "It is not text.".to_owned())?;
            Self::decode(text)
        } else {
            return Err("It has none of the content types of forms.".to_owned());
        };
        if form.field_count() > MOST_FIELDS {
            return Err(format!("It has more than {MOST_FIELDS} fields."));
        }
        Ok(form)
    }

    async fn parts(body: Bytes, boundary: String) -> Result<Self, String> {
        let whole = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>(body) });
        let mut parts = multer::Multipart::new(whole, boundary);
        let mut form = Self::default();
        let cut = |error: multer::Error| format!("It cannot be read: {error}.");
        while let Some(part) = parts.next_field().await.map_err(cut)? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(cut)?;
            let text = std::str::from_utf8(&bytes)
                .map_err(|_| format!("What was sent as `{name}` is not text in UTF-8."))?
                .replace("\r\n", "\n");
            form.push(name, text);
            if form.field_count() > MOST_FIELDS {
                break;
            }
        }
        Ok(form)
    }

    /// Reads `a=b&c=d`. Broken encodings stay as they are. Lines end in `\n`, however a browser
    /// sends them.
    pub(super) fn decode(text: &str) -> Self {
        let plain = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().replace("\r\n", "\n")
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).take(MOST_FIELDS + 1);
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, text)| (plain(name), plain(text)))
            .collect()
    }

    /// `a=b&c=d`, without what belongs to one sending alone.
    pub(super) fn encoded(&self) -> String {
        let pairs = self.fields.iter().filter(|(name, _)| name != CSRF && name != DO);
        let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        pairs
            .map(|(name, text)| format!("{}={}", part(name), part(text)))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// The text of a field, without spaces at its ends; empty where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.raw(name).unwrap_or_default().trim()
    }

    /// The text of a field as it was typed.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let (_, text) = self.fields.get(*self.places.get(name)?)?;
        Some(text)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Puts a field, in the place of one of its name.
    pub(super) fn set(&mut self, name: impl Into<String>, text: impl Into<String>) {
        let (name, text) = (name.into(), text.into());
        match self.places.get(&name).and_then(|place| self.fields.get_mut(*place)) {
            Some(field) => field.1 = text,
            None => self.push(name, text),
        }
    }

    /// Puts a field behind all others. Where another has its name, that one is found.
    pub(super) fn push(&mut self, name: impl Into<String>, text: impl Into<String>) {
        let name = name.into();
        self.places.entry(name.clone()).or_insert(self.fields.len());
        self.fields.push((name, text.into()));
    }

    /// All fields that may be sent back, but for those of one sending alone.
    pub(super) fn carried(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        fields.filter(|(name, _)| *name != CSRF && *name != DO && !SECRET.contains(name))
    }

    /// All fields that a person fills in.
    pub(super) fn filled(&self) -> impl Iterator<Item = (&str, &str)> {
        self.carried().filter(|(name, _)| *name != ONCE && *name != ETAG)
    }

    /// How many fields there are.
    pub(super) fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// It is small enough to be sent back to anybody.
    pub(super) fn may_be_carried(&self) -> bool {
        let bytes = self.carried().map(|(name, text)| name.len() + text.len()).sum::<usize>();
        bytes <= MOST_CARRIED_BYTES
    }

    /// It only leads back to a form, see [`AGAIN`].
    pub(super) fn leads_back(&self) -> bool {
        self.get(DO) == AGAIN
    }

    /// How many rows a list has.
    pub(super) fn rows(&self, list: &str) -> usize {
        (0..).take_while(|row| self.has(&format!("{list}[{row}]"))).count()
    }

    /// What the form was sent for. Rows are added and taken out on the way.
    pub(super) fn step(&mut self) -> Step {
        let step = self.get(DO).to_owned();
        match step.split_once(' ') {
            Some(("add", list)) => {
                let row = self.rows(list);
                self.push(format!("{list}[{row}]"), THERE);
                Step::Show
            }
            Some(("remove", row)) => {
                self.remove(row);
                Step::Show
            }
            _ if step == AGAIN => Step::Show,
            _ => Step::Save,
        }
    }

    /// Takes those rows of a list out in which none of these fields is filled in.
    pub(super) fn drop_blank(&mut self, list: &str, fields: &[&str]) {
        for row in (0..self.rows(list)).rev().map(|row| format!("{list}[{row}]")) {
            if fields.iter().all(|field| self.get(&format!("{row}.{field}")).is_empty()) {
                self.remove(&row);
            }
        }
    }

    /// Takes a row out, such as `quotas[1]`; those after it move up.
    fn remove(&mut self, row: &str) {
        let Some((list, number)) = row.strip_suffix(']').and_then(|row| row.rsplit_once('['))
        else {
            return;
        };
        let Ok(number) = number.parse::<usize>() else { return };
        let within = |name: &str| {
            let (at, rest) = name.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
            Some((at.parse::<usize>().ok()?, rest.to_owned()))
        };
        let mut fields = std::mem::take(&mut self.fields);
        fields.retain(|(name, _)| within(name).is_none_or(|(at, _)| at != number));
        for (name, _) in &mut fields {
            if let Some((at, rest)) = within(name).filter(|(at, _)| *at > number) {
                *name = format!("{list}[{}]{rest}", at - 1);
            }
        }
        *self = fields.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_sends_is_read_as_it_was_typed() {
        let form = Form::decode("name=Caf%C3%A9+%26+Co&empty=&alone&a%5B0%5D=1&bad=%zz%ff");
        for (name, text) in [
            ("name", "Café & Co"),
            ("empty", ""),
            ("alone", ""),
            ("a[0]", "1"),
            ("bad", "%zz\u{fffd}"),
            ("none", ""),
        ] {
            assert_eq!(form.get(name), text, "{name}");
        }
        assert!(!form.has("none") && form.has("alone"));
        assert_eq!(Form::decode(&form.encoded()), form);
        assert_eq!(Form::decode("lines=a%0D%0Ab").get("lines"), "a\nb", "as a plan keeps them");
        assert_eq!(Form::decode("twice=1&twice=2").get("twice"), "1");
    }

    #[test]
    fn a_form_is_carried_up_to_a_size() {
        let sized = |bytes: usize| Form::decode(&format!("text={}", "a".repeat(bytes - 4)));
        assert!(sized(MOST_CARRIED_BYTES).may_be_carried());
        assert!(!sized(MOST_CARRIED_BYTES + 1).may_be_carried());
    }

    #[tokio::test]
    async fn files_come_in_parts_and_what_is_no_form_is_refused() {
        let read = async |kind: &str, body: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            Form::read(&headers, Bytes::from(body.to_owned())).await
        };
        let parts = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.json\"\r\n\r\n{\"a\":1}\r\n\
                     --x\r\ncontent-disposition: form-data; name=\"do\"\r\n\r\nagain\r\n--x--\r\n";
        let form = read("multipart/form-data; boundary=x", parts).await.unwrap();
        assert_eq!((form.get("file"), form.get(DO)), ("{\"a\":1}", AGAIN));
        let cut = parts.get(..100).unwrap();
        assert!(read("multipart/form-data; boundary=x", cut).await.is_err());
        assert!(read("text/plain", "a=b").await.is_err());
        let many = "a=1&".repeat(MOST_FIELDS);
        let form = "application/x-www-form-urlencoded; charset=UTF-8";
        assert!(read(form, &many).await.is_ok());
        assert!(read(form, &format!("{many}a=1")).await.is_err());
    }

    #[test]
    fn rows_are_added_at_the_end_and_those_behind_one_that_goes_move_up() {
        let mut form =
            Form::decode("q[0]=1&q[0].n=a&q[1]=1&q[1].n=b&q[2]=1&q[2].n=c&do=remove q[1]");
        assert_eq!(form.step(), Step::Show);
        assert_eq!(form.rows("q"), 2);
        assert_eq!((form.get("q[0].n"), form.get("q[1].n")), ("a", "c"));
        form.set(DO, "add q");
        assert_eq!(form.step(), Step::Show);
        assert_eq!((form.rows("q"), form.get("q[2].n")), (3, ""));
        let mut inner = Form::decode("e[0]=1&e[0].q[0]=1&e[1]=1&e[1].q[0]=1&e[1].q[0].n=x");
        inner.set(DO, "remove e[0]");
        assert_eq!(inner.step(), Step::Show);
        assert_eq!((inner.rows("e"), inner.get("e[0].q[0].n")), (1, "x"));
        form.drop_blank("q", &["n"]);
        assert_eq!((form.rows("q"), form.get("q[1].n")), (2, "c"));
        form.set("q[0].n", "");
        form.drop_blank("q", &["n", "m"]);
        assert_eq!((form.rows("q"), form.get("q[0].n")), (1, "c"));
        for nonsense in ["remove", "remove q", "remove q[", "remove q[x]", "remove ]", "save"] {
            let mut same = form.clone();
            same.set(DO, nonsense);
            same.step();
            assert_eq!(same.rows("q"), 1, "{nonsense}");
        }
    }

    #[test]
    fn secrets_are_never_sent_back() {
        let form = Form::decode("csrf=x&do=save&token=t&value=v&id=acme-1&once=o&etag=r1");
        assert_eq!(
            form.carried().collect::<Vec<_>>(),
            [("id", "acme-1"), ("once", "o"), ("etag", "r1")]
        );
        assert_eq!(form.filled().collect::<Vec<_>>(), [("id", "acme-1")]);
        let shown = format!("{form:?}");
        assert!(!shown.contains("\"v\"") && !shown.contains("\"t\""), "{shown}");
    }
}
