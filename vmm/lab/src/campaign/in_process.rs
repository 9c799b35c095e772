//! A campaign without worker processes, on a testbed of the caller's.

use std::path::PathBuf;
use std::sync::Arc;

use super::draw::FaultList;
use super::error::CampaignError;
use super::spec::CampaignSpec;
use crate::injection::{self, ATTEMPTS, InjectionRecord, Target, Testbed};
use platform::one_line::one_line;

/// A campaign in this very process, for tests that bring their own NICs. A fault that ends the
/// program ends the campaign.
pub struct InProcessCampaign<'a> {
    spec: CampaignSpec,
    target: Arc<Target>,
    faults: FaultList,
    testbed: &'a dyn Testbed,
    folder: PathBuf,
}

impl<'a> InProcessCampaign<'a> {
    /// Draws the faults of a campaign, which may not ask for a profile. Sockets go into `folder`.
    ///
    /// # Errors
    /// The image is damaged, or the campaign names a function that does not exist.
    pub fn new(
        spec: CampaignSpec,
        testbed: &'a dyn Testbed,
        folder: PathBuf,
    ) -> Result<Self, CampaignError> {
        let target = Arc::new(Target::new(guest_images::DRIVER_DOMAIN)?);
        let faults = FaultList::new(&spec, target.clone(), None)
            .map_err(|source| CampaignError::Draw { file: spec.name.clone(), source })?;
        Ok(Self { spec, target, faults, testbed, folder })
    }

    /// Carries out the injection with this number, from 1, in a fresh system. It is tried as often
    /// as a campaign with workers tries.
    ///
    /// # Errors
    /// The system does not come up, or the fault cannot be injected.
    pub fn inject(&self, id: u64) -> Result<InjectionRecord, CampaignError> {
        let order = self.faults.injection(id).order(&self.spec);
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match injection::carry_out(&order, &self.target, self.testbed, &self.folder) {
                Ok(seen) => return Ok(injection::judge(&order, &seen)),
                Err(error) => why = one_line(&error),
            }
        }
        Err(CampaignError::Trial { id, why })
    }
}
