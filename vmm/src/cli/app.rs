//! `warmspare app`.

use std::os::fd::AsFd;

use clap::Args;

use super::exit::Failure;
use lab::app::{self, AppConfig};

#[derive(Debug, Args)]
pub(super) struct AppArgs {
    #[command(flatten)]
    config: AppConfig,
    /// End when standard input ends, as it does when the parent process that holds it dies
    #[arg(long = lab::traffic::PARENT_WATCH_OPTION, hide = true)]
    end_with_parent: bool,
}

/// Runs the built-in application guest.
pub(super) fn app(args: &AppArgs) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let parent_watch = args.end_with_parent.then(|| stdin.as_fd());
    app::run(&args.config, parent_watch).map_err(|error| match error.is_usage() {
        true => Failure::mistake(&error),
        false => Failure::run(&error),
    })
}
