//! How long faults interrupt the service, as an outside sender sees it: the longest time between
//! two echoes around each fault, with one datagram each millisecond.

use anyhow::Result;

use super::cost::{column, demo};
use super::{BenchArgs, Figure};

const GROUP: &str = "interruption";
/// The promised limit, milliseconds.
const LIMIT_MS: f64 = 10.0;

/// The name of each row, and the demo's arguments.
const ROWS: [(&str, &[&str]); 4] = [
    ("crash, fast-spare", &["--cause", "crash"]),
    ("hang, fast-spare", &["--cause", "hang"]),
    ("pulled cable, fast-spare", &["--cause", "link"]),
    ("crash, reboot in place", &["--cause", "crash", "--policy", "reboot"]),
];

pub(super) fn run(args: &BenchArgs) -> Result<Vec<Figure>> {
    let faults = args.faults.to_string();
    let mut figures = Vec::new();
    for (row, arguments) in ROWS {
        let report = demo(&[arguments, &["--faults", &faults]].concat())?;
        let millis = |key| column(&report, key).into_iter().map(|us| us / 1e3).collect();
        let interruption =
            Figure::new(GROUP, row, ("interruption", "ms"), millis("interruption_us"));
        figures.push(interruption.wanted(LIMIT_MS));
        figures.push(Figure::new(GROUP, row, ("detection", "ms"), millis("detect_us")));
        let lost = column(&report, "frames_lost");
        figures.push(Figure::new(GROUP, row, ("datagrams lost", "each"), lost));
    }
    Ok(figures)
}
