//! What the nested machine and its host say to each other: one JSON object a line.

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port, as the machine's Linux shows it.
pub const PORT_NAME: &str = "warmspare.results";

/// Where the tests lie inside, if they were asked for.
pub const TESTS_FOLDER: &str = "/target/release";

/// From the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromGuest {
    /// It is up.
    Hello {
        /// Release of its kernel.
        kernel: String,
    },
    /// A step has ended.
    Step {
        /// Its name.
        name: String,
        /// Whether it passed.
        ok: bool,
        /// How long it took, in milliseconds of the machine's own clock.
        ms: f64,
        /// What was measured, or why it failed.
        detail: serde_json::Value,
    },
    /// Pull or plug the cable of a NIC; waits for [`ToGuest`].
    SetLink {
        /// `nic0`, `nic1` or `sender`.
        nic: String,
        /// Plug it in.
        up: bool,
    },
    /// The end.
    Verdict {
        /// Steps that passed.
        passed: usize,
        /// Names of those that did not.
        failed: Vec<String>,
    },
}

/// To the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToGuest {
    /// It is done.
    Done,
    /// It cannot be done.
    Refused {
        /// Why not.
        why: String,
    },
}
