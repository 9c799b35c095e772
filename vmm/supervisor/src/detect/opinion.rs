//! What a single detector says of a sample.

use super::finding::Finding;

/// A detector's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing is wrong.
    Fine,
    /// Something may be wrong; sample again in so many nanoseconds.
    Suspect(u64),
    /// Wake the domain, then sample again in so many nanoseconds.
    Wake(u64),
    /// Notify the switchboard, which the domain should have done, then sample again in so many
    /// nanoseconds.
    NotifySwitchboard(u64),
    /// Kick the vCPU out of the guest once, then sample again in so many nanoseconds.
    Kick(u64),
    /// A wakeup had been lost, and the supervisor's made up for it, after so many nanoseconds.
    Healed(u64),
    /// The domain has failed.
    Failed(Finding),
}

/// The opinions of all detectors on one sample. Those that do not apply are [`Opinion::Fine`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Opinions {
    pub(super) device: Opinion,
    pub(super) hang: Opinion,
    pub(super) sleep: Opinion,
    pub(super) spin: Opinion,
    pub(super) stall: StallOpinions,
    pub(super) silent_transmit: Opinion,
    pub(super) silent_receive: ReceiveOpinions,
    pub(super) lost_notification: Opinion,
}

/// The ring stall detector's opinions, one for each kind of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallOpinions {
    pub(super) untaken: Opinion,
    pub(super) unclaimed: Opinion,
    pub(super) unpublished: Opinion,
}

/// The silent receive detector's opinions, one for each way in which reception can fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiveOpinions {
    pub(super) unseen: Opinion,
    pub(super) starved: Opinion,
    pub(super) masked: Opinion,
}

impl Opinions {
    /// No detector has anything to say.
    pub(super) const FINE: Self = Self {
        device: Opinion::Fine,
        hang: Opinion::Fine,
        sleep: Opinion::Fine,
        spin: Opinion::Fine,
        stall: StallOpinions {
            untaken: Opinion::Fine,
            unclaimed: Opinion::Fine,
            unpublished: Opinion::Fine,
        },
        silent_transmit: Opinion::Fine,
        silent_receive: ReceiveOpinions {
            unseen: Opinion::Fine,
            starved: Opinion::Fine,
            masked: Opinion::Fine,
        },
        lost_notification: Opinion::Fine,
    };

    /// All opinions in the order of their weight: of several verdicts the first counts, and of
    /// several orders the last.
    pub(super) fn by_weight(&self) -> impl Iterator<Item = &Opinion> {
        let Self { device, hang, sleep, spin, stall, silent_transmit, silent_receive, .. } = self;
        let StallOpinions { untaken, unclaimed, unpublished } = stall;
        let ReceiveOpinions { unseen, starved, masked } = silent_receive;
        let lost_notification = &self.lost_notification;
        [device, hang, sleep, spin, untaken, unclaimed, unpublished, silent_transmit]
            .into_iter()
            .chain([unseen, starved, masked, lost_notification])
    }
}
