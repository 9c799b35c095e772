//! Limits of this process: open files, memory that stays in RAM, and memory that goes back.

use std::io;

/// Raises the limit of open files as far as is allowed, and returns it.
///
/// # Errors
/// The operating system does not tell it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives the call, which writes one `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` outlives the call, which only reads it.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } {
        0 => Ok(limit.rlim_max),
        _ => Ok(limit.rlim_cur),
    }
}

/// Keeps in RAM what this process has mapped by now, each page from its first use on.
///
/// What is mapped later is not kept: the memory of guests is theirs to lock. Pages that are not used
/// yet are not read in, so that the unused rest of each stack costs nothing.
///
/// # Errors
/// The operating system refuses it.
pub fn lock_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_ONFAULT;
    // SAFETY: locking changes no content of any memory.
    match unsafe { libc::mlockall(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks of this size and more, bytes, go back to the operating system when they are freed.
const LARGE_BYTES: i32 = 128 << 10;

/// Has each large block mapped by itself, so that it goes back when it is freed.
///
/// By default the GNU allocator takes the first large block that is freed as a sign that they come
/// and go, and from then on puts them where small ones pin them: a process that reads a driver image
/// of 700 KiB for each upgrade grows by that.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call changes a setting of the allocator, under its own lock.
    unsafe {
        // It fails for sizes that are out of bounds only.
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_once_and_for_all() {
        let raised = raise_open_files().unwrap();
        assert!(raised >= 64, "{raised}");
        assert_eq!(raise_open_files().unwrap(), raised);
    }
}
