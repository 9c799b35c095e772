//! Every threshold of the detectors that a topology can set, with its default and the reason for it.
//! The few that are fixed stand in `detect`, each at the head of its file.
//!
//! Times are of two kinds. `_cpu_us` is CPU time of the vCPU thread itself: it stands still while
//! the machine runs something else, so a loaded machine cannot raise a false alarm by it. Where
//! only wall time can tell (a parked domain uses no CPU), the detectors demand proof that the
//! domain could have acted, and time in which the supervisor itself was not scheduled does not
//! count (see `detect/time.rs`). Under emulated CPUs the CPU clock runs on while the machine stands
//! still: give such a system larger values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a suspicious state may last before it counts as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Hang: CPU time without a heartbeat before the vCPU is kicked. A turn of the loop handles at
    /// most 128 frames each way and leaves the guest five times at most; at 90 µs an exit, the
    /// worst measured, that is half a millisecond. Twice that time is worth a kick.
    pub hang_cpu_us: u32,
    /// Hang: how often the vCPU is then kicked out of the guest and let in again; it must answer
    /// each kick in time to count as hung. On a busy development machine a processor stood still
    /// for milliseconds while the thread's CPU clock ran on; such a processor does not answer.
    pub second_looks: u32,
    /// Hang: time between two kicks. A kick is answered within 154 µs; the rest of the three
    /// intervals is enough for a turn that was only delayed to end.
    pub second_look_us: u32,
    /// Hang and blocked: the wall-clock limit for cases in which the CPU clock does not move. A
    /// real-time thread on a saturated development machine was late by up to 50 ms; this is twice
    /// that.
    pub wall_cap_us: u32,
    /// Spin: CPU time in which the loop turns, never parks and moves no cursor. A turn that finds
    /// nothing should be followed by parking, so this time is some thousand turns in vain.
    pub spin_cpu_us: u32,
    /// Ring stall: wall time for which pending work is not touched although the domain could have
    /// acted. The domain is woken after half of this time; the rest is enough for a wake-up, which
    /// took 195 µs at worst. Together with the takeover and a datagram's period the time stays
    /// under 10 ms. Frames that the NIC has taken and not sent get 3 ms more on a link of 100 Mb/s,
    /// and 32 ms more on one of 10 Mb/s.
    pub stall_us: u32,
    /// Silent transmit: age of a frame that the domain claims sent and the NIC's counter does not
    /// confirm. The switchboard asks the NIC every millisecond, and must have done so since; a NIC
    /// with full FIFOs counts within a third of one. That is at 1 Gb/s: a link of 100 Mb/s gets 3 ms
    /// more, and one of 10 Mb/s 32 ms more.
    pub silent_transmit_us: u32,
    /// Silent receive: wall time for which frames that the NIC has received do not appear, or the
    /// NIC has no buffers although the domain has some. The reason is that of the ring stall, but a
    /// domain that is awake has no excuse for being slow.
    pub silent_receive_us: u32,
    /// Silent receive: how long the NIC's interrupt may be masked while the domain is parked. No
    /// frame is lost by that alone, and a lost wakeup heals before.
    pub masked_us: u32,
    /// Device: how long a register may read wrong. Two samples in a row, so that a takeover which
    /// is just opening filters does not count as damage.
    pub device_us: u32,
    /// So many lost wakeups within [`Self::lost_wakeup_window_us`] are a ring stall and no
    /// accident.
    pub lost_wakeups: u32,
    /// See [`Self::lost_wakeups`]; one lost wakeup a second could still be a rare race.
    pub lost_wakeup_window_us: u32,
    /// Time between two samples of a domain that works. Each detector's verdict is late by at most
    /// this time; a sample costs some ten microseconds.
    pub look_us: u32,
    /// Time between two proofs of life of an idle domain. Each one wakes the domain.
    pub idle_look_us: u32,
    /// Time without any activity after which samples become rare.
    pub idle_after_us: u32,
}

impl Thresholds {
    /// For hardware, and for virtual machines whose CPU time is their own.
    pub const DEFAULT: Self = Self {
        hang_cpu_us: 1_000,
        second_looks: 3,
        second_look_us: 300,
        wall_cap_us: 100_000,
        spin_cpu_us: 2_500,
        stall_us: 4_000,
        silent_transmit_us: 3_500,
        silent_receive_us: 3_000,
        masked_us: 8_000,
        device_us: 1_000,
        lost_wakeups: 3,
        lost_wakeup_window_us: 100_000,
        look_us: 1_000,
        idle_look_us: 100_000,
        idle_after_us: 10_000,
    };

    /// The first value with which no system can work, if any: its key, and the reason.
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let short = "shorter than what a working domain does in one go";
        let long = "a failure would go unnoticed for more than ten seconds";
        let bounds = [
            ("hang_cpu_us", self.hang_cpu_us, 200),
            ("second_looks", self.second_looks, 1),
            ("second_look_us", self.second_look_us, 100),
            ("wall_cap_us", self.wall_cap_us, 10_000),
            ("spin_cpu_us", self.spin_cpu_us, 200),
            ("stall_us", self.stall_us, 500),
            ("silent_transmit_us", self.silent_transmit_us, 2_000),
            ("silent_receive_us", self.silent_receive_us, 500),
            ("masked_us", self.masked_us, 500),
            ("device_us", self.device_us, 100),
            ("lost_wakeups", self.lost_wakeups, 1),
            ("lost_wakeup_window_us", self.lost_wakeup_window_us, 1_000),
            ("look_us", self.look_us, 200),
            ("idle_look_us", self.idle_look_us, 1_000),
            ("idle_after_us", self.idle_after_us, 1_000),
        ];
        const LONGEST_US: u32 = 10_000_000;
        bounds.iter().find_map(|(key, value, least)| match *value {
            v if v < *least => Some((*key, short)),
            v if v > LONGEST_US => Some((*key, long)),
            _ => None,
        })
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_leave_room_under_ten_milliseconds() {
        let t = Thresholds::DEFAULT;
        assert_eq!(t.mistake(), None);
        for slowest in [t.stall_us, t.silent_receive_us, t.silent_transmit_us, t.masked_us] {
            assert!(slowest + t.look_us < 10_000);
        }
        // The lost wakeup must heal before the mask that caused it is a verdict.
        assert!(t.stall_us / 2 + 2 * t.look_us < t.masked_us);
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let too_short = Thresholds { hang_cpu_us: 1, ..Thresholds::DEFAULT };
        assert_eq!(too_short.mistake().map(|(key, _)| key), Some("hang_cpu_us"));
        let too_long = Thresholds { stall_us: u32::MAX, ..Thresholds::DEFAULT };
        assert_eq!(too_long.mistake().map(|(key, _)| key), Some("stall_us"));
    }

    #[test]
    fn keys_that_are_left_out_keep_their_defaults() {
        let t: Thresholds = serde_json::from_str(r#"{"stall_us": 6000}"#).unwrap();
        assert_eq!(t, Thresholds { stall_us: 6_000, ..Thresholds::DEFAULT });
        assert!(serde_json::from_str::<Thresholds>(r#"{"stahl_us": 6000}"#).is_err());
    }
}
