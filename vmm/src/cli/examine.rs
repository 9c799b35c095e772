//! The commands that examine a domain of a running warmspare: `pause`, `resume`, `dump` and `gdb`.

use std::path::PathBuf;

use clap::Args;

use super::client_args::{ClientArgs, client_failure};
use super::exit::Failure;
use super::output::print_line;
use crate::logs::notice;
use operate::control::{DomainRequest, Dumped, GdbRequest, Opened, PauseRequest, Paused, Resumed};

#[derive(Debug, Args)]
pub(super) struct DomainArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The domain
    domain: String,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    of: DomainArgs,
    /// If the domain serves, let another one serve first
    #[arg(long)]
    switch_first: bool,
}

#[derive(Debug, Args)]
pub(super) struct GdbArgs {
    #[command(flatten)]
    of: DomainArgs,
    /// If the domain serves, let another one serve first; otherwise the service stops with it
    #[arg(long)]
    switch_first: bool,
    /// Unix socket to create for gdb [default: gdb-DOMAIN.sock beside the control socket]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) fn pause(args: &PauseArgs) -> Result<(), Failure> {
    let request = PauseRequest { domain: args.of.domain.clone(), switch_first: args.switch_first };
    let client = args.of.client.client();
    let done: Paused =
        client.post("/api/v1/pause", &request).map_err(|error| client_failure(&error))?;
    let serves = done.serves.as_deref().unwrap_or("no domain");
    let domain = &done.domain;
    print_line(&format!(
        "{domain} is paused until it is resumed or has to serve; {serves} serves"
    ))?;
    Ok(())
}

pub(super) fn resume(args: &DomainArgs) -> Result<(), Failure> {
    let request = DomainRequest { domain: args.domain.clone() };
    let client = args.client.client();
    let done: Resumed =
        client.post("/api/v1/resume", &request).map_err(|error| client_failure(&error))?;
    print_line(&format!("{} runs again", done.domain))?;
    Ok(())
}

pub(super) fn dump(args: &DomainArgs) -> Result<(), Failure> {
    let request = DomainRequest { domain: args.domain.clone() };
    let client = args.client.client();
    let done: Dumped =
        client.post("/api/v1/dump", &request).map_err(|error| client_failure(&error))?;
    print_line(&done.folder.display().to_string())?;
    notice!("{} was stopped for {:.1} ms", done.domain, done.held_us / 1000.0);
    Ok(())
}

pub(super) fn gdb(args: &GdbArgs) -> Result<(), Failure> {
    let absolute =
        |path: &PathBuf| std::path::absolute(path).map_err(|error| Failure::mistake(&error));
    let socket = args.socket.as_ref().map(absolute).transpose()?;
    let domain = args.of.domain.clone();
    let request = GdbRequest { domain, switch_first: args.switch_first, socket };
    let client = args.of.client.client();
    let done: Opened =
        client.post("/api/v1/gdb", &request).map_err(|error| client_failure(&error))?;
    let (socket, program) = (done.socket.display(), done.program.display());
    print_line(&format!("gdb -ex 'target remote {socket}' {program}"))?;
    if done.serves.as_deref() == Some(&*done.domain) {
        notice!("{} serves: while gdb has it stopped, the service is interrupted", done.domain);
    }
    Ok(())
}
