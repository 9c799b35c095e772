//! Device: a NIC that is gone, or whose registers are not as they were set up.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::Opinion;
use super::sample::{Mismatch, Sample};
use super::time::{Moment, Stretch, ns};
use crate::topology::Thresholds;

/// Watches the NIC's registers.
#[derive(Debug, Default)]
pub(super) struct Device {
    wrong: Stretch<(bool, Option<Mismatch>)>,
}

impl Device {
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        let symptom = match (s.nic.gone, s.nic.mismatch) {
            (true, _) => Symptom::AllOnes,
            (false, Some(mismatch)) => Symptom::Register(mismatch),
            (false, None) => {
                self.wrong.forget();
                return Opinion::Fine;
            }
        };
        let age = self.wrong.age((s.nic.gone, s.nic.mismatch), now);
        let limit_ns = ns(t.device_us);
        if age.wall_ns < limit_ns {
            return Opinion::Suspect(limit_ns - age.wall_ns);
        }
        Opinion::Failed(Finding::new(Detector::Device, symptom, age, s))
    }
}
