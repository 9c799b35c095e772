//! The log text ring. Off the data path only: the call that tells the VMM is an exit.

use core::fmt;
use core::sync::atomic::Ordering;

use crate::hypercalls::Hypercalls;
use crate::memory::DomainMemory;

/// Writes into the ring; the oldest text is overwritten.
pub struct Log<'a, 'm>(pub &'a DomainMemory<'m>);

impl fmt::Write for Log<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let DomainMemory { status, log, .. } = self.0;
        let written = status.log_written.load(Ordering::Relaxed);
        for (at, byte) in (written..).zip(text.bytes()) {
            log[at as usize % log.len()].store(byte, Ordering::Relaxed);
        }
        status.log_written.store(written.wrapping_add(text.len() as u64), Ordering::Release);
        Ok(())
    }
}

/// Adds a line and tells the VMM.
pub fn line(memory: &DomainMemory<'_>, calls: &impl Hypercalls, text: fmt::Arguments<'_>) {
    // The writer above never fails, and a formatter that does costs a line of log.
    let _ = fmt::write(&mut Log(memory), text);
    let _ = fmt::Write::write_str(&mut Log(memory), "\n");
    calls.log();
}
