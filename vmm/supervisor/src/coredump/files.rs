//! Names of the files in a failure's folder.

/// The core file.
pub const CORE_FILE: &str = "core";
/// The driver's program, with symbols and debug information.
pub const IMAGE_FILE: &str = "domain.elf";
/// The description of the failure.
pub const FAILURE_FILE: &str = "failure.json";
