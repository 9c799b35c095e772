//! Where trials take place: emulated NICs on a switch, unless somebody brings other ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::draw::Faults;
use super::error::CampaignError;
use super::judge;
use super::order::Order;
use super::record::InjectionRecord;
use super::run::ATTEMPTS;
use super::spec::{CampaignSpec, Configuration};
use super::target::Target;
use super::trial;
use nic::wire::Wire;
use supervisor::Wires;
use supervisor::topology::{DrillSpec, Policy, Topology};

/// What a system under trial is made of, and what its sender is plugged into.
pub trait Testbed {
    /// The topology of a system with its socket in `folder`.
    fn topology(&self, configuration: Configuration, folder: &Path) -> Topology;

    /// The sender's end of the network that the NICs are on; asked for once for each system, before
    /// it is started.
    ///
    /// # Errors
    /// There is none.
    fn wire(&self, wires: &mut Wires) -> io::Result<Arc<dyn Wire>>;

    /// How many times as long as on a machine of today everything may take.
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
        // A drill would be one more thing that happens by the clock.
        topology.drill = DrillSpec { every_s: 0, ..DrillSpec::default() };
        topology
    }

    fn wire(&self, wires: &mut Wires) -> io::Result<Arc<dyn Wire>> {
        Ok(wires.switch("lan").attach("sender").map_err(io::Error::other)?)
    }
}

/// A campaign in this very process, on a testbed of the caller's: for tests that bring their own
/// NICs. A fault that ends the program ends the campaign.
pub struct InProcessCampaign<'a> {
    spec: CampaignSpec,
    target: Arc<Target>,
    faults: Faults,
    testbed: &'a dyn Testbed,
    folder: PathBuf,
}

impl<'a> InProcessCampaign<'a> {
    /// Draws the faults of a campaign, which may not ask for a profile. Sockets go into `folder`.
    ///
    /// # Errors
    /// The image is damaged, or the campaign names what is not there.
    pub fn new(
        spec: CampaignSpec,
        testbed: &'a dyn Testbed,
        folder: PathBuf,
    ) -> Result<Self, CampaignError> {
        let target = Arc::new(Target::new(guest_images::DRIVER_DOMAIN)?);
        let faults = Faults::new(&spec, target.clone(), None)
            .map_err(|source| CampaignError::Draw { file: spec.name.clone(), source })?;
        Ok(Self { spec, target, faults, testbed, folder })
    }

    /// Carries out the injection with this number, from 1, in a fresh system, as often as a campaign
    /// tries.
    ///
    /// # Errors
    /// The system does not come up, or the fault cannot be injected.
    pub fn inject(&self, id: u64) -> Result<InjectionRecord, CampaignError> {
        let order = Order::of(&self.spec, self.faults.injection(id));
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match trial::carry_out(&order, &self.target, self.testbed, &self.folder) {
                Ok(seen) => return Ok(judge::record(&order, &seen)),
                Err(error) => why = platform::one_line::one_line(&error),
            }
        }
        Err(CampaignError::Trial { id, why })
    }
}
