//! Tests on emulated processors, as in the nested machine: code runs fifty times slower there, an
//! exit takes up to a millisecond, and a vCPU's clock runs on while its processor is taken away.

use std::path::Path;

use supervisor::topology::Thresholds;
use supervisor::topology::{DrillSpec, Topology};

/// Set for programs that run there.
pub const VARIABLE: &str = "WARMSPARE_EMULATED_PROCESSORS";

/// Thresholds for such processors.
pub const PATIENT: Thresholds = Thresholds {
    // Code that is run for the first time is translated first: 15 ms have been seen.
    hang_cpu_us: 50_000,
    second_looks: 4,
    second_look_us: 3_000,
    wall_cap_us: 1_000_000,
    spin_cpu_us: 40_000,
    stall_us: 40_000,
    silent_transmit_us: 40_000,
    silent_receive_us: 40_000,
    masked_us: 100_000,
    device_us: 10_000,
    lost_wakeups: 8,
    // A look takes a quarter of a millisecond, and what is looked for lasts ten of these.
    look_us: 5_000,
    ..Thresholds::DEFAULT
};

/// As patient as [`PATIENT`] is beside the defaults.
const SLOWNESS: u32 = 10;
/// What a drill may take there: a hundred times as long as elsewhere.
const DRILL_MS: u32 = 100;

/// How many times slower this machine is than those that times are promised for.
pub fn slowness() -> u32 {
    if std::env::var_os(VARIABLE).is_some() { SLOWNESS } else { 1 }
}

/// The demo's topology with this socket; patient in programs that run there.
pub fn demo(socket: &Path) -> Topology {
    let mut topology = Topology::demo(socket);
    if std::env::var_os(VARIABLE).is_some() {
        be_patient(&mut topology);
    }
    topology
}

/// Gives a topology the patience that is needed there. Drills by the clock are off: each would be
/// one more thing that is slow.
pub fn be_patient(topology: &mut Topology) {
    topology.detect = PATIENT;
    topology.drill = DrillSpec { every_s: 0, answer_within_ms: DRILL_MS, ..DrillSpec::default() };
}
