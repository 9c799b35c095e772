//! Calls to the operating system that the standard library does not offer: ending a child with all
//! that it started, the processors of this process, and a sleep until a moment.

use std::io;
use std::process::Child;

/// Sends SIGKILL to the process group that this child leads.
///
/// The child must have been started with `CommandExt::process_group(0)`, and must not have been
/// waited for successfully: from then on its number can belong to another process.
///
/// # Errors
/// The child leads no group, or this process may not signal it.
pub fn kill_group(child: &mut Child) -> io::Result<()> {
    let group = i32::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: a plain system call, which touches no memory of this process.
    let result = unsafe { libc::kill(-group, libc::SIGKILL) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The processors that this process may use, as the kernel numbers them.
pub fn allowed_processors() -> Vec<usize> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is a valid one, and the kernel writes at most the size that is given.
    let set = unsafe {
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the number is below `CPU_SETSIZE`, so it lies within the set.
    let allowed = |processor: &usize| unsafe { libc::CPU_ISSET(*processor, &set) };
    (0..libc::CPU_SETSIZE as usize).filter(allowed).collect()
}

/// Sleeps until `CLOCK_MONOTONIC` shows `at_ns` nanoseconds. A signal can end the sleep early.
pub fn sleep_until(at_ns: u64) {
    let at = libc::timespec {
        tv_sec: (at_ns / 1_000_000_000) as i64,
        tv_nsec: (at_ns % 1_000_000_000) as i64,
    };
    // SAFETY: `at` outlives the call, and no remainder is written with an absolute time.
    unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &at, std::ptr::null_mut())
    };
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::clock::monotonic_ns;

    #[test]
    fn a_group_ends_with_all_its_processes() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        kill_group(&mut child).unwrap();
        assert!(!child.wait().unwrap().success());
        // The pipe ends when no process of the group holds it any more.
        let mut rest = Vec::new();
        io::Read::read_to_end(&mut output, &mut rest).unwrap();
    }

    #[test]
    fn this_thread_runs_on_a_processor_that_is_allowed() {
        assert!(!allowed_processors().is_empty());
    }

    #[test]
    fn a_sleep_does_not_end_before_its_time() {
        let due_ns = monotonic_ns() + 2_000_000;
        sleep_until(due_ns);
        assert!(monotonic_ns() >= due_ns);
    }
}
