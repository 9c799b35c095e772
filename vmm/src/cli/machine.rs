//! What `run` asks of the machine before and after the start: open files, memory that stays in RAM,
//! time for real-time threads.

use super::exit::Failure;
use nic::discovery::Host;
use operate::control::descriptors;
use platform::{process_limits, realtime};
use supervisor::topology::Topology;

/// Where the kernel says how much of each period real-time threads may run.
const RT_RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
/// Where it says how long a period is.
const RT_PERIOD: &str = "/proc/sys/kernel/sched_rt_period_us";

/// Raises the limit of open files, and refuses to start with too few of them for this topology: a
/// failed domain could not be built anew.
pub(super) fn check_open_files(topology: &Topology) -> Result<(), Failure> {
    let Ok(limit) = process_limits::raise_open_files() else { return Ok(()) };
    let need = descriptors::needed(topology);
    match limit < need {
        true => Err(Failure::Mistake(format!(
            "this topology needs {need} open files, and the limit is {limit}: raise it with `ulimit -n \
             {need}`, or in the unit with LimitNOFILE="
        ))),
        false => Ok(()),
    }
}

/// Keeps the memory of the failover in RAM, or says why not. Called when everything is built and no
/// guest is connected yet.
pub(super) fn lock_memory() {
    // With a limit, what is locked here could be missing where a NIC's memory must be locked later.
    let locked = match Host::default().memlock_limit_kib() {
        Some(limit_kib) => Err(format!("the limit of locked memory is {limit_kib} KiB")),
        None => process_limits::lock_memory().map_err(|error| error.to_string()),
    };
    if let Err(why) = locked {
        tracing::warn!(
            "memory is not locked ({why}; needs CAP_IPC_LOCK or LimitMEMLOCK=infinity): while the \
             machine is short of memory, a failover can wait for its disk"
        );
    }
}

/// Says if the kernel may stop the threads of the failover path although they have work.
pub(super) fn check_realtime_share() {
    let number = |path| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let (Some(runtime_us), Some(period_us)) = (number(RT_RUNTIME), number(RT_PERIOD)) else {
        return;
    };
    if let Some(why) = realtime_share(runtime_us, period_us)
        && realtime::is_realtime()
    {
        tracing::warn!("{why}");
    }
}

/// What these settings mean for threads under real-time scheduling, if they restrict them. A negative
/// runtime means that there is no limit.
fn realtime_share(runtime_us: i64, period_us: i64) -> Option<String> {
    if runtime_us < 0 || runtime_us >= period_us {
        return None;
    }
    let stopped_ms = (period_us - runtime_us) / 1000;
    Some(format!(
        "kernel.sched_rt_runtime_us is {runtime_us}: if a guest keeps a real-time thread busy without \
         a pause, the kernel may stop such threads for {stopped_ms} ms in every {} ms; `sysctl \
         kernel.sched_rt_runtime_us=-1` lifts that",
        period_us / 1000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_share_below_the_whole_is_told() {
        assert_eq!(realtime_share(-1, 1_000_000), None);
        assert_eq!(realtime_share(1_000_000, 1_000_000), None);
        let told = realtime_share(950_000, 1_000_000).unwrap();
        assert!(told.contains("for 50 ms in every 1000 ms"), "{told}");
    }
}
