use super::super::confusion;
use super::*;
use crate::fault::Cause;

fn row(interruption_ms: f64, machine_stalled: bool) -> FailoverRow {
    FailoverRow {
        cause: "crash",
        injected: Injection::Fault(Cause::Crash),
        site: "rx",
        from: "a".into(),
        to: "b".into(),
        detect_us: 100.0,
        switch_us: 100.0,
        interruption_us: interruption_ms * 1000.0,
        metric_us: Some(interruption_ms * 900.0),
        frames_lost: 0,
        frames_resent: 0,
        frames_salvaged: 0,
        redundant_again_ms: 30.0,
        machine_stalled,
        stalled_us: if machine_stalled { 2500.0 } else { 0.0 },
    }
}

fn report(failovers: Vec<FailoverRow>) -> Report {
    let gap_us = Gaps { p50: 1000.0, p99: 1000.0, max: 1000.0 };
    Report {
        schema: "warmspare.demo/1",
        policy: Policy::FastSpare,
        realtime: true,
        machine_stalls_ms: Vec::new(),
        first_echo_ms: 100.0,
        traffic: Traffic {
            sent: 9,
            received: 9,
            lost: 0,
            duplicated: 0,
            corrupted: 0,
            gap_us,
            round_trip_us: 200.0,
        },
        stall_free_median_us: stall_free_median_us(&failovers),
        causes: confusion::summaries(&failovers),
        failovers,
        memory: Memory { domain_kib: 4096, vmm_rss_kib: 1, vmm_descriptors: 1 },
    }
}

fn limits(worst_ms: f64, median_ms: f64) -> Limits {
    Limits { max_interruption_ms: Some(worst_ms), max_median_interruption_ms: Some(median_ms) }
}

#[test]
fn a_median_over_its_limit_is_named() {
    let slow = report(vec![row(1.0, false), row(5.0, false), row(6.0, false)]);
    let why = slow.failure(limits(10.0, 4.0)).unwrap();
    assert_eq!(why, "the median interruption of 5.00 ms is over the limit of 4 ms");
    assert!(slow.text(limits(10.0, 4.0)).ends_with(&format!("FAILED: {why}\n")));
    assert_eq!(slow.failure(limits(10.0, 5.0)), None, "at the limit is not over it");
    assert_eq!(slow.failure(Limits::default()), None);
}

#[test]
fn a_long_interruption_is_named_whatever_the_median() {
    let slow = report(vec![row(1.0, false), row(1.5, false), row(12.0, false)]);
    let why = slow.failure(limits(10.0, 4.0)).unwrap();
    assert_eq!(why, "an interruption of 12.00 ms is over the limit of 10 ms");
    assert_eq!(slow.failure(limits(12.0, 4.0)), None);
}

#[test]
fn interruptions_in_which_the_machine_stood_still_are_not_judged() {
    let noisy = report(vec![row(1.0, false), row(50.0, true), row(60.0, true)]);
    assert_eq!(noisy.stall_free_median_us, Some(1000.0));
    assert_eq!(noisy.failure(limits(10.0, 4.0)), None);
}

#[test]
fn a_run_with_nothing_to_judge_does_not_pass() {
    let nothing = report(vec![row(1.0, true), row(2.0, true)]);
    assert_eq!(nothing.stall_free_median_us, None);
    let longest = Limits { max_interruption_ms: Some(10.0), ..Limits::default() };
    let median = Limits { max_median_interruption_ms: Some(4.0), ..Limits::default() };
    let too_little = report([false, true, true, true].map(|stalled| row(1.0, stalled)).into());
    for limits in [longest, median] {
        let why = nothing.failure(limits).unwrap();
        assert_eq!(why, "the machine stood still in 2 of 2 interruptions");
        let why = too_little.failure(limits).unwrap();
        assert_eq!(why, "the machine stood still in 3 of 4 interruptions");
    }
    assert_eq!(nothing.failure(Limits::default()), None);
}
