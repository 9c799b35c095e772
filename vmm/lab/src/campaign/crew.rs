//! The campaign's end of a worker process.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use super::order::{Answer, Request};
use super::worker::worker_folder;
use platform::budget::CAMPAIGN;

/// The command by which this program becomes a worker.
pub const WORKER_COMMAND: &str = "campaign-worker";

/// What came of a request.
pub(super) enum Reply {
    Answer(Answer),
    /// The worker has ended, or had to be ended; why, in one line.
    Lost(String),
}

/// A worker process, started when it is needed; killed when dropped.
pub(super) struct Worker {
    log: File,
    running: Option<Running>,
}

struct Running {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    /// A worker whose messages go to `log`.
    pub(super) fn new(log: File) -> Self {
        Self { log, running: None }
    }

    /// Has a request carried out.
    ///
    /// # Errors
    /// No process is to be had.
    pub(super) fn ask(&mut self, request: &Request) -> std::io::Result<Reply> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.log)?,
        };
        let line = serde_json::to_string(request)? + "\n";
        if running.requests.write_all(line.as_bytes()).is_err() {
            return Ok(Reply::Lost(running.epitaph()));
        }
        match running.answers.recv_timeout(CAMPAIGN.trial) {
            Ok(line) => {
                let answer = serde_json::from_str(&line)?;
                self.running = Some(running);
                Ok(Reply::Answer(answer))
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = CAMPAIGN.trial.as_secs();
                Ok(Reply::Lost(format!("the program itself did not go on within {seconds} s")))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(Reply::Lost(running.epitaph())),
        }
    }
}

impl Running {
    fn start(log: &File) -> std::io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(WORKER_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("a worker without input or output"));
        };
        let (tell, answers) = sync_channel(1);
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if tell.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { child, requests, answers })
    }

    fn epitaph(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("the program itself ended: {status}"),
            Err(error) => format!("the program itself ended: {error}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its input ends with the struct, but a stuck one would not see that. An error means that
        // it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(worker_folder(self.child.id()));
    }
}
