//! Numbers and names as people read them, in text and in HTML alike.

use serde::Serialize;

use super::statistics::Proportion;
use crate::injection::InjectionOutcome;

/// What stands for a name that does not exist.
pub(super) const NO_NAME: &str = "-";
/// What stands for a number that does not exist.
pub(super) const NOTHING: &str = "–";

/// A count with separators between its thousands.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent. A share below 1 never reads as 100 %, and one above 0 never as 0 %.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p == 0.0 || p == 100.0 => format!("{p:.0} %"),
        p if p > 0.0 && p < 0.01 => "< 0.01 %".into(),
        p if p < 100.0 && p > 99.99 => "> 99.99 %".into(),
        p if p < 1.0 || (p > 99.0 && p < 100.0) => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// The share of a proportion that may not exist, in percent.
pub(super) fn percent_of(proportion: Option<Proportion>) -> String {
    proportion.map_or_else(|| NOTHING.into(), |p| percent(p.share))
}

/// The ends of an interval in percent, rounded outwards so that its confidence does not suffer.
pub(super) fn interval(proportion: Option<Proportion>) -> String {
    let Some(p) = proportion else { return NOTHING.into() };
    format!("{:.2} to {:.2} %", floor(p.low), ceil(p.high))
}

/// A lower bound in percent, rounded down.
pub(super) fn at_least(low: f64) -> String {
    format!("{:.2} %", floor(low))
}

fn floor(share: f64) -> f64 {
    (share * 1e4).floor() / 100.0
}

fn ceil(share: f64) -> f64 {
    (share * 1e4).ceil() / 100.0
}

/// A duration for people.
pub(super) fn duration(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e4 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// A duration that may not exist, for people.
pub(super) fn duration_of(us: Option<f64>) -> String {
    us.map_or_else(|| NOTHING.into(), duration)
}

/// The name of a class, for people.
pub(super) fn class(outcome: InjectionOutcome) -> String {
    outcome.name().replace('-', " ")
}

/// What a class means, in a line.
pub(super) fn meaning(outcome: InjectionOutcome) -> &'static str {
    use InjectionOutcome as O;
    match outcome {
        O::NotActivated => "execution never reached the fault; in no denominator",
        O::Masked => "no failure was detected, and the service did not suffer",
        O::Crash => "detected as a crash, recovered",
        O::Hang => "detected as a hang, recovered",
        O::Stall => "detected as alive but serving nothing, recovered",
        O::Silence => "detected as a claim that the NIC refutes, recovered",
        O::Protocol => "detected as a breach of the rings' protocol, recovered",
        O::Link => "detected as a lost link, recovered",
        O::Degraded => "detected; the service came back, but no spare did, or not everything",
        O::Unrecovered => "the service did not come back, or the program itself was ended",
        O::SilentFailure => "the service stopped or was damaged, and nothing was detected",
        O::Corrupted => "the guest was harmed",
        O::FalseFailover => "a sound domain was found to have failed",
    }
}

/// A sign that tells good outcomes from bad ones without colour.
pub(super) fn mark(outcome: InjectionOutcome) -> &'static str {
    match outcome {
        outcome if outcome.is_bad() => "✕",
        outcome if outcome.can_be_detected() => "✓",
        _ => " ",
    }
}

/// The name of a value as it stands in files.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => NO_NAME.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_quite_all_does_not_read_as_all() {
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.99999), "> 99.99 %");
        assert_eq!(percent(0.9994), "99.94 %");
        assert_eq!(percent(0.00001), "< 0.01 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.5526), "55.3 %");
    }

    #[test]
    fn intervals_are_rounded_outwards() {
        let p = Proportion { count: 1, of: 2, share: 0.5, low: 0.99899, high: 0.999901 };
        assert_eq!(interval(Some(p)), "99.89 to 100.00 %");
        assert_eq!(at_least(0.998_999), "99.89 %");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [12.4, 1234.0, 12_340.0, 2e6].map(duration),
            ["12 µs", "1.23 ms", "12.3 ms", "2.00 s"]
        );
    }
}
