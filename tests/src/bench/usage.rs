//! Processor time and memory of processes and threads, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// What a thread has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    /// Nanoseconds for which it has run.
    pub(super) ns: u64,
    /// Times that it gave up its processor to sleep.
    pub(super) sleeps: u64,
}

/// What each thread of this process has used, by name; threads of the same name are added up.
pub(super) fn threads() -> BTreeMap<String, Thread> {
    let mut all: BTreeMap<String, Thread> = BTreeMap::new();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return all };
    for task in tasks.flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // A thread may have ended meanwhile.
        let (Some(name), Some(stat)) = (read("comm"), read("schedstat")) else { continue };
        let thread = all.entry(name.trim().to_owned()).or_default();
        thread.ns += first_number(&stat);
        thread.sleeps += read("status").map_or(0, |status| sleeps(&status));
    }
    all
}

/// What each thread has used since `before`.
pub(super) fn since(before: &BTreeMap<String, Thread>) -> BTreeMap<String, Thread> {
    let mut now = threads();
    for (name, thread) in &mut now {
        let before = before.get(name).copied().unwrap_or_default();
        thread.ns = thread.ns.saturating_sub(before.ns);
        thread.sleeps = thread.sleeps.saturating_sub(before.sleeps);
    }
    now
}

/// Nanoseconds for which a process has run, all its threads together.
pub(super) fn process_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).ok();
    tasks.flatten().filter_map(stat).map(|stat| first_number(&stat)).sum()
}

/// Times that the threads of a process gave up their processors to sleep.
pub(super) fn process_sleeps(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    tasks.flatten().filter_map(status).map(|status| sleeps(&status)).sum()
}

fn sleeps(status: &str) -> u64 {
    let mut lines = status.lines();
    let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.map_or(0, first_number)
}

/// The load average of the last minute.
pub(super) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_run() {
        assert!(process_ns(std::process::id()) > 0);
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(process_sleeps(std::process::id()) > 0);
        assert!(since(&BTreeMap::new()).values().any(|thread| thread.ns > 0));
        assert_eq!((first_number("12 3"), first_number("x")), (12, 0));
    }
}
