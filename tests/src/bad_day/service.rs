//! The running program with everything around it: API socket, log pipe, event file, application
//! guest and traffic.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::traffic::Ledger;
use serde_json::Value;

use super::mount::SmallDisk;
use crate::realguest::lan::Lan;
use crate::realguest::ping::Ping;
use crate::realguest::service::Program;
use crate::realguest::{example, scratch};

/// Time between two datagrams: 10 minutes of them fit into the ping's ledger.
const PERIOD: Duration = Duration::from_millis(4);
/// Size of the file system with the event file, bytes.
const DISK_BYTES: u64 = 256 * 1024;
/// How long the program may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the API may take for an answer, whatever happens.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time between two questions.
const AGAIN: Duration = Duration::from_millis(20);

/// What the reader of the program's standard error does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reader {
    /// It reads.
    Reads,
    /// It holds the pipe open and does not read.
    Stuck,
    /// It has closed the pipe.
    Gone,
}

/// What the program uses of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resources {
    pub(super) resident_kib: u64,
    pub(super) descriptors: u64,
}

/// The program and its surroundings.
pub(super) struct Service<'a> {
    pub(super) lan: &'a Lan,
    pub(super) disk: SmallDisk,
    program: Child,
    reader: Arc<AtomicU8>,
    guest: Option<Program>,
    /// `None` after it has handed over its ledger.
    ping: Option<Ping>,
    guest_command: Vec<String>,
    folder: PathBuf,
}

impl<'a> Service<'a> {
    /// Starts everything, and waits until the guest answers and the network is redundant.
    pub(super) fn start(lan: &'a Lan) -> Result<Self> {
        let folder = scratch()?;
        let (topology, file) = example("qemu-linux", &folder)?;
        let disk = SmallDisk::mount(&folder.join("disk"), DISK_BYTES)?;
        let mut command = Command::new(crate::program());
        command.arg("run").arg(&file).args(["--log-format", "json"]);
        command.arg("--api-socket").arg(folder.join("api.sock"));
        command.arg("--event-file").arg(disk.path("events.jsonl"));
        command.env("WARMSPARE_LOG", "debug").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let mut program = lan.bridge().run(|| command.spawn())?.context("warmspare")?;
        let reader = Arc::new(AtomicU8::new(Reader::Reads as u8));
        let log = program.stderr.take().context("no pipe")?;
        let wanted = reader.clone();
        std::thread::spawn(move || read(log, &wanted));
        let app = &topology.apps[0];
        let socket = app.socket.display().to_string();
        let guest_command = ["app", "--socket", &socket, "--mac", &app.mac.to_string()]
            .into_iter()
            .chain(["--ip", "10.77.0.2/24"])
            .map(str::to_owned)
            .collect();
        let ping = Some(Ping::start(lan.host(), "10.77.0.2".parse()?, PERIOD)?);
        let mut service =
            Self { lan, disk, program, reader, guest: None, ping, guest_command, folder };
        service.replace_guest()?;
        service.wait_answers(PATIENCE)?;
        service.wait_redundant(PATIENCE)?;
        Ok(service)
    }

    /// Kills the application guest, if there is one, and starts another one.
    pub(super) fn replace_guest(&mut self) -> Result<()> {
        self.guest = None;
        let socket = PathBuf::from(&self.guest_command[2]);
        let end = Instant::now() + PATIENCE;
        while !socket.exists() {
            ensure!(Instant::now() < end, "warmspare opens no socket");
            std::thread::sleep(AGAIN);
        }
        let mut command = Command::new(crate::program());
        command.args(&self.guest_command).stdout(Stdio::null());
        self.guest = Some(Program::spawn(self.lan.bridge(), &mut command)?);
        Ok(())
    }

    /// Changes what the reader of the log does.
    pub(super) fn set_reader(&self, reader: Reader) {
        self.reader.store(reader as u8, Ordering::Release);
    }

    /// Path of the API socket.
    pub(super) fn api_socket(&self) -> PathBuf {
        self.folder.join("api.sock")
    }

    /// The program's process ID.
    pub(super) fn pid(&self) -> i32 {
        self.program.id() as i32
    }

    /// Runs one of warmspare's commands against the API socket. Returns what it prints.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("timeout");
        command.arg(ANSWER_WITHIN.as_secs().to_string()).arg(crate::program()).args(words);
        command.arg("--api-socket").arg(self.api_socket());
        let output = command.output().context("coreutils' `timeout` is missing")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let what = words.join(" ");
        ensure!(output.status.code() != Some(124), "`warmspare {what}` is not answered in time");
        ensure!(output.status.success(), "`warmspare {what}`: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Returns the state as the API shows it.
    pub(super) fn state(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["status", "--format", "json"])?)?)
    }

    /// Returns the number of failures so far, by cause.
    pub(super) fn failovers(&self) -> Result<BTreeMap<String, u64>> {
        let state = self.state()?;
        let mut all = BTreeMap::new();
        for count in state["failovers"].as_array().context("no failovers in the state")? {
            let cause = count["cause"].as_str().context("a failover without a cause")?;
            *all.entry(cause.to_owned()).or_insert(0) += count["count"].as_u64().unwrap_or(0);
        }
        Ok(all)
    }

    /// Returns the index of the domain that serves.
    pub(super) fn active(&self) -> Result<usize> {
        match self.state()?["active"].as_str() {
            Some("a") => Ok(0),
            Some("b") => Ok(1),
            other => bail!("no domain serves: {other:?}"),
        }
    }

    /// Waits for ten more echoes. Returns how long they took.
    pub(super) fn wait_answers(&mut self, patience: Duration) -> Result<Duration> {
        if let Some(status) = self.program.try_wait()? {
            bail!("warmspare has ended: {status}");
        }
        self.ping.as_ref().context("the ping has ended")?.wait_answers(patience)
    }

    /// Waits until the network is redundant.
    pub(super) fn wait_redundant(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let state = self.state()?;
            if state["redundant"] == true {
                return Ok(());
            }
            ensure!(Instant::now() < end, "not redundant: {}", describe(&state));
            std::thread::sleep(10 * AGAIN);
        }
    }

    /// Returns what the program uses of the machine.
    pub(super) fn resources(&self) -> Result<Resources> {
        let process = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = std::fs::read_to_string(process.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.split_whitespace().next());
        let resident_kib = resident.context("no VmRSS")?.parse()?;
        let descriptors = std::fs::read_dir(process.join("fd"))?.count() as u64;
        Ok(Resources { resident_kib, descriptors })
    }

    /// Checks that each line of the event file is an event. Returns their number.
    pub(super) fn check_event_file(&self) -> Result<usize> {
        let text = std::fs::read_to_string(self.disk.path("events.jsonl"))?;
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(event.is_object(), "{line}");
        }
        Ok(text.lines().count())
    }

    /// Ends the program as a service manager does, and returns the ping's ledger.
    pub(super) fn finish(mut self) -> Result<Ledger> {
        // SAFETY: the arguments are plain integers. The process is a child that was not yet waited
        // for, so its ID is still its own.
        unsafe { libc::kill(self.pid(), libc::SIGTERM) };
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.program.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "warmspare does not end after SIGTERM");
            std::thread::sleep(AGAIN);
        };
        ensure!(status.success(), "warmspare ended with {status}");
        self.ping.take().context("the ping has ended")?.finish()
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Describes the domains in a state.
fn describe(state: &Value) -> String {
    let domains = state["domains"].as_array().map(Vec::as_slice).unwrap_or_default();
    let domain = |domain: &Value| {
        let (name, role) = (&domain["name"], &domain["role"]);
        format!("{name} {role}, healthy {}, link {}", domain["healthy"], domain["nic"]["link_up"])
    };
    domains.iter().map(domain).collect::<Vec<_>>().join("; ")
}

/// Reads the log until it is told otherwise.
fn read(mut log: ChildStderr, wanted: &AtomicU8) {
    let mut bytes = [0; 4096];
    while wanted.load(Ordering::Acquire) != Reader::Gone as u8 {
        if wanted.load(Ordering::Acquire) == Reader::Stuck as u8 {
            std::thread::sleep(AGAIN);
        } else if !matches!(log.read(&mut bytes), Ok(1..)) {
            return;
        }
    }
}
