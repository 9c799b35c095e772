//! What a system under test is made of: emulated NICs on a switch, unless the caller brings others.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::kinds::Configuration;
use nic::wire::Wire;
use supervisor::Wires;
use supervisor::topology::{DrillSpec, Policy, Topology};

/// What a system under test is made of, and what its sender is plugged into. A testbed with other
/// domains or other NICs implements this, and everything above it stays as it is.
pub trait Testbed {
    /// The topology of a system with its socket in `folder`.
    fn topology(&self, configuration: Configuration, folder: &Path) -> Topology;

    /// The sender's end of the network that the NICs are on; called once for each system, before
    /// the system is started.
    ///
    /// # Errors
    /// The network cannot be reached.
    fn wire(&self, wires: &mut Wires) -> io::Result<Arc<dyn Wire>>;

    /// How many times as long as on ordinary hardware everything may take.
    fn slowness(&self) -> u32 {
        1
    }
}

/// Two emulated NICs on one switch.
#[derive(Clone, Copy, Debug)]
pub struct Emulated;

impl Testbed for Emulated {
    fn topology(&self, configuration: Configuration, folder: &Path) -> Topology {
        let mut topology = Topology::demo(&folder.join("app.sock"));
        topology.policy = match configuration {
            Configuration::FastSpare => Policy::FastSpare,
            Configuration::Spare => Policy::Spare,
            Configuration::Reboot | Configuration::None => Policy::Reboot,
        };
        if topology.policy == Policy::Reboot {
            topology.domains.truncate(1);
        }
        // A periodic drill would be one more thing that happens during the observation.
        topology.drill = DrillSpec { every_s: 0, ..DrillSpec::default() };
        topology
    }

    fn wire(&self, wires: &mut Wires) -> io::Result<Arc<dyn Wire>> {
        Ok(wires.switch("lan").attach("sender").map_err(io::Error::other)?)
    }
}
