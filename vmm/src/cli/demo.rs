//! `warmspare demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::exit::Failure;
use super::output::{Format, json, print, print_line};
use super::run::system_failure;
use lab::demo::{self, DemoConfig, DemoError, Limits, Operation, Plan};
use lab::fault::Cause;
use operate::control::PlaneOptions;
use supervisor::topology::{DumpSpec, Policy};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// What to inject
    #[arg(long, default_value = "crash", value_name = "CAUSE", value_parser = plans())]
    cause: Plan,
    /// Faults to inject
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    faults: u32,
    /// Microseconds between two datagrams
    #[arg(long, default_value_t = 1000, value_name = "P", value_parser = clap::value_parser!(u64).range(50..=1_000_000))]
    period_us: u64,
    /// What happens when the active domain fails
    #[arg(long, default_value = "fast-spare", value_name = "POLICY", value_parser = policies())]
    policy: Policy,
    /// Keep core file, log and ring cursors of failed domains in this folder
    #[arg(long, value_name = "DIR")]
    dumps: Option<PathBuf>,
    /// Seed of the random moments of injection
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Fail if an interruption is longer in which the machine itself did not stand still
    #[arg(long, value_name = "X", value_parser = limit_ms)]
    max_interruption_ms: Option<f64>,
    /// Fail if the median of these interruptions is longer
    #[arg(long, value_name = "X", value_parser = limit_ms)]
    max_median_interruption_ms: Option<f64>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// After the last fault, continue the traffic until SIGINT
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    plane: PlaneOptions,
}

/// The values of `--policy`.
fn policies() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::name))
        .map(|name| Policy::by_name(&name).unwrap_or_default())
}

/// The values of `--cause`.
fn plans() -> impl TypedValueParser<Value = Plan> {
    let operations = Operation::ALL.map(Operation::name);
    let names = Cause::ALL.map(Cause::name).into_iter().chain(operations).chain(["mixed"]);
    PossibleValuesParser::new(names).map(|name| {
        let cause = Cause::ALL.into_iter().find(|cause| cause.name() == name);
        let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name);
        let planned = operation.map_or(Plan::Mixed, Plan::Planned);
        cause.map_or(planned, Plan::Only)
    })
}

/// A limit that an interruption can exceed.
fn limit_ms(text: &str) -> Result<f64, String> {
    let limit = text.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms >= 0.0);
    limit.ok_or_else(|| "a number of milliseconds is needed".into())
}

/// Runs the demonstration. `began_ns` is when the program was started.
pub(super) fn demo(args: &DemoArgs, began_ns: u64) -> Result<(), Failure> {
    let config = DemoConfig {
        faults: args.faults,
        plan: args.cause,
        period: Duration::from_micros(args.period_us),
        policy: args.policy,
        dumps: args.dumps.as_deref().map(DumpSpec::in_dir),
        seed: args.seed,
        progress: args.format == Format::Text,
        stay: args.stay,
        plane: args.plane.clone(),
        began_ns,
    };
    let report = demo::run(&config).map_err(|error| match &error {
        DemoError::System(system) => system_failure(system),
        DemoError::Plane(_) => Failure::mistake(&error),
        _ => Failure::run(&error),
    })?;
    let limits = Limits {
        max_interruption_ms: args.max_interruption_ms,
        max_median_interruption_ms: args.max_median_interruption_ms,
    };
    match args.format {
        Format::Text => print(&report.text(limits))?,
        Format::Json => print_line(&json(&report)?)?,
    };
    match report.failure(limits) {
        None => Ok(()),
        Some(why) => Err(Failure::Run(why)),
    }
}
