//! What an image needs to run without an operating system.
//!
//! The VMM starts a domain at `_start`, at CPL 3, on a stack of its own, with no arguments: the
//! memory map is constant. There is no way back; a domain ends by the PANIC call.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use shared_ring::StatusPage;
use shared_ring::hypercall::PanicCode;
use shared_ring::status::PANIC_TEXT_BYTES;

use crate::bar::MappedBar;
use crate::domain::check_control;
use crate::error::DomainError;
use crate::hypercalls::{HypercallPage, Hypercalls};
use crate::memory::DomainMemory;
use crate::serve;
use crate::symbols::ImageDomain;

#[cfg(feature = "image")]
mod bare;

/// Collects text for the status page.
struct PanicText {
    bytes: [u8; PANIC_TEXT_BYTES],
    len: usize,
}

impl Write for PanicText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        Ok(())
    }
}

/// Puts a text into the status page, cut where there is no more room.
pub fn write_panic_text(status: &StatusPage, text: fmt::Arguments<'_>) {
    let mut panic = PanicText { bytes: [0; PANIC_TEXT_BYTES], len: 0 };
    // The writer never fails; a formatter that does leaves what it had written.
    let _ = panic.write_fmt(text);
    for (cell, bytes) in status.panic_text.iter().zip(panic.bytes.as_chunks::<8>().0) {
        cell.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    status.panic_len.store(panic.len as u32, Ordering::Release);
}

/// Starts this domain: checks the control page, attaches, holds while it is a standby.
///
/// # Errors
/// The domain cannot go on.
///
/// # Safety
/// Once, from the entry of a domain image.
pub unsafe fn start() -> Result<ImageDomain, DomainError> {
    // SAFETY: in a domain, as the caller promises; the memory of the rings is that of the layout,
    // which the VMM zeroed before it started us.
    unsafe {
        let memory = DomainMemory::of_this_domain();
        let clock = check_control(&memory)?;
        serve::start(memory, MappedBar::new(), HypercallPage::new(), &clock)
    }
}

/// Ends this domain: tells the VMM why, and never runs again.
///
/// # Safety
/// In a domain image.
pub unsafe fn give_up(code: PanicCode, text: fmt::Arguments<'_>) -> ! {
    // SAFETY: in a domain, as the caller promises.
    let (status, calls) = unsafe { (DomainMemory::of_this_domain().status, HypercallPage::new()) };
    write_panic_text(status, text);
    loop {
        calls.panic(code);
        // The VMM does not come back from a panic call; should it, sleep rather than burn its CPU.
        calls.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestMemory;
    use shared_ring::Role;

    fn text_of(status: &StatusPage) -> Vec<u8> {
        let words = status.panic_text.iter().map(|word| word.load(Ordering::Relaxed));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(status.panic_len.load(Ordering::Relaxed) as usize);
        bytes
    }

    #[test]
    fn a_panic_text_is_kept_and_cut_to_its_room() {
        let memory = TestMemory::new(Role::Active);
        let status = memory.domain.status;
        write_panic_text(status, format_args!("{}", DomainError::NicGone));
        assert_eq!(text_of(status), b"NIC reads all ones");
        write_panic_text(status, format_args!("{:1000}", "x"));
        assert_eq!(text_of(status).len(), PANIC_TEXT_BYTES);
        assert_eq!(text_of(status)[0], b'x');
    }
}
