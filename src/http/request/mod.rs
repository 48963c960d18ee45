//! Parses and refuses requests: caller, body, limits, problems.

pub mod audience;
pub mod body;
pub mod budget;
pub mod caller;
pub mod checked;
pub mod limits;
pub mod member_state;
pub mod problem;
pub mod quota;
pub mod responses;
