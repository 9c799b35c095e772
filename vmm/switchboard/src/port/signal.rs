//! Signalling an eventfd that a front-end holds too.
//!
//! A write to a full eventfd waits, unless `O_NONBLOCK` is set; but that flag belongs to the open
//! file description, which the front-end shares: it can fill the eventfd and clear the flag, and
//! the switchboard would wait for it for ever. The kernel's own way to signal an eventfd never
//! waits, and can be used without a guest or a device: an asynchronous read that completes
//! notifies one (io_submit(2), `IOCB_FLAG_RESFD`). So a call is an empty read of an empty file.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::OnceLock;

/// `struct iocb` of linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

/// `IOCB_CMD_PREAD`.
const READ: u16 = 0;
/// `IOCB_FLAG_RESFD`: notify `event` at completion.
const NOTIFY: u32 = 1;

/// Completions that the kernel keeps until they are fetched; they are, when there is no more room.
const COMPLETIONS: usize = 256;
/// `struct io_event`, four words.
type Completion = [u64; 4];

/// An asynchronous context and the file it reads.
struct Signaller {
    context: libc::c_ulong,
    empty: File,
}

impl Signaller {
    /// One for the process; `None` where the system has no asynchronous I/O.
    fn get() -> Option<&'static Self> {
        static SIGNALLER: OnceLock<Option<Signaller>> = OnceLock::new();
        SIGNALLER.get_or_init(Self::new).as_ref()
    }

    fn new() -> Option<Self> {
        // SAFETY: a C string; the result is checked, and the fresh descriptor has one owner.
        let empty = unsafe {
            let fd = libc::memfd_create(c"empty".as_ptr(), libc::MFD_CLOEXEC);
            (fd >= 0).then(|| File::from_raw_fd(fd))?
        };
        let mut context: libc::c_ulong = 0;
        // SAFETY: the context is a place to write to, zero as it must be.
        let failed =
            unsafe { libc::syscall(libc::SYS_io_setup, COMPLETIONS, &raw mut context) } != 0;
        (!failed).then_some(Self { context, empty })
    }

    /// Notifies an eventfd. Returns false if the kernel has no room for the request.
    fn notify(&self, event: RawFd) -> bool {
        let request = Request {
            opcode: READ,
            file: self.empty.as_raw_fd() as u32,
            flags: NOTIFY,
            event: event as u32,
            ..Request::default()
        };
        let list = [&raw const request];
        // SAFETY: one request in the list, both of which outlive the call; it reads zero bytes, so
        // that no buffer is touched. The read of a memfd is complete when the call returns.
        unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_ptr()) == 1 }
    }

    /// Throws completions away, to make room.
    fn fetch(&self) {
        let mut events = [Completion::default(); COMPLETIONS];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: room for as many events as said; the call is thread-safe, and waits for none.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0,
                events.len(),
                events.as_mut_ptr(),
                &raw const now,
            )
        };
    }
}

/// Prepares signalling, so that nothing of it is left for the first call.
pub(super) fn prepare() {
    let _ = Signaller::get();
}

/// Adds one to an eventfd's counter, or leaves it if it is full. Never waits.
pub(super) fn signal(event: RawFd) {
    match Signaller::get() {
        Some(signaller) => {
            if !signaller.notify(event) {
                signaller.fetch();
                signaller.notify(event);
            }
        }
        None => write_if_ready(event),
    }
}

/// The second best way: it can be made to wait only by a front-end that fills the eventfd between
/// the look and the write.
fn write_if_ready(event: RawFd) {
    let mut entry = libc::pollfd { fd: event, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry and eight bytes, which outlive the calls.
    unsafe {
        if libc::poll(&raw mut entry, 1, 0) == 1 && entry.revents & libc::POLLOUT != 0 {
            libc::write(event, std::ptr::from_ref(&1u64).cast(), 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::eventfd::EventFd;

    #[test]
    fn more_signals_than_completions_are_all_counted() {
        let event = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let count = 3 * COMPLETIONS as u64 + 5;
        (0..count).for_each(|_| signal(event.as_raw_fd()));
        assert_eq!(event.read().unwrap(), count);
        write_if_ready(event.as_raw_fd());
        assert_eq!(event.read().unwrap(), 1);
    }

    #[test]
    fn a_full_blocking_eventfd_holds_nobody_up() {
        let event = EventFd::new(0).unwrap();
        event.write(u64::MAX - 1).unwrap();
        signal(event.as_raw_fd());
        write_if_ready(event.as_raw_fd());
    }

    #[test]
    fn what_is_no_eventfd_is_no_harm() {
        signal(-1);
        signal(File::open("/dev/null").unwrap().as_raw_fd());
    }

    /// `cargo test --release cost_of_a_signal -- --ignored --nocapture`
    #[test]
    #[ignore = "prints a figure"]
    fn cost_of_a_signal() {
        let event = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        for (name, signal) in [("aio", signal as fn(RawFd)), ("poll and write", write_if_ready)] {
            let start = std::time::Instant::now();
            (0..100_000).for_each(|_| signal(event.as_raw_fd()));
            println!("{name}: {} ns", start.elapsed().as_nanos() / 100_000);
            event.read().unwrap();
        }
    }
}
