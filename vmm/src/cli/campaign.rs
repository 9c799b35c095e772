//! `warmspare campaign`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::output::{Format, json, print, print_line};
use lab::campaign::{
    self, CampaignError, InjectionOutcome, InjectionRecord, Replayed, RunConfig, Tally,
};

/// Most injections to look into that are listed at the end. `report` lists them all.
const MAX_LISTED: usize = 10;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct CampaignArgs {
    #[command(subcommand)]
    command: Option<CampaignCommand>,
    /// Campaign file, JSON
    #[arg(required = true, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Folder for the results
    #[arg(long, required = true, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the campaign in that folder
    #[arg(long)]
    resume: bool,
    /// Worker processes; with more than one, they disturb each other's times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum CampaignCommand {
    /// Repeat one injection
    Replay {
        /// Folder of the campaign
        dir: PathBuf,
        /// Number of the injection
        id: u64,
        /// Keep core file, log and ring cursors of the failed domain
        #[arg(long)]
        debug: bool,
        /// How to print the result
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

pub(super) fn run(args: CampaignArgs) -> Result<(), Failure> {
    match (args.command, args.file, args.out) {
        (Some(CampaignCommand::Replay { dir, id, debug, format }), _, _) => {
            let replayed = campaign::replay(&dir, id, debug).map_err(|error| failure(&error))?;
            match format {
                Format::Text => print(&replayed_text(&replayed))?,
                Format::Json => print_line(&json(&replayed)?)?,
            };
            Ok(())
        }
        (None, Some(file), Some(out)) => {
            let (resume, jobs, progress) = (args.resume, args.jobs, !args.quiet);
            inject(&RunConfig { file, out, resume, jobs, progress })
        }
        // Not reached: the parser demands both.
        (None, _, _) => Err(Failure::Mistake("name a campaign file and --out".into())),
    }
}

fn failure(error: &CampaignError) -> Failure {
    if error.is_usage() { Failure::mistake(error) } else { Failure::run(error) }
}

fn inject(config: &RunConfig) -> Result<(), Failure> {
    let ended = campaign::run(config).map_err(|error| failure(&error))?;
    let out = config.out.display();
    print(&summary(&ended.tally, &config.out))?;
    if ended.interrupted {
        let file = config.file.display();
        let again = format!("warmspare campaign {file} --out {out} --resume");
        return Err(Failure::Run(format!("stopped before the end; continue with `{again}`")));
    }
    Ok(())
}

fn summary(tally: &Tally, out: &Path) -> String {
    let counts = tally.all();
    let mut text = format!(
        "{} injections, {} activated, {} detected\n",
        counts.injections, counts.activated, counts.detected
    );
    for outcome in InjectionOutcome::ALL {
        let count = tally.outcome(outcome);
        if count == 0 {
            continue;
        }
        let share = match outcome {
            InjectionOutcome::NotActivated => String::new(),
            _ => format!("  {:5.1} %", 100.0 * count as f64 / counts.activated.max(1) as f64),
        };
        text += &format!("  {:<15} {count:>6}{share}\n", outcome.name());
    }
    let bad = tally.bad();
    if !bad.is_empty() {
        text += &format!("\nto look into, {} in all:\n", bad.len());
    }
    for record in bad.iter().take(MAX_LISTED) {
        text += &format!("  {}\n", line(record));
        text += &format!("    warmspare campaign replay {} {}\n", out.display(), record.id);
    }
    text
}

/// An injection in one line.
fn line(record: &InjectionRecord) -> String {
    let mut parts = vec![format!("{} {}", record.id, record.outcome.name())];
    parts.push(format!("({}, {})", record.configuration.name(), place(record)));
    if let Some(verdict) = &record.verdict {
        parts.push(format!("found as {}: {}", verdict.cause, verdict.text));
    }
    if let Some(note) = &record.note {
        parts.push(format!("[{note}]"));
    }
    parts.join(" ")
}

fn place(record: &InjectionRecord) -> String {
    let fault = &record.fault;
    let kind = format!("{:?}", record.kind).to_lowercase();
    let mut text = fault.mutation.clone().unwrap_or(kind);
    match (&fault.symbol, fault.address) {
        (Some(symbol), _) => text += &format!(" at {symbol}"),
        (None, Some(address)) => text += &format!(" at {address:#x}"),
        (None, None) => {}
    }
    if let Some(register) = &fault.register {
        text += &format!(" {register}");
    }
    if let Some(byte) = fault.byte {
        text += &format!(" byte {byte}");
    }
    if let Some(bit) = fault.bit {
        text += &format!(" bit {bit}");
    }
    text
}

/// What a repeated injection came to, in some lines.
fn replayed_text(replayed: &Replayed) -> String {
    let Replayed { recorded, again, dumps } = replayed;
    let mut text = format!("fault      {}\n", place(recorded));
    if let Some(instruction) = &recorded.fault.instruction {
        let source = recorded.fault.source.as_deref().unwrap_or("source unknown");
        text += &format!("code       {instruction}  {source}\n");
    }
    text += &format!("recorded   {}\n", line(recorded));
    text += &format!("now        {}\n", line(again));
    for step in &again.recovery {
        text += &format!("  {:>10.3} ms  {}\n", step.after_us / 1000.0, step.step);
    }
    let frames = &again.frames;
    text += &format!(
        "frames     {} sent, {} lost, {} duplicated, {} corrupted\n",
        frames.sent, frames.lost, frames.duplicated, frames.corrupted
    );
    if let Some(dumps) = dumps {
        text += &format!("remains    {}\n", dumps.display());
    }
    text
}

/// Runs a worker process of a campaign.
pub(super) fn worker() -> ExitCode {
    match campaign::serve_worker() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            platform::stderr::tell(format_args!("worker: {error}"));
            ExitCode::from(1)
        }
    }
}
