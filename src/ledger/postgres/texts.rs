//! Names as PostgreSQL can keep them: its texts hold no byte 0.

use std::borrow::Cow;

/// The name as it is written. Nearly all are written as they are.
pub(super) fn written(name: &str) -> Cow<'_, str> {
    if name.contains(['\0', '\\']) {
        Cow::Owned(name.replace('\\', "\\\\").replace('\0', "\\0"))
    } else {
        Cow::Borrowed(name)
    }
}

/// The name that was [`written`].
pub(super) fn read(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut name = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => name.push(if letters.next() == Some('0') { '\0' } else { '\\' }),
            letter => name.push(letter),
        }
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_was_written_and_holds_no_zero_meanwhile() {
        for name in ["", "acme", "\\", "\0", "\\0", "a\0b\\0\\\\", "\\\0", "é\0"] {
            let text = written(name);
            assert!(!text.contains('\0'), "{name:?}");
            assert_eq!(read(&text), name);
        }
        assert_eq!(written("orders/prod"), "orders/prod");
    }
}
