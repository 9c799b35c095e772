//! Counts the planned switches of a system under test, and limits how many may be refused.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use operate::observe::Witness;
use platform::clock::monotonic_ns;
use supervisor::{SwitchError, SwitchReport};
use switchboard::HandoverError;

/// Numbers of switches of one system that were carried out or refused. A refusal while the machine
/// itself stood still says nothing about the product, unless there are many. Other refusals
/// are allowed if they are rare, because the witness cannot see every stall.
#[derive(Default)]
pub(super) struct Switches {
    done: AtomicU32,
    /// Refused while the machine stood still.
    refused_in_stalls: AtomicU32,
    /// Refused for no known reason.
    refused: AtomicU32,
    witness: OnceLock<Witness>,
}

impl Switches {
    /// Most refusals that are allowed while the machine stands still.
    const MOST_IN_STALLS: u32 = 8;
    /// Switches that must have been carried out for each refusal after the first.
    const DONE_FOR_A_REFUSAL: u32 = 10;

    /// Counts one switch; returns its report if it was carried out.
    ///
    /// # Panics
    /// Panics if the switch is impossible, or if too many were refused.
    pub(super) fn watch(
        &self,
        switch: impl FnOnce() -> Result<SwitchReport, SwitchError>,
    ) -> Option<SwitchReport> {
        let witness = self.witness.get_or_init(|| Witness::spawn().expect("the witness"));
        let began_ns = monotonic_ns();
        let error = match switch() {
            Ok(report) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                return Some(report);
            }
            Err(error) => error,
        };
        let ended_ns = monotonic_ns();
        use SwitchError::{Handover, Unready};
        let may_be = matches!(error, Handover(HandoverError::NotDrained) | Unready { .. });
        assert!(may_be, "no switch: {error}");
        let stood_still = witness.stalls().iter().any(|stall| stall.overlaps(began_ns, ended_ns));
        self.note_refused(&error, stood_still);
        None
    }

    fn note_refused(&self, error: &SwitchError, stood_still: bool) {
        let counter = if stood_still { &self.refused_in_stalls } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        let [done, in_stalls, refused] = [&self.done, &self.refused_in_stalls, &self.refused]
            .map(|counter| counter.load(Ordering::Relaxed));
        let count = format!(
            "{done} carried out, {refused} refused, {in_stalls} more in stalls of the machine"
        );
        eprintln!("no switch: {error}; {count}");
        assert!(in_stalls <= Self::MOST_IN_STALLS, "planned switches: {count}");
        assert!(refused <= 1 + done / Self::DONE_FOR_A_REFUSAL, "planned switches: {count}");
    }
}
