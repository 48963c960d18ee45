//! The state that an application attaches to a member: which JSON is taken, and the form in which it is stored.
//!
//! It is measured as Postgres stores it and streams send it, and not as it was asked: `jsonb` writes numbers out, so
//! `1e308` becomes 309 digits. `headcount.is_state` is the same rule in SQL.
//!
//! Bounded: [`BYTES_MAX`] bytes, [`LEVELS_MAX`] levels, [`NUMBER_MAX`] characters of a number. Nothing is read by
//! `serde_json::Value`, for which an object with the key `$serde_json::private::RawValue` is not data.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Bytes of a state as it is stored, at most.
pub const BYTES_MAX: usize = 1024;

/// Levels of arrays and objects, at most.
pub const LEVELS_MAX: usize = 32;

/// Characters of a number that is written out without an exponent, at most. Every double between 1e-14 and 1e31 with
/// its 17 digits has fewer.
pub const NUMBER_MAX: usize = 32;

/// Why a state was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// It is not JSON.
    #[error("{0}")]
    Malformed(String),
    /// It holds U+0000, which Postgres cannot store.
    #[error("U+0000 cannot be stored")]
    Nul,
    /// Too many levels.
    #[error("at most {LEVELS_MAX} levels of arrays and objects")]
    TooDeep,
    /// A number with too many digits.
    #[error("a number has at most {NUMBER_MAX} characters when it is written out")]
    Number,
    /// Too large.
    #[error("{0} bytes as it is stored, at most {BYTES_MAX}")]
    TooLarge(usize),
}

/// The form in which `jsonb` stores it and shows it, but for the order of keys.
pub fn stored_form(json: &str) -> Result<String, StateError> {
    let mut stored = String::with_capacity(json.len());
    write(json, 0, &mut stored)?;
    if stored.len() > BYTES_MAX { Err(StateError::TooLarge(stored.len())) } else { Ok(stored) }
}

/// Reads one level at a time: what is inside stays text until its turn.
fn write(json: &str, level: usize, to: &mut String) -> Result<(), StateError> {
    let json = json.trim_ascii();
    match json.as_bytes().first() {
        Some(b'[' | b'{') if level == LEVELS_MAX => Err(StateError::TooDeep),
        Some(b'[') => {
            let items: Vec<&RawValue> = read(json)?;
            to.push('[');
            for (n, item) in items.into_iter().enumerate() {
                to.push_str(if n > 0 { ", " } else { "" });
                write(item.get(), level + 1, to)?;
            }
            to.push(']');
            Ok(())
        }
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = read(json)?; // the last of equal keys counts, as in jsonb
            to.push('{');
            for (n, (key, value)) in fields.into_iter().enumerate() {
                to.push_str(if n > 0 { ", " } else { "" });
                write_string(&key, to)?;
                to.push_str(": ");
                write(value.get(), level + 1, to)?;
            }
            to.push('}');
            Ok(())
        }
        Some(b'"') => write_string(&read::<String>(json)?, to),
        Some(b'-' | b'0'..=b'9') => write_number(read::<&RawValue>(json)?.get(), to),
        _ => {
            to.push_str(read::<&RawValue>(json)?.get());
            Ok(())
        }
    }
}

fn read<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, StateError> {
    serde_json::from_str(json).map_err(|error| StateError::Malformed(error.to_string()))
}

fn write_string(text: &str, to: &mut String) -> Result<(), StateError> {
    if text.contains('\0') {
        return Err(StateError::Nul);
    }
    to.push_str(&serde_json::to_string(text).expect("a text is written to memory"));
    Ok(())
}

/// Writes a number as the type `numeric` does: without an exponent, with the digits after the point that it was given.
fn write_number(number: &str, to: &mut String) -> Result<(), StateError> {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent: i64 = exponent.parse().map_err(|_| StateError::Number)?;
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    // Digits after the point, and where the point stands among all digits without their zeros in front.
    let scale = length(fraction).saturating_sub(exponent).max(0);
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let point = length(whole).saturating_add(exponent) - (length(&all) - length(digits));
    let zero = digits.is_empty();
    let most = i64::try_from(NUMBER_MAX).unwrap_or(i64::MAX);
    if scale > most || point > most && !zero {
        return Err(StateError::Number);
    }
    let places = |n: i64| usize::try_from(n).unwrap_or(0); // none below 0
    let at = if zero { 0 } else { places(point) };
    let padded = |skipped, count| digits.chars().chain(std::iter::repeat('0')).skip(skipped).take(count);
    let before = if zero { 0 } else { places(-point).min(places(scale)) };
    let whole: String = padded(0, at).collect();
    let fraction: String =
        std::iter::repeat_n('0', before).chain(padded(at, places(scale) - before)).collect();
    let number = format!(
        "{}{}{}{fraction}",
        if zero { "" } else { sign },
        if whole.is_empty() { "0" } else { &whole },
        if scale > 0 { "." } else { "" },
    );
    if number.len() > NUMBER_MAX {
        return Err(StateError::Number);
    }
    to.push_str(&number);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(json: &str) -> String {
        stored_form(json).unwrap()
    }

    #[test]
    fn numbers_are_written_out_as_postgres_does() {
        for (asked, kept) in [
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("1.50", "1.50"),
            ("1e2", "100"),
            ("1.50e1", "15.0"),
            ("-1.5e-3", "-0.0015"),
            ("100e-1", "10.0"),
            ("0.5e-1", "0.05"),
            ("0e10", "0"),
            ("0e9999", "0"),
            ("0e-5", "0.00000"),
            ("0.0001e35", "10000000000000000000000000000000"),
            ("0.30000000000000004", "0.30000000000000004"),
        ] {
            assert_eq!(stored(asked), kept, "{asked}");
        }
        for long in ["1e32", "1e308", "-1e31", "1e-31", "1e999", "1e99999999999999999999", "0e-31"] {
            assert_eq!(stored_form(long), Err(StateError::Number), "{long}");
        }
    }

    #[test]
    fn a_state_is_measured_as_it_is_stored() {
        assert_eq!(stored("{ \"b\":1,\"a\" :[1, {}],\"b\":2}"), r#"{"a": [1, {}], "b": 2}"#);
        assert_eq!(stored(&format!("\"{}\"", "x".repeat(1022))).len(), 1024);
        assert_eq!(stored_form(&format!("\"{}\"", "x".repeat(1023))), Err(StateError::TooLarge(1025)));
        let spaced = format!("[{}]", ["1"; 400].join(","));
        assert_eq!(stored_form(&spaced), Err(StateError::TooLarge(1200)), "801 bytes asked");
        let long = format!("[{}]", ["1e308"; 145].join(","));
        assert_eq!(stored_form(&long), Err(StateError::Number));
    }

    #[test]
    fn a_state_has_32_levels_at_most_and_no_key_is_special() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(stored(&nested(32)), nested(32));
        assert_eq!(stored_form(&nested(33)), Err(StateError::TooDeep));
        assert_eq!(stored_form(&nested(10_000)), Err(StateError::TooDeep));
        let secret = format!(
            "{{\"$serde_json::private::RawValue\": {}}}",
            serde_json::to_string(&nested(120)).unwrap()
        );
        assert_eq!(stored(&secret), secret);
    }

    #[test]
    fn what_postgres_cannot_store_is_refused_before_it_gets_there() {
        assert_eq!(stored_form(r#"{"a": ["\u0000"]}"#), Err(StateError::Nul));
        assert_eq!(stored_form(r#"{"\u0000": 1}"#), Err(StateError::Nul));
        for bad in ["", "[1", "nul", r#""\ud800""#, "[1]2"] {
            assert!(matches!(stored_form(bad), Err(StateError::Malformed(_))), "{bad:?}");
        }
    }
}
