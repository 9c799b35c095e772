//! The commands that show a running warmspare: `status`, `events` and `top`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;

use super::client_args::{ClientArgs, client_failure};
use super::exit::Failure;
use super::output::{Format, Reader, print, print_line};
use super::state_text::{rates_text, state_text};
use operate::control::client::{Client, ClientError};
use operate::observe::Snapshot;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// End with status 1 if the network is not redundant now
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Also print the events that follow, until the connection ends
    #[arg(long)]
    follow: bool,
    /// Only events with a higher number than this
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Milliseconds between two updates
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
}

/// The state of the system now.
fn state(client: &Client) -> Result<Snapshot, Failure> {
    client.get("/api/v1/state").map_err(|error| client_failure(&error))
}

/// Prints the state.
pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let state = match args.format {
        Format::Text => {
            let state = state(&client)?;
            print(&state_text(&state))?;
            state
        }
        Format::Json => {
            let text = client.text("/api/v1/state").map_err(|error| client_failure(&error))?;
            print_line(&text)?;
            serde_json::from_str(&text).map_err(|error| Failure::run(&error))?
        }
    };
    match args.check && !state.redundant {
        true => Err(Failure::Run("not redundant".into())),
        false => Ok(()),
    }
}

/// Prints the events.
pub(super) fn events(args: &EventsArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/events?after={}&follow={}", args.after, args.follow);
    let lines = args.client.client().lines(&path).map_err(|error| client_failure(&error))?;
    let broken = |error| client_failure(&ClientError::Broken(error));
    for line in lines {
        if print_line(&line.map_err(broken)?)? == Reader::Gone {
            return Ok(());
        }
    }
    match args.follow {
        true => Err(Failure::Run("warmspare has ended the stream".into())),
        false => Ok(()),
    }
}

/// Prints the state and the rates again and again.
pub(super) fn top(args: &TopArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    loop {
        let state = state(&client)?;
        let text = format!("{clear}{}{}", state_text(&state), rates_text(&state));
        if print_line(&text)? == Reader::Gone {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(args.interval_ms));
    }
}
