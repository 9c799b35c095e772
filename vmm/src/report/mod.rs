//! What a campaign says, with how sure it may be of it.

pub mod statistics;
