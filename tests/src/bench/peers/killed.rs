//! Back-ends without a spare: killed by SIGKILL, and started again at once, as the simple
//! supervisor that every user has would do.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::felt::Event;
use super::testpmd;
use crate::realguest::lan::{Lan, MULTI_QUEUE_TAP, TAPS};
use crate::realguest::service::Program;

/// How long a back-end may take to start: DPDK takes two seconds, more on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// The back-end between the guest's socket and the bridge.
#[derive(Clone, Debug)]
pub(super) enum Backend {
    /// `warmspare run` with this topology.
    Warmspare(PathBuf),
    /// The plain back-end, [`super::plain`].
    Plain,
    /// DPDK's vhost library and its TAP driver, in testpmd.
    Dpdk,
}

/// A back-end, the socket that it serves, and the LAN that it is on.
pub(super) struct Place<'a> {
    pub(super) backend: Backend,
    pub(super) lan: &'a Lan,
    pub(super) socket: PathBuf,
    pub(super) mac: String,
}

impl Place<'_> {
    /// The port of the bridge that the back-end's guest is behind.
    pub(super) fn tap(&self) -> &'static str {
        match self.backend {
            Backend::Warmspare(_) | Backend::Plain => TAPS[0],
            Backend::Dpdk => MULTI_QUEUE_TAP,
        }
    }

    /// Starts the back-end, and waits until front-ends can connect.
    pub(super) fn start_afresh(&self) -> Result<Program> {
        let _ = std::fs::remove_file(&self.socket);
        let program = self.start()?;
        let end = Instant::now() + START_DEADLINE;
        while !self.socket.exists() {
            ensure!(Instant::now() < end, "the back-end does not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(program)
    }

    /// Starts the back-end.
    pub(super) fn start(&self) -> Result<Program> {
        let mut command = match &self.backend {
            Backend::Warmspare(topology) => {
                let mut command = Command::new(crate::program());
                command.arg("run").arg(topology);
                command
            }
            Backend::Plain => {
                let mut command = Command::new(crate::built("xtask"));
                command.arg("plain-backend").arg(&self.socket).args([self.tap(), &self.mac]);
                command
            }
            Backend::Dpdk => {
                // testpmd does not take over the socket of a back-end that was killed.
                let _ = std::fs::remove_file(&self.socket);
                testpmd::backend(&self.socket, self.tap())
            }
        };
        Program::spawn(self.lan.bridge(), command.stdout(Stdio::null()))
    }
}

/// The event that a back-end is killed, and started again.
pub(super) struct Killed<'a> {
    place: &'a Place<'a>,
    running: Option<Program>,
}

impl<'a> Killed<'a> {
    /// Prepares the event for a running back-end.
    pub(super) fn new(place: &'a Place<'a>, running: Program) -> Self {
        Self { place, running: Some(running) }
    }
}

impl Event for Killed<'_> {
    fn strike(&mut self) -> Result<()> {
        // Dropping kills the process and waits for its end, so that the TAP is free.
        self.running = None;
        self.running = Some(self.place.start()?);
        Ok(())
    }
}
