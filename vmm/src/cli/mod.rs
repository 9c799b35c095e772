//! The command line.
//!
//! Exit status: 0 success, 1 the run failed, 2 the user's mistake (one line on standard error).

mod campaign;
mod commands;
mod devices;
mod examine;
mod exit;
mod observe;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::logs::{self, LogFormat};
use lab::app::AppConfig;
use lab::demo::{Operation, Plan};
use lab::fault::Cause;
use operate::control::PlaneOptions;
use platform::one_line::one_line;
use supervisor::topology::Policy;

/// A network interface that outlives its driver.
#[derive(Debug, Parser)]
#[command(name = "warmspare", version, about, max_term_width = 100)]
struct Cli {
    /// How to write what goes to standard error
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Break the driver of a running service again and again, and measure what the service feels
    Demo(DemoArgs),
    /// Inject faults by the thousand, and record what becomes of each
    Campaign(campaign::CampaignArgs),
    /// Run a topology until SIGINT or SIGTERM
    Run(RunArgs),
    /// Show what a running warmspare is now
    Status(observe::StatusArgs),
    /// Print the events of a running warmspare, one JSON line each
    Events(observe::EventsArgs),
    /// Hand the service to a standby
    Switch(observe::SwitchArgs),
    /// Let a standby prove that it could take over
    Drill(observe::DrillArgs),
    /// Give all domains another driver, without an outage
    Upgrade(observe::UpgradeArgs),
    /// Stop a standby until it is resumed or has to serve
    Pause(examine::PauseArgs),
    /// Let a paused domain run again
    Resume(examine::DomainArgs),
    /// Write a core file of a domain that lives on; prints its folder
    Dump(examine::DomainArgs),
    /// Open a GDB server for a domain; prints the command for gdb
    Gdb(examine::GdbArgs),
    /// Watch a running warmspare: roles, rates, rings, the newest failures
    Top(observe::TopArgs),
    /// Say what campaigns of fault injection found, with intervals
    Report(report::ReportArgs),
    /// Check a topology file
    Validate {
        /// Topology file, JSON
        topology: PathBuf,
    },
    /// Print the JSON Schema of topology files
    Schema,
    /// List the NICs of the igb family, and what each lacks before it can be used; bind and unbind
    Devices(devices::DevicesArgs),
    /// Run the built-in application guest on a vhost-user socket
    App(AppArgs),
    /// Carry out injections for a campaign
    #[command(name = lab::campaign::WORKER_COMMAND, hide = true)]
    CampaignWorker,
    /// Write the program of a domain to a file, as a debugger wants it
    Image(ImageArgs),
}

#[derive(Debug, Args)]
struct AppArgs {
    #[command(flatten)]
    config: AppConfig,
    /// End when standard input ends, as it does with the process that holds it
    #[arg(long = lab::traffic::PARENT_WATCH_OPTION, hide = true)]
    end_with_parent: bool,
}

#[derive(Debug, Args)]
struct ImageArgs {
    /// The program that the first domain starts with
    #[arg(long, conflicts_with = "spare", required_unless_present = "spare")]
    driver: bool,
    /// The program that spares start with
    #[arg(long)]
    spare: bool,
    /// File to write
    out: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Topology file, JSON
    topology: PathBuf,
    #[command(flatten)]
    plane: PlaneOptions,
}

#[derive(Debug, Args)]
struct DemoArgs {
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
    /// After the last crash, go on with the traffic until SIGINT
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    plane: PlaneOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What `--cause` can be.
fn policies() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::name))
        .map(|name| Policy::by_name(&name).unwrap_or_default())
}

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

/// A limit that something can be over.
fn limit_ms(text: &str) -> Result<f64, String> {
    let limit = text.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms >= 0.0);
    limit.ok_or_else(|| "a number of milliseconds is needed".into())
}

impl DemoArgs {
    fn period(&self) -> Duration {
        Duration::from_micros(self.period_us)
    }
}

/// What a command ends with when it does not succeed.
#[derive(Debug)]
enum Failure {
    /// The user can mend it: status 2.
    Mistake(String),
    /// The run failed: status 1.
    Run(String),
}

/// A mistake of the user's, with all its causes on one line.
fn mistake(error: &dyn std::error::Error) -> Failure {
    Failure::Mistake(one_line(error))
}

/// Help and version go to standard output as they are; a mistake is one line like any other.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody reads it: that is not the program's failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    let mut first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if first.ends_with(':') {
        // What is missing stands in the lines below.
        let named = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
        first = format!("{first} {}", named.collect::<Vec<_>>().join(", "));
    }
    eprintln!("warmspare: {first}; see `warmspare --help`");
    ExitCode::from(exit::MISTAKE)
}

/// Runs the program.
pub fn main() -> ExitCode {
    let began_ns = platform::clock::monotonic_ns();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logs::init(cli.log_format);
    let done = match cli.command {
        Command::Demo(args) => commands::demo(&args, began_ns),
        Command::Campaign(args) => campaign::run(args),
        Command::CampaignWorker => return campaign::worker(),
        Command::Run(args) => commands::run(&args),
        Command::Status(args) => observe::status(&args),
        Command::Events(args) => observe::events(&args),
        Command::Switch(args) => observe::switch(&args),
        Command::Drill(args) => observe::drill(&args),
        Command::Upgrade(args) => observe::upgrade(&args),
        Command::Pause(args) => examine::pause(&args),
        Command::Resume(args) => examine::resume(&args),
        Command::Dump(args) => examine::dump(&args),
        Command::Gdb(args) => examine::gdb(&args),
        Command::Top(args) => observe::top(&args),
        Command::Report(args) => report::run(&args),
        Command::Validate { topology } => commands::validate(&topology),
        Command::Schema => commands::schema(),
        Command::Devices(args) => devices::run(&args),
        Command::App(args) => commands::app(&args),
        Command::Image(args) => commands::image(&args),
    };
    let (status, why) = match done {
        Ok(()) => return ExitCode::from(exit::SUCCESS),
        Err(Failure::Run(why)) => (exit::FAILED, why),
        Err(Failure::Mistake(why)) => (exit::MISTAKE, why),
    };
    logs::failure(&why);
    ExitCode::from(status)
}

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
