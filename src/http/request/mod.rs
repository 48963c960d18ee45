//! What a request says: who is calling, how much they may ask for, what the body holds, and how it is refused.

pub mod audience;
pub mod body;
pub mod caller;
pub mod limits;
pub mod member_state;
pub mod problem;
pub mod responses;
