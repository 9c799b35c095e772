//! What the outside learns.

mod witness;

pub use witness::{Stall, Witness};
