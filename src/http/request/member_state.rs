//! The state that an application attaches to a member, as it comes in a request.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::problem::{Code, Problem};
use crate::domain::state::{StateError, stored_form};

/// Checks a state, and writes it as it is stored.
pub fn check(state: Option<Box<RawValue>>) -> Result<Option<Arc<RawValue>>, Problem> {
    let Some(state) = state else { return Ok(None) };
    let stored = stored_form(state.get()).map_err(|error| {
        let code = match error {
            StateError::TooLarge(_) | StateError::Number => Code::StateTooLarge,
            _ => Code::InvalidState,
        };
        Problem::with(code, error.to_string())
    })?;
    let raw = RawValue::from_string(stored).expect("what was read and written again is JSON");
    Ok(Some(raw.into()))
}
