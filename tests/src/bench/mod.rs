//! `cargo xtask bench`: warmspare's throughput, its cost, and how long faults interrupt the
//! service.
//!
//! | group | rows |
//! |---|---|
//! | `data-path` | frames through the switchboard alone, and through domain, emulated NIC and in-process wire; 64 and 1500 bytes, each way |
//! | `cost` | memory, processor time at rest and at 1,000 frames/s, time to the first echo and to redundancy |
//! | `interruption` | crash, hang, pulled cable; the policy `reboot` |
//! | `peers` | how long faults interrupt what a user has without warmspare: restarted back-ends, bonding, a watcher; with a Linux guest behind a bridge |
//! | `peers-path` | throughput of others in the same place: TCP and UDP with that guest, frames of testpmd; the switchboard alone with testpmd's frames |
//! | `peers-loss` | what is lost there below saturation |
//!
//! The result is one JSON document on standard output (`warmspare.bench/1`) and one table on
//! standard error. Nothing passes or fails here, because the load of a busy machine changes the
//! figures.

mod alone;
mod cost;
mod ends;
mod interruption;
mod load;
mod null;
mod path;
pub mod peers;
mod sample;
mod table;
mod usage;

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

/// Name and version of the document's schema.
const SCHEMA: &str = "warmspare.bench/1";

/// Arguments on the command line.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Run only these groups: data-path, cost, interruption, peers, peers-path,
    /// peers-loss
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Runs of each row; the median is shown
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Milliseconds of traffic in each run of the data path
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(50..=60_000))]
    millis: u64,
    /// Faults in each row of the interruptions
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    faults: u32,
}

impl BenchArgs {
    fn time(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// One figure: the median of its runs, the extremes, and what it is compared with.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    group: &'static str,
    /// Name of the row, which says what was measured.
    row: String,
    /// Name of the figure in its row.
    figure: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    /// The target, if there is one.
    target: Option<f64>,
    /// Warmspare's own figure, if this is a peer's.
    ours: Option<f64>,
    /// Median divided by the target, or by our own figure.
    ratio: Option<f64>,
    /// A remark, such as why it was not measured or what was left out.
    note: Option<String>,
}

impl Figure {
    fn new(
        group: &'static str,
        row: &str,
        figure: (&'static str, &'static str),
        mut values: Vec<f64>,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self {
            group,
            row: row.to_owned(),
            figure: figure.0,
            unit: figure.1,
            median: at(values.len() / 2),
            min: at(0),
            max: at(values.len().saturating_sub(1)),
            runs: values.len(),
            target: None,
            ours: None,
            ratio: None,
            note: None,
        }
    }

    /// A figure that could not be measured.
    fn missing(
        group: &'static str,
        row: &str,
        figure: (&'static str, &'static str),
        why: &str,
    ) -> Self {
        Self::new(group, row, figure, Vec::new()).noting(format!("not measured: {why}"))
    }

    fn noting(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }

    /// Compares a peer's figure with ours.
    fn hold_beside(&mut self, ours: f64) {
        self.ours = Some(ours);
        self.ratio = Some(self.median / ours);
    }

    fn wanted(mut self, target: f64) -> Self {
        self.target = Some(target);
        self.ratio = Some(self.median / target);
        self
    }
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    version: &'static str,
    cores: usize,
    /// True if the threads of the data path ran under real-time scheduling.
    realtime: bool,
    /// Load average before the first row, which shows what else the machine was doing.
    load_before: f64,
    figures: Vec<Figure>,
}

/// Prefix of the groups that need what a machine may lack: root, QEMU, other people's packages.
const PEERS: &str = "peers";

type Group = (&'static str, fn(&BenchArgs) -> Result<Vec<Figure>>);

const GROUPS: [Group; 6] = [
    ("data-path", path::run),
    ("cost", cost::run),
    ("interruption", interruption::run),
    ("peers", peers::run),
    ("peers-path", peers::run_path),
    ("peers-loss", peers::run_loss),
];

/// Runs the groups, and prints their figures.
///
/// # Errors
/// A group is unknown, or a row cannot be measured.
pub fn run(args: &BenchArgs) -> Result<()> {
    if let Some(unknown) = args.groups.iter().find(|name| GROUPS.iter().all(|g| g.0 != **name)) {
        let names: Vec<_> = GROUPS.iter().map(|group| group.0).collect();
        bail!("no group `{unknown}`: choose from {}", names.join(", "));
    }
    let load_before = usage::load_average();
    let mut figures = Vec::new();
    for (name, measure) in GROUPS {
        if args.groups.is_empty() || args.groups.iter().any(|wanted| wanted == name) {
            eprintln!("bench: {name}");
            match measure(args) {
                Ok(measured) => figures.extend(measured),
                Err(why) if name.starts_with(PEERS) => {
                    eprintln!("bench: {name}: NOT MEASURED: {why:#}");
                    figures.push(Figure::missing(name, "all", ("all", "-"), &format!("{why:#}")));
                }
                Err(why) => return Err(why),
            }
        }
    }
    let document = Document {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        realtime: platform::realtime::is_realtime(),
        load_before,
        figures,
    };
    eprint!("{}", table::render(&document.figures));
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_median_and_its_ratio_to_what_is_wanted() {
        let figure = Figure::new("g", "r", ("f", "u"), vec![3.0, 1.0, 2.0]).wanted(4.0);
        assert_eq!((figure.min, figure.median, figure.max), (1.0, 2.0, 3.0));
        assert_eq!((figure.ratio, figure.runs), (Some(0.5), 3));
    }
}
