//! Durations between stamps of `CLOCK_MONOTONIC`.

/// Microseconds from one stamp in nanoseconds to a later one; 0 if it is not later.
pub(super) fn micros_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}
