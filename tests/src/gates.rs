//! Limits on interruption times, above which a test fails, and the reason for each.
//!
//! On a shared machine single events are late by chance, so tests judge the median of those events
//! in which the machine itself did not stand still (see [`operate::observe::Witness`]). A gate is
//! two to three times the promised time or, where measured times are much shorter, two to three
//! times those: ordinary noise stays below it, and a takeover that takes some milliseconds longer
//! does not. The gates for crashes were tried with a product whose takeover slept for 5 ms: those of
//! the demo and of the Linux guest failed. With 15 ms, those of the nested machine failed (22.0 over
//! 13.0 ms between two NICs, 25.7 over 21.7 on a shared one): they detect takeovers that take three
//! times as long.

use anyhow::{Result, bail, ensure};
use lab::fault::Cause;
use lab::traffic::percentile;

/// Gate for the median of crashes in the demo, milliseconds. 3 are promised; 1.2 to 1.6 are
/// measured, also on a busy machine. It is below 5, so that a takeover which has become that slow
/// fails.
pub const DEMO_MEDIAN_MS: &str = "4";
/// Gate for the longest interruption in the demo, milliseconds: twice the 10 that are promised.
/// Single events vary most; 2 to 4 are measured.
pub const DEMO_WORST_MS: &str = "20";

/// Faults under a Linux guest, in turn, and the gate for the median of each. In the emulated guest
/// 1.6, 4.5 and 1.8 ms are measured on a quiet machine, up to 2.9, 4.6 and 3.5 on a busy one.
pub const LINUX_GUEST: [(Cause, Relative); 3] = [
    (Cause::Crash, Relative { floor_ms: 4.5, healthy_times: GUEST_HEALTHY_TIMES }),
    (Cause::Hang, Relative { floor_ms: 10.0, healthy_times: GUEST_HEALTHY_TIMES }),
    (Cause::Link, Relative { floor_ms: 5.0, healthy_times: GUEST_HEALTHY_TIMES }),
];
/// Gate for the median of cables pulled over a long time under a Linux guest: 2.1 ms are measured.
pub const PULLS: Relative = Relative { floor_ms: 5.0, healthy_times: GUEST_HEALTHY_TIMES };
/// Gate for the median of ports that die with their carrier up. Detection takes four missing
/// probes, one each 5 ms: 17 to 20 ms are measured, 25 are promised.
pub const DEAD_PORTS: Relative = Relative { floor_ms: 40.0, healthy_times: GUEST_HEALTHY_TIMES };
/// The guest also pauses without any failover, so the gate follows those pauses: 10 ms beyond them
/// are promised.
const GUEST_HEALTHY_TIMES: f64 = 1.5;

/// A gate on emulated processors. It is a multiple of their longest pause without a fault, but not
/// less than its floor.
#[derive(Clone, Copy, Debug)]
pub struct Relative {
    /// What is always allowed, milliseconds.
    pub floor_ms: f64,
    /// How many times the longest pause without a fault is allowed.
    pub healthy_times: f64,
}

impl Relative {
    /// The limit if the longest pause without a fault was `healthy_ms`, milliseconds.
    pub fn limit_ms(self, healthy_ms: f64) -> f64 {
        self.floor_ms.max(self.healthy_times * healthy_ms)
    }
}

/// Twice the longest pause without a fault in the nested machine: in bad quarters of an hour of the
/// machine underneath, an interruption was as long as that healthy pause, or twice as long.
const HEALTHY_TIMES: f64 = 2.0;

/// Between two NICs of the nested machine: each injected fault and the gate for its median, with
/// the machine's own stalls subtracted. Crashes measured so took 4.8 to 7.1 ms on a quiet machine
/// with 3.2 to 5.6 healthy; 7.6, 9.8 and 12.4 with 6.4, 17.8 and 21 on a bad one. Three times as
/// long is over 14.
///
/// Faults found by sampling take a threshold of 40 or 50 ms of time in which the detector runs (see
/// [`crate::emulation::PATIENT`]), and as much again where the machine is slow: 62 to 112 with 5 to
/// 26 healthy.
pub const NESTED_PAIR: [(&str, Relative); 5] = [
    ("crash", Relative { floor_ms: 13.0, healthy_times: HEALTHY_TIMES }),
    ("hang", Relative { floor_ms: 150.0, healthy_times: FOUND_HEALTHY_TIMES }),
    ("silent-tx", Relative { floor_ms: 130.0, healthy_times: FOUND_HEALTHY_TIMES }),
    ("silent-rx", Relative { floor_ms: 130.0, healthy_times: FOUND_HEALTHY_TIMES }),
    ("link", Relative { floor_ms: 20.0, healthy_times: HEALTHY_TIMES }),
];
/// For faults that take several samples to find, each of which the machine may delay.
const FOUND_HEALTHY_TIMES: f64 = 8.0;
/// On one NIC that both domains share: 5.4 to 9.0 ms on a quiet machine, 11.1 and 13.9 with 5.7 and
/// 12.6 healthy on a bad one. The takeover attaches the NIC anew, register by register, so that a
/// busy machine delays it more often than a takeover between two NICs. With sixteen other tasks
/// waiting for its two processors 12.7, 19.3 and 35.0 were measured, with 22, 29 and 11 healthy:
/// the last one fails.
pub const NESTED_SHARED: [(&str, Relative); 1] =
    [("crash", Relative { floor_ms: 17.0, healthy_times: 3.0 })];

/// One in this many interruptions must be free of the machine's stalls; otherwise their median says
/// nothing.
const STALL_FREE_SHARE: usize = 3;

/// One interruption of the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interruption {
    /// Its length, milliseconds.
    pub ms: f64,
    /// True if the machine itself stood still during it.
    pub machine_stalled: bool,
}

/// Returns the median of the interruptions in which the machine did not stand still, milliseconds,
/// or `None` if these are too few.
pub fn stall_free_median_ms(all: &[Interruption]) -> Option<f64> {
    let stall_free = all.iter().filter(|interruption| !interruption.machine_stalled);
    let mut sorted_ms: Vec<_> = stall_free.map(|interruption| interruption.ms).collect();
    sorted_ms.sort_by(f64::total_cmp);
    let median_ms = percentile(&sorted_ms, 0.5)?;
    (sorted_ms.len() * STALL_FREE_SHARE >= all.len()).then_some(median_ms)
}

/// Judges interruptions by that median.
///
/// # Errors
/// The median is over the limit, or there is none.
pub fn judge(what: &str, all: &[Interruption], limit_ms: f64) -> Result<()> {
    let Some(median_ms) = stall_free_median_ms(all) else {
        let stalled = all.iter().filter(|interruption| interruption.machine_stalled).count();
        let all = all.len();
        bail!(
            "{what}: the machine stood still in {stalled} of {all} interruptions: no median to judge"
        );
    };
    ensure!(
        median_ms <= limit_ms,
        "{what}: the median interruption of {median_ms:.2} ms is over the limit of {limit_ms:.2} ms"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ms: &[f64], stalled_ms: &[f64]) -> Vec<Interruption> {
        let of = |ms: &[f64], machine_stalled| {
            ms.iter().map(|ms| Interruption { ms: *ms, machine_stalled }).collect::<Vec<_>>()
        };
        [of(ms, false), of(stalled_ms, true)].concat()
    }

    #[test]
    fn a_median_over_its_gate_fails() {
        judge("crash", &all(&[1.0, 4.0, 9.0], &[]), 4.0).unwrap();
        let why = judge("crash", &all(&[1.0, 5.0, 9.0], &[]), 4.0).unwrap_err().to_string();
        assert_eq!(why, "crash: the median interruption of 5.00 ms is over the limit of 4.00 ms");
    }

    #[test]
    fn interruptions_of_a_machine_that_stood_still_are_left_out_but_not_all() {
        let noisy = all(&[1.0], &[50.0, 60.0]);
        assert_eq!(stall_free_median_ms(&noisy), Some(1.0));
        judge("crash", &noisy, 4.0).unwrap();
        for too_few in [all(&[1.0], &[5.0, 6.0, 7.0]), all(&[], &[1.0]), Vec::new()] {
            assert!(judge("crash", &too_few, 4.0).is_err(), "{too_few:?}");
        }
    }

    #[test]
    fn a_takeover_that_takes_5_ms_is_over_the_gates_of_crashes() {
        assert!(DEMO_MEDIAN_MS.parse::<f64>().unwrap() < 5.0);
        assert!(
            LINUX_GUEST.iter().any(|(cause, gate)| *cause == Cause::Crash && gate.floor_ms < 5.0)
        );
    }

    #[test]
    fn a_gate_of_the_nested_machine_follows_its_unrest() {
        let gate = Relative { floor_ms: 13.0, healthy_times: 2.0 };
        assert_eq!((gate.limit_ms(4.0), gate.limit_ms(10.0)), (13.0, 20.0));
    }
}
