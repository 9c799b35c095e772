//! The commands for planned operations on a running warmspare: `switch`, `drill` and `upgrade`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::client_args::{ClientArgs, client_failure};
use super::exit::Failure;
use super::output::print_line;
use operate::control::{DrillRequest, Drilled, SwitchRequest, Switched, UpgradeRequest, Upgraded};

#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The domain that is to serve; the best standby if it is left out
    to: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The standby to drill; the one that would take over if it is left out
    domain: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// File with the new driver, on the machine that warmspare runs on
    image: PathBuf,
    /// How long the new driver serves before it is trusted, milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=3_600_000))]
    probation_ms: u32,
}

/// Asks for a planned switch.
pub(super) fn switch(args: &SwitchArgs) -> Result<(), Failure> {
    let request = SwitchRequest { to: args.to.clone() };
    let done: Switched = args
        .client
        .client()
        .post("/api/v1/switch", &request)
        .map_err(|error| client_failure(&error))?;
    print_line(&format!("{} has taken over from {}", done.to, done.from))?;
    Ok(())
}

/// Asks for a drill.
pub(super) fn drill(args: &DrillArgs) -> Result<(), Failure> {
    let request = DrillRequest { domain: args.domain.clone() };
    let client = args.client.client();
    let done: Drilled =
        client.post("/api/v1/drill", &request).map_err(|error| client_failure(&error))?;
    if let Some(blame) = &done.blame {
        let attempts = done.attempts;
        let what = format!("{} failed its drill {attempts} times: {blame}", done.domain);
        return Err(Failure::Run(what));
    }
    let Drilled { domain, round_trip_us, .. } = &done;
    print_line(&format!("{domain} could take over: answered after {round_trip_us:.0} µs"))?;
    Ok(())
}

/// Asks for an upgrade.
pub(super) fn upgrade(args: &UpgradeArgs) -> Result<(), Failure> {
    let image = std::path::absolute(&args.image)
        .map_err(|error| Failure::Mistake(format!("{}: {error}", args.image.display())))?;
    let request = UpgradeRequest { image, probation_ms: Some(args.probation_ms) };
    let takes = Duration::from_millis(args.probation_ms.into());
    let client = args.client.client();
    let done: Upgraded = client
        .post_for("/api/v1/upgrade", &request, takes)
        .map_err(|error| client_failure(&error))?;
    let Upgraded { took_seconds, serves, .. } = &done;
    print_line(&format!(
        "all domains run the new driver after {took_seconds:.1} s; {serves} serves"
    ))?;
    Ok(())
}
