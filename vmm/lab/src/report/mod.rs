//! `warmspare report`: what campaigns found, and how certain the figures are.
//!
//! ```text
//!  folder ──▶ group (classify, statistics, distribution) ──▶ model ─┬▶ text
//!  paper ─────────────────────────────────────────────────▶         ├▶ JSON
//!  worst ─────────────────────────────────────────────────▶         └▶ html (markup, plot)
//! ```
//!
//! Nothing is left out of a count because it looks odd: interruptions during which the machine
//! itself stood still are marked and stay in.

mod classify;
mod distribution;
mod folder;
mod format;
mod group;
mod html;
mod markup;
mod model;
mod paper;
mod plot;
mod statistics;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod worst;

pub use folder::{Folder, FolderError};
pub use model::Report;
