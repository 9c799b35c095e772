//! The numbers that the VMM gives are those that the service's user feels.

use std::process::{Command, Stdio};

use lab::fault::Cause;
use serde_json::Value;
use warmspare_tests::program;
use warmspare_tests::rig::alone;

/// Between two datagrams of the sender. It can tell an interruption no more exactly than that: the
/// first datagram that is lost or held up comes up to one period after the last one that was not.
const PERIOD_US: u32 = 500;
/// Share of an interruption by which the two accounts may differ beyond that, and beyond a round trip:
/// the metric ends with the successor's first frame, which is an announcement and no echo yet.
const SHARE: f64 = 0.2;
/// Faults of each cause.
const FAULTS: &str = "15";

fn demo(cause: Cause) -> Value {
    let output = Command::new(program())
        .args(["demo", "--format", "json", "--faults", FAULTS, "--cause", cause.name()])
        .args(["--period-us", &PERIOD_US.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.stdout.is_empty(), "{}: {:?}", cause.name(), output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that the metric of a cause agrees with the sender's account, medians of both.
fn agree(cause: Cause) {
    let _alone = alone();
    let report = demo(cause);
    let of_cause = &report["causes"][0];
    let name = cause.name();
    assert_eq!(of_cause["injected"], name);
    let stall_free = of_cause["stall_free"].as_u64().unwrap();
    assert!(stall_free >= 3, "{name}: the machine stood still in all but {stall_free}");
    let felt_us = of_cause["interruption_median_us"].as_f64().unwrap();
    let metric_us = of_cause["metric_median_us"].as_f64().expect("a metric");
    let figures = format!("{name}: {metric_us:.0} µs by the metric, {felt_us:.0} by the sender");
    let round_trip_us = report["traffic"]["round_trip_us"].as_f64().expect("a round trip");
    eprintln!("{figures}, {stall_free} without a stall, {round_trip_us:.0} for a round trip");
    let tolerance_us = f64::from(PERIOD_US) + round_trip_us + SHARE * felt_us;
    assert!((metric_us - felt_us).abs() <= tolerance_us, "{figures}");
}

#[test]
fn the_metric_of_a_crash_is_what_the_sender_feels() {
    agree(Cause::Crash);
}

#[test]
fn the_metric_of_a_hang_is_what_the_sender_feels() {
    agree(Cause::Hang);
}

#[test]
fn the_metric_of_a_stall_is_what_the_sender_feels() {
    agree(Cause::Stall);
}

#[test]
fn the_metric_of_silence_on_the_way_out_is_what_the_sender_feels() {
    agree(Cause::SilentTx);
}

#[test]
fn the_metric_of_silence_on_the_way_in_is_what_the_sender_feels() {
    agree(Cause::SilentRx);
}

#[test]
fn the_metric_of_a_wrong_register_is_what_the_sender_feels() {
    agree(Cause::NicRegister);
}

#[test]
fn the_metric_of_a_pulled_cable_is_what_the_sender_feels() {
    agree(Cause::Link);
}

/// The figure for how long the machine stood still goes with the mark that it did.
#[test]
fn each_failover_says_how_long_the_machine_stood_still_in_it() {
    let _alone = alone();
    let report = demo(Cause::Crash);
    for row in report["failovers"].as_array().unwrap() {
        let stalled_us = row["stalled_us"].as_f64().expect("a time for each failover");
        let interruption_us = row["interruption_us"].as_f64().unwrap();
        assert_eq!(row["machine_stalled"], stalled_us > 0.0, "{row}");
        assert!(stalled_us <= interruption_us, "{row}");
    }
}
