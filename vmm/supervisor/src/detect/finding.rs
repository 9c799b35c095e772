//! What a detector found, with the evidence. It is small and allocates nothing, because it is made
//! and passed on between the fault and the takeover.

use std::fmt;

use super::sample::{Mismatch, Sample};
use super::time::Age;

/// The detectors that judge by samples. Crashes, protocol violations and lost links are reported by
/// whatever meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detector {
    /// In the guest, using CPU, no heartbeat.
    Hang,
    /// Turns without work and without parking.
    Spin,
    /// Neither parked nor using CPU.
    Blocked,
    /// Pending work stays undone.
    RingStall,
    /// Frames claimed sent that the NIC did not send.
    SilentTransmit,
    /// The NIC receives, or could, and the driver publishes nothing.
    SilentReceive,
    /// The NIC is gone or not as it was set up.
    Device,
}

impl Detector {
    /// The detector's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hang => "hang",
            Self::Spin => "spin",
            Self::Blocked => "blocked",
            Self::RingStall => "ring-stall",
            Self::SilentTransmit => "silent-transmit",
            Self::SilentReceive => "silent-receive",
            Self::Device => "device",
        }
    }
}

/// What exactly was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// The domain was released without its NIC, and its driver does not attach.
    DoesNotAttach,
    /// The heartbeat stands still.
    NoHeartbeat,
    /// It parks again and again without a heartbeat.
    ParksWithoutHeartbeat,
    /// The vCPU thread makes no progress of any kind.
    NoProgress,
    /// It is parked with an event set, and does not wake.
    DoesNotWake,
    /// The loop turns and does nothing.
    TurnsInVain,
    /// Frames to send are not taken.
    TransmitUntaken,
    /// Frames to send were taken and are not claimed.
    TransmitUnclaimed,
    /// Received frames are not published.
    ReceiveUnpublished,
    /// So many wakeups were lost in a short time.
    LostWakeups(u32),
    /// So many frames claimed sent are overdue for confirmation.
    Unconfirmed(u64),
    /// The NIC's receive head moves, and the driver does not see it.
    ReceiveUnseen,
    /// The NIC has no receive buffers, the domain has some.
    ReceiveStarved,
    /// The NIC's interrupt is masked while the domain relies on it.
    InterruptMasked,
    /// The bus reported an error of the NIC.
    BusError,
    /// Somebody takes the NIC away: unbinds its driver, or pulls it out.
    TakenAway,
    /// The NIC answers all ones.
    AllOnes,
    /// A register is not as it was set up.
    Register(Mismatch),
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotAttach => write!(f, "its driver does not attach"),
            Self::NoHeartbeat => write!(f, "no heartbeat"),
            Self::ParksWithoutHeartbeat => write!(f, "it parks without a heartbeat"),
            Self::NoProgress => write!(f, "the vCPU thread makes no progress"),
            Self::DoesNotWake => write!(f, "it does not wake"),
            Self::TurnsInVain => write!(f, "the loop turns and does nothing"),
            Self::TransmitUntaken => write!(f, "frames to send are not taken"),
            Self::TransmitUnclaimed => write!(f, "frames were taken and are not claimed sent"),
            Self::ReceiveUnpublished => write!(f, "received frames are not published"),
            Self::LostWakeups(n) => write!(f, "{n} wakeups were lost"),
            Self::Unconfirmed(n) => write!(f, "{n} frames claimed sent never left the NIC"),
            Self::ReceiveUnseen => write!(f, "the driver does not see what the NIC received"),
            Self::ReceiveStarved => write!(f, "the NIC is not given the buffers there are"),
            Self::InterruptMasked => write!(f, "parked with the NIC's interrupt masked"),
            Self::BusError => write!(f, "the bus reports an error of the NIC"),
            Self::TakenAway => write!(f, "the NIC is taken away"),
            Self::AllOnes => write!(f, "the NIC answers all ones"),
            Self::Register(m) => write!(
                f,
                "register {:#x} holds {:#x} where {:#x} was set",
                m.register, m.found, m.expected
            ),
        }
    }
}

/// What a detector found of a life: the basis of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The detector that found it.
    pub detector: Detector,
    /// What was observed.
    pub symptom: Symptom,
    /// For how long it lasted: wall time without stalls of the machine itself, microseconds.
    pub lasted_us: u64,
    /// CPU time of the vCPU thread meanwhile, microseconds.
    pub cpu_us: u64,
    /// The last sample.
    pub sample: Sample,
}

impl Finding {
    /// A domain that should have attached its NIC to serve has not done so for `lasted_ns`.
    pub(crate) fn unattached(lasted_ns: u64, sample: &Sample) -> Self {
        let age = Age { wall_ns: lasted_ns, cpu_ns: 0 };
        Self::new(Detector::Blocked, Symptom::DoesNotAttach, age, sample)
    }

    /// Something that was reported at once, without being observed for a while.
    pub fn reported(detector: Detector, symptom: Symptom, sample: &Sample) -> Self {
        Self::new(detector, symptom, Age::default(), sample)
    }

    pub(super) fn new(detector: Detector, symptom: Symptom, age: Age, sample: &Sample) -> Self {
        Self {
            detector,
            symptom,
            lasted_us: age.wall_ns / 1_000,
            cpu_us: age.cpu_ns / 1_000,
            sample: *sample,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {:.1} ms ({:.1} ms of its CPU time)",
            self.symptom,
            self.lasted_us as f64 / 1_000.0,
            self.cpu_us as f64 / 1_000.0
        )
    }
}
