//! `warmspare report`: what campaigns say.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Failure, mistake, one_line};
use crate::report::{Folder, Report};

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders of campaigns, side by side
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// How to print it; HTML is one file with everything in it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
    Html,
}

pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let report = load(&args.folders)?;
    let text = match args.format {
        ReportFormat::Text => report.text(),
        ReportFormat::Json => json(&report)? + "\n",
        ReportFormat::Html => report.html(),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Run(format!("the report cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn load(folders: &[PathBuf]) -> Result<Report, Failure> {
    let load = |path: &PathBuf| Folder::load(path).map_err(|error| mistake(&error));
    let folders = folders.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    for warning in folders.iter().filter_map(Folder::warning) {
        eprintln!("warmspare: {warning}");
    }
    Ok(Report::of(&folders))
}

fn json(report: &Report) -> Result<String, Failure> {
    report.json().map_err(|error| Failure::Run(one_line(&error)))
}
