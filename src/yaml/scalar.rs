//! What a scalar means.

use super::Meaning;

const CORE: &str = "tag:yaml.org,2002:";

/// `tag` is the whole tag, `plain` is true of a scalar without quotes. Fails where the tag
/// contradicts the text.
pub(super) fn meaning(text: &str, plain: bool, tag: Option<&str>) -> Result<Meaning, String> {
    let Some(core) = tag.map(|tag| tag.strip_prefix(CORE)) else {
        return Ok(if plain { untagged(text) } else { Meaning::Text });
    };
    let found = untagged(text);
    let fits = match core {
        Some("bool") => matches!(found, Meaning::Bool(_)),
        Some("int") => matches!(found, Meaning::Int(_) | Meaning::Uint(_)),
        Some("null") => found == Meaning::Null,
        Some("float") => return float(text, found),
        Some("binary") => {
            return Err("the tag !!binary is not supported: write the text itself".to_owned());
        }
        Some(_) | None => return Ok(Meaning::Text),
    };
    if fits {
        Ok(found)
    } else {
        Err(format!("`{text}` is not what its tag !!{} says", core.unwrap_or_default()))
    }
}

fn float(text: &str, found: Meaning) -> Result<Meaning, String> {
    match (found, text.parse()) {
        (Meaning::Float(_), _) => Ok(found),
        (Meaning::Int(_) | Meaning::Uint(_), Ok(value)) => Ok(Meaning::Float(value)),
        _ => Err(format!("`{text}` is not what its tag !!float says")),
    }
}

fn untagged(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Meaning::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Meaning::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Meaning::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Meaning::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or(Meaning::Text),
    }
}

fn number(text: &str) -> Option<Meaning> {
    match text.bytes().next()? {
        b'.' => decimal(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let plain = text.replace('_', "");
            whole(&plain).or_else(|| decimal(&plain))
        }
        _ => None,
    }
}

/// Whole numbers: decimal, `0x`, `0o`, `0b`, and octal after a leading 0.
fn whole(text: &str) -> Option<Meaning> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (Some('-'), text.get(1..)?),
        [b'+', ..] => (Some('+'), text.get(1..)?),
        _ => (None, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', _, ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', _, ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match sign {
        Some('-') => 0_i64.checked_sub_unsigned(magnitude).map(Meaning::Int),
        Some(_) => i64::try_from(magnitude).ok().map(Meaning::Int),
        None => Some(i64::try_from(magnitude).map_or(Meaning::Uint(magnitude), Meaning::Int)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, where it is finite.
fn decimal(text: &str) -> Option<Meaning> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned
        .split_once(['e', 'E'])
        .map_or((unsigned, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !(before.is_empty() && after.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    if !(has_digits && digits(before) && digits(after) && exponent_fits) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Meaning::Float)
}
