//! The log text ring. The VMM looks into it when somebody asks, or when the domain has failed: it is
//! not told of new text, which would be an exit, at times in the middle of a takeover.

use core::fmt;
use core::sync::atomic::Ordering;

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

/// Adds a line.
pub fn line(memory: &DomainMemory<'_>, text: fmt::Arguments<'_>) {
    // The writer above never fails, and a formatter that does costs a line of log.
    let _ = fmt::write(&mut Log(memory), text);
    let _ = fmt::Write::write_str(&mut Log(memory), "\n");
}
