//! Wildcards: `*` stands for any bytes, also for none.

/// A text with at least one `*`.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    prefix: Box<[u8]>,
    middle: Vec<Box<[u8]>>,
    suffix: Box<[u8]>,
}

impl Pattern {
    /// `None` where there is no `*`.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once('*')?;
        let (middle, suffix) =
            rest.rsplit_once('*').map_or((None, rest), |(middle, suffix)| (Some(middle), suffix));
        let middle = middle
            .into_iter()
            .flat_map(|pieces| pieces.split('*'))
            .filter(|piece| !piece.is_empty());
        Some(Self {
            prefix: boxed(prefix),
            middle: middle.map(boxed).collect(),
            suffix: boxed(suffix),
        })
    }

    /// The prefix and the suffix must not overlap; what stands between them is looked for from left
    /// to right.
    pub(super) fn fits(&self, text: &[u8]) -> bool {
        let Some(mut rest) =
            text.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_suffix(&*self.suffix))
        else {
            return false;
        };
        for piece in &self.middle {
            let Some(after) = after_first(rest, piece) else { return false };
            rest = after;
        }
        true
    }
}

fn boxed(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn after_first<'t>(text: &'t [u8], piece: &[u8]) -> Option<&'t [u8]> {
    let start = text.windows(piece.len()).position(|window| window == piece)?;
    text.get(start + piece.len()..)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_star_is_any_bytes_or_none() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("a*", &["a", "ab", "a*", "a**"], &["", "ba"]),
            ("*a", &["a", "ba", "aa"], &["", "ab"]),
            ("*", &["", "a"], &[]),
            ("**", &["", "a"], &[]),
            ("a*a", &["aa", "aba"], &["a", "ab"]),
            ("ab*ba", &["abba", "ab_ba"], &["aba", "ab", "ba"]),
            ("a*b*c", &["abc", "axbxc", "abbcc"], &["ac", "acb", "abcx"]),
            ("a*b*b", &["abb", "axbxb"], &["ab", "a"]),
            ("a*bc*bc", &["abcbc", "abcbcbc"], &["abc", "abcb"]),
            ("*x*", &["x", "axb"], &["", "ab"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba", "a"]),
        ];
        for (pattern, fitting, others) in cases {
            let compiled = Pattern::new(pattern).unwrap();
            for text in *fitting {
                assert!(compiled.fits(text.as_bytes()), "{pattern} must fit {text}");
            }
            for text in *others {
                assert!(!compiled.fits(text.as_bytes()), "{pattern} must not fit {text}");
            }
        }
        assert!(Pattern::new("a_b").is_none());
    }
}
