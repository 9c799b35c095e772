//! The commands that ask a running warmspare through its control socket.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Failure, Format};
use operate::control::client::{Client, ClientError};
use operate::control::{DrillRequest, Drilled, SwitchRequest, Switched, UpgradeRequest, Upgraded};
use operate::observe::{FailoverView, HistogramView, Snapshot};
use platform::one_line::one_line;

/// Where a packaged service has its control socket.
const DEFAULT_SOCKET: &str = "/run/warmspare/api.sock";

#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    /// Control socket of a running warmspare, as given to its `--api-socket`
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    api_socket: PathBuf,
}

impl ClientArgs {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.api_socket)
    }
}

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
    /// Go on with the events that come, until the connection ends
    #[arg(long)]
    follow: bool,
    /// Only events with a higher number than this
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The domain that is to serve; any standby if it is left out
    to: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The standby to drill; the first in line if it is left out
    domain: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// File with the new driver, on the machine that warmspare runs on
    image: PathBuf,
    /// How long it serves before it is trusted, milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=3_600_000))]
    probation_ms: u32,
}

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Milliseconds between two looks
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
}

/// What is refused or not there is the user's to mend; a connection that breaks is not.
pub(super) fn failure(error: &ClientError) -> Failure {
    match error {
        ClientError::Connect { .. } | ClientError::Refused(_) => Failure::Mistake(one_line(error)),
        ClientError::Broken(_) | ClientError::Foreign(_) => Failure::Run(one_line(error)),
    }
}

fn state(client: &Client) -> Result<Snapshot, Failure> {
    client.get("/api/v1/state").map_err(|error| failure(&error))
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let state = match args.format {
        Format::Text => {
            let state = state(&client)?;
            print!("{}", render(&state));
            state
        }
        Format::Json => {
            let text = client.text("/api/v1/state").map_err(|error| failure(&error))?;
            println!("{text}");
            serde_json::from_str(&text).map_err(|error| Failure::Run(one_line(&error)))?
        }
    };
    match args.check && !state.redundant {
        true => Err(Failure::Run("not redundant".into())),
        false => Ok(()),
    }
}

pub(super) fn events(args: &EventsArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/events?after={}&follow={}", args.after, args.follow);
    let lines = args.client.client().lines(&path).map_err(|error| failure(&error))?;
    let broken = |error| failure(&ClientError::Broken(error));
    let mut out = io::stdout().lock();
    for line in lines {
        let written =
            io::Write::write_all(&mut out, format!("{}\n", line.map_err(broken)?).as_bytes());
        match written.and_then(|()| io::Write::flush(&mut out)) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(broken)?,
        }
    }
    match args.follow {
        true => Err(Failure::Run("warmspare has ended the stream".into())),
        false => Ok(()),
    }
}

pub(super) fn switch(args: &SwitchArgs) -> Result<(), Failure> {
    let request = SwitchRequest { to: args.to.clone() };
    let done: Switched =
        args.client.client().post("/api/v1/switch", &request).map_err(|error| failure(&error))?;
    println!("{} has taken over from {}", done.to, done.from);
    Ok(())
}

pub(super) fn drill(args: &DrillArgs) -> Result<(), Failure> {
    let request = DrillRequest { domain: args.domain.clone() };
    let client = args.client.client();
    let done: Drilled = client.post("/api/v1/drill", &request).map_err(|error| failure(&error))?;
    if let Some(blame) = &done.blame {
        let attempts = done.attempts;
        let what = format!("{} failed its drill {attempts} times: {blame}", done.domain);
        return Err(Failure::Run(what));
    }
    println!("{} could take over: answered after {:.0} µs", done.domain, done.round_trip_us);
    Ok(())
}

pub(super) fn upgrade(args: &UpgradeArgs) -> Result<(), Failure> {
    let image = std::path::absolute(&args.image)
        .map_err(|error| Failure::Mistake(format!("{}: {error}", args.image.display())))?;
    let request = UpgradeRequest { image, probation_ms: Some(args.probation_ms) };
    let takes = Duration::from_millis(args.probation_ms.into());
    let client = args.client.client();
    let done: Upgraded =
        client.post_for("/api/v1/upgrade", &request, takes).map_err(|error| failure(&error))?;
    println!(
        "all domains run the new driver after {:.1} s; {} serves",
        done.took_seconds, done.serves
    );
    Ok(())
}

pub(super) fn top(args: &TopArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    loop {
        let state = state(&client)?;
        println!("{clear}{}{}", render(&state), render_rates(&state));
        std::thread::sleep(Duration::from_millis(args.interval_ms));
    }
}

/// The state as a few lines of text.
fn render(state: &Snapshot) -> String {
    let mut out = String::new();
    let word = if state.redundant { "redundant" } else { "NOT redundant" };
    let serves = match &state.active {
        Some(name) => format!("{name} serves"),
        None => "no domain serves".into(),
    };
    let up = state.uptime_seconds as u64;
    line(
        &mut out,
        format_args!(
            "{}: {word}, {serves}; policy {}, up {} h {:02} min {:02} s\n",
            state.name,
            state.policy,
            up / 3600,
            up / 60 % 60,
            up % 60,
        ),
    );
    line(
        &mut out,
        format_args!("domain      role         life  nic         link   heartbeat  vCPU"),
    );
    for domain in &state.domains {
        line(
            &mut out,
            format_args!(
                "{:<10}  {:<11}  {:>4}  {:<10}  {:<4}  {:>10}  {}",
                domain.name,
                domain.role.to_string(),
                domain.epoch,
                domain.nic.name,
                match domain.nic.link_up {
                    Some(true) => "up",
                    Some(false) => "DOWN",
                    None => "?",
                },
                domain.heartbeat,
                match (domain.aside, domain.parked) {
                    (true, _) => "put aside",
                    (false, true) => "asleep",
                    (false, false) => "awake",
                },
            ),
        );
    }
    out.push('\n');
    render_history(&mut out, state);
    out
}

fn render_history(out: &mut String, state: &Snapshot) {
    if state.failovers.is_empty() {
        line(out, format_args!("no domain has failed"));
    }
    for count in &state.failovers {
        let times = if count.count == 1 { "once" } else { "times" };
        let number = if count.count == 1 { String::new() } else { format!("{} ", count.count) };
        line(out, format_args!("{}: {} {number}{times}", count.cause, count.outcome));
    }
    for (cause, view) in &state.interruption.by_cause {
        line(out, format_args!("interruption by {cause}: {}", quantiles(view)));
    }
    for failover in state.last_failovers.iter().take(5) {
        line(out, format_args!("{}", failover_line(failover)));
    }
}

fn quantiles(view: &HistogramView) -> String {
    let ms = |us: f64| us / 1000.0;
    format!(
        "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        ms(view.p50_us),
        ms(view.p90_us),
        ms(view.p99_us),
        ms(view.max_us)
    )
}

fn failover_line(failover: &FailoverView) -> String {
    let took = match failover.interruption_us {
        Some(us) => format!("{:.2} ms", us / 1000.0),
        None => failover.outcome.name().to_owned(),
    };
    format!(
        "#{} {} {}>{} {}: {took}: {}",
        failover.number,
        failover.verdict_time,
        failover.from,
        failover.to.as_deref().unwrap_or("-"),
        failover.cause,
        failover.evidence,
    )
}

fn render_rates(state: &Snapshot) -> String {
    let mut out = String::from("\n");
    let rates = &state.rates;
    for (way, frames, bytes) in
        [("out", rates.tx_frames, rates.tx_bytes), ("in", rates.rx_frames, rates.rx_bytes)]
    {
        let megabits = bytes * 8.0 / 1e6;
        line(&mut out, format_args!("{way:<4}{frames:>10.0} frames/s {megabits:>10.2} Mbit/s"));
    }
    let rings = &rates.rings;
    line(
        &mut out,
        format_args!(
            "rings: {} to send, {} sent and not confirmed, {} received, {} empty buffers",
            rings.tx_post, rates.tx_unconfirmed, rings.rx_done, rings.rx_provide
        ),
    );
    for (domain, share) in state.domains.iter().zip(&rates.parked_share) {
        line(&mut out, format_args!("{}: vCPU idle {:.1} %", domain.name, share * 100.0));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}
