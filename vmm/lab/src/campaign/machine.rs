//! Properties of the machine and of the sources, for the manifest.

use super::manifest::Machine;

/// This machine.
pub(super) fn this() -> Machine {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu: cpu.map_or_else(String::new, |(_, model)| model.trim().to_owned()),
        processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        kernel: kernel.trim().to_owned(),
        realtime: platform::realtime::is_permitted(),
    }
}

/// The revision of the sources in the current folder, if they are there and `git` is: the program
/// itself knows its version only.
pub(super) fn revision() -> Option<String> {
    let run = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(run.stdout).ok()?;
    (run.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
