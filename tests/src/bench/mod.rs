//! `cargo xtask bench`: what warmspare moves, what that costs, and how long faults interrupt it.
//!
//! | group | rows |
//! |---|---|
//! | `data-path` | frames through the switchboard alone, and through domain, emulated NIC and in-process wire; 64 and 1500 bytes, each way |
//! | `cost` | memory, processor time at rest and at 1,000 frames/s, time to the first echo and to redundancy |
//! | `interruption` | crash, hang, pulled cable; the policy `reboot` |
//!
//! One JSON document on standard output (`warmspare.bench/1`), one table on standard error. Nothing
//! is judged here: figures of a busy machine are the machine's.

mod cost;
mod interruption;
mod load;
mod null;
mod path;
mod table;
mod usage;

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

/// Name and version of the document's shape.
const SCHEMA: &str = "warmspare.bench/1";

/// What may be said on the command line.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Run only these groups: data-path, cost, interruption
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

/// One figure: the median of its runs, the extremes, and what it is held against.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    group: &'static str,
    /// What was measured.
    row: String,
    /// Which of its figures.
    figure: &'static str,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
    /// What is wanted, if anything is.
    target: Option<f64>,
    /// Median by target.
    ratio: Option<f64>,
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
            ratio: None,
        }
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
    /// Whether the threads of the data path ran under real-time scheduling.
    realtime: bool,
    /// Load average before the first row: what else the machine was doing.
    load_before: f64,
    figures: Vec<Figure>,
}

type Group = (&'static str, fn(&BenchArgs) -> Result<Vec<Figure>>);

const GROUPS: [Group; 3] =
    [("data-path", path::run), ("cost", cost::run), ("interruption", interruption::run)];

/// Runs the groups, and prints.
///
/// # Errors
/// A row cannot be measured.
pub fn run(args: &BenchArgs) -> Result<()> {
    if let Some(unknown) = args.groups.iter().find(|name| GROUPS.iter().all(|g| g.0 != **name)) {
        bail!("no group `{unknown}`: choose from data-path, cost, interruption");
    }
    let load_before = usage::load_average();
    let mut figures = Vec::new();
    for (name, measure) in GROUPS {
        if args.groups.is_empty() || args.groups.iter().any(|wanted| wanted == name) {
            eprintln!("bench: {name}");
            figures.extend(measure(args)?);
        }
    }
    let document = Document {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        realtime: warmspare::realtime::is_realtime(),
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
