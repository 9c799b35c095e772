//! Tests on emulated processors, as in the nested machine: code runs fifty times slower there, a VM
//! exit takes up to a millisecond, and a vCPU's clock runs on while its processor is taken away.

use std::path::Path;

use supervisor::topology::Thresholds;
use supervisor::topology::{DrillSpec, Topology};

/// Environment variable that is set for programs that run there.
pub const VARIABLE: &str = "WARMSPARE_EMULATED_PROCESSORS";

/// Thresholds for such processors.
pub const PATIENT: Thresholds = Thresholds {
    // Code that runs for the first time is translated first: 15 ms have been seen.
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
    // A sample takes a quarter of a millisecond, and what it looks for lasts two of these periods, or
    // eight and more.
    look_us: 5_000,
    ..Thresholds::DEFAULT
};

/// Factor by which the times of [`PATIENT`] exceed the defaults.
const SLOWNESS: u32 = 10;
/// How long a drill may take there, milliseconds: a hundred times as long as elsewhere.
const DRILL_MS: u32 = 100;

/// How many times slower this machine is than those for which times are promised.
pub fn slowness() -> u32 {
    if std::env::var_os(VARIABLE).is_some() { SLOWNESS } else { 1 }
}

/// The demo's topology with this socket; with patient thresholds in programs that run there.
pub fn demo(socket: &Path) -> Topology {
    let mut topology = Topology::demo(socket);
    if std::env::var_os(VARIABLE).is_some() {
        be_patient(&mut topology);
    }
    topology
}

/// Sets the thresholds that are needed there. Periodic drills are off, because each would add
/// another slow activity.
pub fn be_patient(topology: &mut Topology) {
    topology.detect = PATIENT;
    topology.drill = DrillSpec { every_s: 0, answer_within_ms: DRILL_MS, ..DrillSpec::default() };
}
