//! The campaign's end of a worker process.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};

use super::error::{CampaignError, io};
use super::worker_protocol::{Answer, Request, WORKER_COMMAND, worker_folder};
use crate::injection::{ATTEMPTS, InjectionRecord, TrialOrder};
use platform::budget::CAMPAIGN;

/// What came of a request.
pub(super) enum Reply {
    Answer(Answer),
    /// The worker has ended, or had to be ended; why, in one line.
    Lost(String),
}

/// A worker process, started when it is needed; killed when dropped.
pub(super) struct WorkerHandle {
    log: File,
    running: Option<Running>,
}

struct Running {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl WorkerHandle {
    /// A worker whose messages go to `log`.
    pub(super) fn new(log: File) -> Self {
        Self { log, running: None }
    }

    /// Has one injection carried out. A worker that is lost is an outcome, because the fault did
    /// that.
    ///
    /// # Errors
    /// There is no worker, or the injection could not be carried out, several times.
    pub(super) fn inject(&mut self, order: &TrialOrder) -> Result<InjectionRecord, CampaignError> {
        let request = Request::Inject(Box::new(order.clone()));
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.ask(&request).map_err(io("run a worker"))? {
                Reply::Answer(Answer::Injected(record)) => return Ok(*record),
                Reply::Answer(Answer::Failed(reason)) => why = reason,
                Reply::Answer(Answer::Profile(_)) => {
                    why = "the worker answers another question".into();
                }
                Reply::Lost(reason) => return Ok(order.lost(reason)),
            }
        }
        Err(CampaignError::Trial { id: order.id, why })
    }

    /// Has a request carried out.
    ///
    /// # Errors
    /// No process can be started.
    pub(super) fn ask(&mut self, request: &Request) -> std::io::Result<Reply> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.log)?,
        };
        let line = serde_json::to_string(request)? + "\n";
        if running.requests.write_all(line.as_bytes()).is_err() {
            return Ok(Reply::Lost(running.wait_end()));
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
            Err(RecvTimeoutError::Disconnected) => Ok(Reply::Lost(running.wait_end())),
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
        let (lines, answers) = sync_channel(1);
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if lines.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { child, requests, answers })
    }

    /// Waits until the process has ended; how it ended, in one line.
    fn wait_end(&mut self) -> String {
        match self.child.wait() {
            Ok(status) => format!("the program itself ended: {status}"),
            Err(error) => format!("the program itself ended: {error}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its input ends with the struct, but a stuck process would not see that. An error means
        // that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(worker_folder(self.child.id()));
    }
}
