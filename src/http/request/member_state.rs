//! The state that an application attaches to a member.

use std::sync::Arc;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::problem::{Code, Problem};

/// Bytes of a state as compact JSON, at most.
const STATE_MAX: usize = 1024;

/// Refuses a state that Postgres cannot store or that is too large, and returns the others as compact JSON.
pub fn check(state: Option<Box<RawValue>>) -> Result<Option<Arc<RawValue>>, Problem> {
    let Some(state) = state else { return Ok(None) };
    let value: Value = serde_json::from_str(state.get())
        .map_err(|error| Problem::with(Code::InvalidState, error.to_string()))?;
    if holds_nul(&value) {
        return Err(Problem::with(Code::InvalidState, "U+0000 cannot be stored"));
    }
    let compact = to_raw_value(&value).expect("a parsed value can be written");
    if compact.get().len() > STATE_MAX {
        return Err(Problem::with(
            Code::StateTooLarge,
            format!("{} bytes, at most {STATE_MAX}", compact.get().len()),
        ));
    }
    Ok(Some(compact.into()))
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Result<Option<Arc<RawValue>>, Code> {
        check(Some(serde_json::from_str(text).unwrap())).map_err(|p| p.code())
    }

    #[test]
    fn a_state_is_compacted_and_measured() {
        assert_eq!(check_text("{ \"a\" : 1 }").unwrap().unwrap().get(), "{\"a\":1}");
        assert_eq!(check_text(&format!("\"{}\"", "x".repeat(1022))).unwrap().unwrap().get().len(), 1024);
        assert_eq!(check_text(&format!("\"{}\"", "x".repeat(1023))).unwrap_err(), Code::StateTooLarge);
    }

    #[test]
    fn what_postgres_cannot_store_is_refused_before_it_gets_there() {
        assert_eq!(check_text(r#"{"a": ["\u0000"]}"#).unwrap_err(), Code::InvalidState);
        assert_eq!(check_text(r#"{"\u0000": 1}"#).unwrap_err(), Code::InvalidState);
        assert_eq!(check_text("1e999").unwrap_err(), Code::InvalidState);
    }
}
