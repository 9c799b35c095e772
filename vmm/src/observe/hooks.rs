//! Programs that run on chosen events, as keepalived's notify scripts do.
//!
//! A program gets the event's JSON line on its standard input and its kind in `WARMSPARE_EVENT`.
//! They run one after the other on a thread of their own, each within its time limit: whatever they
//! do, it delays only the next of them. They inherit that SIGINT, SIGTERM and SIGHUP are blocked.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bus::{Delivery, Published, Subscription};
use crate::realtime;

/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long the end waits for a program that runs.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// A program and when it runs.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Values of the key `event` that it runs on.
    pub events: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
}

/// The thread that runs them; it ends when the bus does.
#[derive(Debug)]
pub struct Hooks {
    hooks: Arc<Mutex<Vec<Hook>>>,
    thread: JoinHandle<()>,
}

impl Hooks {
    /// Starts the thread `notify`.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn spawn(hooks: Vec<Hook>, mut events: Subscription) -> io::Result<Self> {
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

    /// From the next event on, these and no others.
    pub fn replace(&self, hooks: Vec<Hook>) {
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

fn run_all(hooks: &[Hook], event: &Published) {
    for hook in hooks.iter().filter(|hook| hook.events.iter().any(|kind| kind == event.kind)) {
        let program = hook.program.display();
        match run(hook, event) {
            Ok(None) => tracing::warn!(%program, "a notify program ran into its time limit"),
            Ok(Some(true)) => {}
            Ok(Some(false)) => tracing::warn!(%program, "a notify program failed"),
            Err(error) => tracing::warn!(%program, %error, "a notify program cannot be run"),
        }
    }
}

/// Whether it succeeded; `None` if it was stopped at its time limit.
fn run(hook: &Hook, event: &Published) -> io::Result<Option<bool>> {
    let mut command = Command::new(&hook.program);
    command
        .args(&hook.arguments)
        .env("WARMSPARE_EVENT", event.kind)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // A group of its own, so that all it started ends with it.
        .process_group(0);
    // No closure of ours runs in the child, so that it is made without copying this process's page
    // tables: that would hold up every thread of the data path.
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // An event is far smaller than a pipe's buffer, so this does not wait; a program that does
        // not read it is free not to.
        let _ = input.write_all(format!("{}\n", event.json).as_bytes());
    }
    wait(&mut child, hook.timeout)
}

fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<bool>> {
    let end = Instant::now() + timeout;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        std::thread::sleep(LOOK);
    }
    // SAFETY: a plain system call; the group is the child's own, which is not waited for yet.
    unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
    child.wait()?;
    Ok(None)
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
    fn a_program_hears_of_its_events_and_of_no_others() {
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
            std::thread::sleep(LOOK);
        }
        let heard = std::fs::read_to_string(&file).unwrap();
        assert_eq!(heard, "failover\n{\"event\":\"failover\"}\n");
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_program_over_its_time_is_stopped_with_all_it_started() {
        let file = std::env::temp_dir().join(format!("warmspare-over-{}", std::process::id()));
        let script = format!("sleep 60 & echo $! > {}; sleep 60", file.display());
        let hook = shell(&["link"], &script, Duration::from_millis(500));
        let start = Instant::now();
        assert_eq!(run(&hook, &event("link")).unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(30));
        let started = std::fs::read_to_string(&file).unwrap();
        // One that was killed may wait as a zombie, without a command line, for whoever inherits
        // it.
        let command = format!("/proc/{}/cmdline", started.trim());
        while std::fs::read(&command).is_ok_and(|line| !line.is_empty()) {
            assert!(start.elapsed() < Duration::from_secs(30), "{started} lives on");
            std::thread::sleep(LOOK);
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn failure_and_absence_are_told_apart() {
        let failing = shell(&[], "exit 3", Duration::from_secs(10));
        assert_eq!(run(&failing, &event("link")).unwrap(), Some(false));
        let absent = Hook { program: "/no/such/program".into(), ..failing };
        assert!(run(&absent, &event("link")).is_err());
    }
}
