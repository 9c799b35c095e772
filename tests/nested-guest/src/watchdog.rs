//! Fails a step that does not end in time, and reports where all threads are at that moment.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use platform::realtime::{self, Priority};
use serde_json::{Value, json};
use warmspare_tests::nested::protocol::FromGuest;

use crate::report::Report;
use crate::sys;

/// Frames of a thread's kernel stack that are worth showing.
const STACK_FRAMES: usize = 6;

/// Watches a step until it is dropped.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Ends the whole machine if the step is not done in time.
    pub(crate) fn over(report: &Arc<Report>, step: &str, deadline: Duration) -> Self {
        let (alive, ended) = channel();
        let (report, name) = (report.clone(), step.to_owned());
        let watch = move || {
            if ended.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
                give_up(&report, &name, deadline);
            }
        };
        // The watchdog's priority is above that of all it watches, so that a runaway real-time
        // thread cannot keep it from reporting.
        if realtime::spawn("watchdog", Some(Priority::Witness), watch).is_err() {
            eprintln!("nested-init: no watchdog over {step}");
        }
        Self { _alive: alive }
    }
}

fn give_up(report: &Report, step: &str, deadline: Duration) {
    let seconds = deadline.as_secs();
    let error = format!("not done within {seconds} s");
    let detail = json!({ "error": error, "threads": threads() });
    let ms = deadline.as_secs_f64() * 1000.0;
    let _ = report.say(&FromGuest::Step { name: step.to_owned(), ok: false, ms, detail });
    let failed = vec![step.to_owned()];
    let _ = report.say(&FromGuest::Verdict { passed: 0, failed });
    report.drain();
    sys::power_off();
}

/// Describes every thread of every program: name, state, processor time, and kernel stack.
fn threads() -> Vec<Value> {
    let folders = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let programs = folders("/proc")
        .map(|entry| entry.path())
        .filter(|path| fs::read(path.join("cmdline")).is_ok_and(|line| !line.is_empty()));
    let tasks = programs.flat_map(|path| folders(&format!("{}/task", path.display())));
    tasks
        .map(|task| {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            let stat = read("stat");
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let stack = read("stack");
            let frames = stack
                .lines()
                .take(STACK_FRAMES)
                .map(|line| line.split(' ').next_back().unwrap_or_default().to_owned());
            json!({
                "name": read("comm").trim(),
                "state": fields.first(),
                "user_ticks": fields.get(11),
                "kernel_ticks": fields.get(12),
                "kernel_stack": frames.collect::<Vec<_>>(),
            })
        })
        .collect()
}
