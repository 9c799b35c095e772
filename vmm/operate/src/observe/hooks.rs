//! Programs that run on chosen events, as keepalived's notify scripts do.
//!
//! A program gets the event's JSON line on its standard input and the event's kind in
//! `WARMSPARE_EVENT`. The programs run one after the other on a thread of their own, each within its
//! time limit, so a slow program delays only the next one. The programs inherit that SIGINT, SIGTERM
//! and SIGHUP are blocked.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bus::{Delivery, Published, Subscription};
use platform::process::kill_group;
use platform::realtime;

/// Between two checks whether a program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long dropping [`Hooks`] waits for a program that still runs.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// A program, and the events that it runs on.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    /// Values of the key `event` that it runs on.
    pub(crate) events: Vec<String>,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// How long it may run.
    pub(crate) timeout: Duration,
}

/// The thread that runs the programs; it ends when the event bus is dropped.
#[derive(Debug)]
pub(crate) struct Hooks {
    hooks: Arc<Mutex<Vec<Hook>>>,
    thread: JoinHandle<()>,
}

impl Hooks {
    /// Starts the thread `notify`, which runs these programs.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(crate) fn spawn(hooks: Vec<Hook>, mut events: Subscription) -> io::Result<Self> {
        let hooks = Arc::new(Mutex::new(hooks));
        let current = hooks.clone();
        let thread = realtime::spawn("notify", None, move || {
            while let Some(delivery) = events.next_blocking() {
                match delivery {
                    Delivery::Event(event) => {
                        // Copied, so that the list can be replaced while a program runs.
                        let hooks = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        run_all(&hooks, &event);
                    }
                    Delivery::Lost(count) => {
                        tracing::warn!(count, "notify programs were too slow: events were lost");
                    }
                }
            }
        })?;
        Ok(Self { hooks, thread })
    }

    /// Replaces the programs, from the next event on.
    pub(crate) fn replace(&self, hooks: Vec<Hook>) {
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = hooks;
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let end = Instant::now() + END_DEADLINE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Its exit status is 0.
    Succeeded,
    /// Its exit status is not 0, or a signal ended it.
    Failed,
    /// It was killed at its time limit.
    TimedOut,
}

fn run_all(hooks: &[Hook], event: &Published) {
    for hook in hooks.iter().filter(|hook| hook.events.iter().any(|kind| kind == event.kind)) {
        let program = hook.program.display();
        match run(hook, event) {
            Ok(Ending::Succeeded) => {}
            Ok(Ending::Failed) => tracing::warn!(%program, "a notify program failed"),
            Ok(Ending::TimedOut) => {
                tracing::warn!(%program, "a notify program was killed at its time limit");
            }
            Err(error) => tracing::warn!(%program, %error, "a notify program cannot be run"),
        }
    }
}

fn run(hook: &Hook, event: &Published) -> io::Result<Ending> {
    let mut command = Command::new(&hook.program);
    command
        .args(&hook.arguments)
        .env("WARMSPARE_EVENT", event.kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // A group of its own, so that everything it started can be killed with it.
        .process_group(0);
    // No closure of ours runs in the child, so the child is made without copying this process's page
    // tables. Copying them would hold up every thread of the data path.
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // An event is far smaller than a pipe's buffer, so this does not wait. An error means that
        // the program does not read its input, which it need not.
        let _ = input.write_all(format!("{}\n", event.json).as_bytes());
    }
    wait(&mut child, hook.timeout)
}

fn wait(child: &mut Child, timeout: Duration) -> io::Result<Ending> {
    let end = Instant::now() + timeout;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Ending::Succeeded } else { Ending::Failed });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    if let Err(error) = kill_group(child) {
        tracing::warn!(%error, "a notify program cannot be killed");
    }
    child.wait()?;
    Ok(Ending::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::bus::EventBus;

    fn event(kind: &'static str) -> Arc<Published> {
        Arc::new(Published { seq: 1, kind, json: format!("{{\"event\":\"{kind}\"}}") })
    }

    fn shell(events: &[&str], script: &str, timeout: Duration) -> Hook {
        Hook {
            events: events.iter().map(|&kind| kind.to_owned()).collect(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            timeout,
        }
    }

    #[test]
    fn a_program_runs_on_its_events_and_on_no_others() {
        let file = std::env::temp_dir().join(format!("warmspare-hook-{}", std::process::id()));
        let script = format!("(echo $WARMSPARE_EVENT; cat) >> {}", file.display());
        let hook = shell(&["failover"], &script, Duration::from_secs(10));
        let bus = EventBus::default();
        let hooks = Hooks::spawn(vec![hook], bus.subscribe()).unwrap();
        bus.publish(event("link"));
        bus.publish(event("failover"));
        drop(bus);
        let end = Instant::now() + Duration::from_secs(10);
        while !hooks.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(POLL_INTERVAL);
        }
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, "failover\n{\"event\":\"failover\"}\n");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_program_over_its_time_is_killed_with_all_it_started() {
        let file = std::env::temp_dir().join(format!("warmspare-over-{}", std::process::id()));
        let script = format!("sleep 60 & echo $! > {}; sleep 60", file.display());
        let hook = shell(&["link"], &script, Duration::from_millis(500));
        let start = Instant::now();
        assert_eq!(run(&hook, &event("link")).unwrap(), Ending::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(30));
        let started = std::fs::read_to_string(&file).unwrap();
        // One that was killed may wait as a zombie, without a command line, for whoever inherits
        // it.
        let command = format!("/proc/{}/cmdline", started.trim());
        while std::fs::read(&command).is_ok_and(|line| !line.is_empty()) {
            assert!(start.elapsed() < Duration::from_secs(30), "{started} lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn failure_and_absence_are_told_apart() {
        let failing = shell(&[], "exit 3", Duration::from_secs(10));
        assert_eq!(run(&failing, &event("link")).unwrap(), Ending::Failed);
        let absent = Hook { program: "/no/such/program".into(), ..failing };
        assert!(run(&absent, &event("link")).is_err());
    }
}
