//! `warmspare report`: what campaigns found.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::Failure;
use super::output::print;
use crate::logs::notice;
use lab::report::{Folder, FolderError, Report};
use operate::control::{DashboardConfig, PageServer, Pages};
use platform::one_line::one_line;

/// How long the main thread waits for a signal at a time.
const SIGNAL_WAIT: Duration = Duration::from_secs(3600);

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folders of campaigns, side by side
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// How to print it; HTML is one file with everything in it
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Serve it to browsers at this address until SIGINT or SIGTERM, made anew for each request
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8471",
        conflicts_with = "format"
    )]
    serve: Option<SocketAddr>,
    /// File with the token that is needed where other machines reach the address
    #[arg(long, value_name = "FILE", requires = "serve")]
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
    Html,
}

pub(super) fn run(args: &ReportArgs) -> Result<(), Failure> {
    let folders = load(&args.folders).map_err(|error| Failure::mistake(&error))?;
    for warning in folders.iter().filter_map(Folder::warning) {
        notice!("{warning}");
    }
    if let Some(address) = args.serve {
        return serve(args, address);
    }
    let report = Report::of(&folders);
    let text = match args.format {
        ReportFormat::Text => report.text(),
        ReportFormat::Json => report.json().map_err(|error| Failure::run(&error))? + "\n",
        ReportFormat::Html => report.html(),
    };
    print(&text)?;
    Ok(())
}

fn load(folders: &[PathBuf]) -> Result<Vec<Folder>, FolderError> {
    folders.iter().map(|path| Folder::load(path)).collect()
}

/// Reads the folders for each request, because a campaign may still be running.
struct Live(Vec<PathBuf>);

impl Live {
    fn report(&self) -> Result<Report, String> {
        load(&self.0).map(|folders| Report::of(&folders)).map_err(|error| one_line(&error))
    }
}

impl Pages for Live {
    fn html(&self) -> Result<String, String> {
        self.report().map(|report| report.html())
    }

    fn json(&self) -> Result<String, String> {
        self.report()?.json().map_err(|error| one_line(&error))
    }
}

fn serve(args: &ReportArgs, address: SocketAddr) -> Result<(), Failure> {
    let config = DashboardConfig::new(address, args.token_file.as_deref());
    let config = config.map_err(|error| Failure::mistake(&error))?;
    let signals = platform::signals::Termination::block().map_err(|error| Failure::run(&error))?;
    let server = PageServer::spawn(&config, Arc::new(Live(args.folders.clone())));
    let server = server.map_err(|error| Failure::mistake(&error))?;
    notice!("report at http://{}/", server.address());
    while !signals.wait(SIGNAL_WAIT) {}
    Ok(())
}
