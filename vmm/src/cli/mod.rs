//! The command line.
//!
//! Exit status: 0 success, 1 the run failed, 2 a mistake of the user (one line on standard error).

mod app;
mod campaign;
mod client_args;
mod demo;
mod devices;
mod event_text;
mod examine;
mod exit;
mod files;
mod machine;
mod observe;
mod operations;
mod output;
mod report;
mod run;
mod state_text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::logs::{self, LogFormat};

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
    Demo(demo::DemoArgs),
    /// Inject faults by the thousand, and record what becomes of each
    Campaign(campaign::CampaignArgs),
    /// Run a topology until SIGINT or SIGTERM
    Run(run::RunArgs),
    /// Show the state of a running warmspare
    Status(observe::StatusArgs),
    /// Print the events of a running warmspare, one JSON line each
    Events(observe::EventsArgs),
    /// Hand the service to a standby
    Switch(operations::SwitchArgs),
    /// Let a standby prove that it could take over
    Drill(operations::DrillArgs),
    /// Replace the driver of all domains, without an outage
    Upgrade(operations::UpgradeArgs),
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
    /// Report what campaigns of fault injection found, with confidence intervals
    Report(report::ReportArgs),
    /// Check a topology file
    Validate {
        /// Topology file, JSON
        topology: PathBuf,
    },
    /// Print the JSON Schema of topology files
    Schema,
    /// List the NICs of the igb family and what each lacks before it can be used; bind and unbind
    Devices(devices::DevicesArgs),
    /// Run the built-in application guest on a vhost-user socket
    App(app::AppArgs),
    /// Carry out injections for a campaign
    #[command(name = lab::campaign::WORKER_COMMAND, hide = true)]
    CampaignWorker,
    /// Write the program of a domain to a file, as a debugger wants it
    Image(files::ImageArgs),
}

/// Prints help and version to standard output as they are, and a mistake as one line like any other.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // An error means that the reader has closed its end, which is not a failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let mut lines = text.lines().skip_while(|line| line.trim().is_empty());
    let mut first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    if first.ends_with(':') {
        // The lines below name the missing arguments.
        let named = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
        first = format!("{first} {}", named.collect::<Vec<_>>().join(", "));
    }
    logs::failure(&format!("{first}; see `warmspare --help`"));
    ExitCode::from(exit::MISTAKE)
}

/// Runs the program.
pub fn main() -> ExitCode {
    let status = run_command();
    logs::flush();
    status
}

fn run_command() -> ExitCode {
    let began_ns = platform::clock::monotonic_ns();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logs::init(cli.log_format);
    let done = match cli.command {
        Command::Demo(args) => demo::demo(&args, began_ns),
        Command::Campaign(args) => campaign::run(args),
        Command::CampaignWorker => return campaign::worker(),
        Command::Run(args) => run::run(&args),
        Command::Status(args) => observe::status(&args),
        Command::Events(args) => observe::events(&args),
        Command::Switch(args) => operations::switch(&args),
        Command::Drill(args) => operations::drill(&args),
        Command::Upgrade(args) => operations::upgrade(&args),
        Command::Pause(args) => examine::pause(&args),
        Command::Resume(args) => examine::resume(&args),
        Command::Dump(args) => examine::dump(&args),
        Command::Gdb(args) => examine::gdb(&args),
        Command::Top(args) => observe::top(&args),
        Command::Report(args) => report::run(&args),
        Command::Validate { topology } => files::validate(&topology),
        Command::Schema => files::schema(),
        Command::Devices(args) => devices::run(&args),
        Command::App(args) => app::app(&args),
        Command::Image(args) => files::image(&args),
    };
    match done {
        Ok(()) => ExitCode::from(exit::SUCCESS),
        Err(failure) => {
            logs::failure(failure.message());
            ExitCode::from(failure.status())
        }
    }
}

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
