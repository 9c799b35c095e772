//! How results are printed.

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// The format of a result on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::run(&error))
}
