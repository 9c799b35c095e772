//! Text that a domain writes: its log ring and its last words. Hostile bytes, made printable.

use std::sync::atomic::Ordering;

use shared_ring::layout::{LOG_BASE, LOG_BYTES};
use shared_ring::status::PANIC_TEXT_BYTES;

use super::slot::DomainSlot;

/// The valid part of the panic text, if there is any.
pub(super) fn panic_text(slot: &DomainSlot) -> Option<String> {
    let status = slot.status();
    let len = (status.panic_len.load(Ordering::Acquire) as usize).min(PANIC_TEXT_BYTES);
    let words = status.panic_text.each_ref().map(|w| w.load(Ordering::Relaxed).to_le_bytes());
    // One line, whatever it says.
    (len > 0).then(|| printable(&words.as_flattened()[..len]).replace('\n', " "))
}

/// What was logged after the first `seen` bytes, and how many bytes there are now. Text that the
/// ring has lost in the meantime is left out.
pub(super) fn log_since(slot: &DomainSlot, seen: u64) -> (String, u64) {
    let written = slot.status().log_written.load(Ordering::Acquire);
    let mut ring = [0; LOG_BYTES as usize];
    // The log lies within every domain's RAM; were it not, there would be nothing to tell.
    if written <= seen || slot.ram.read(LOG_BASE, &mut ring).is_err() {
        return (String::new(), written);
    }
    let count = (written - seen).min(LOG_BYTES) as usize;
    let from = (written - count as u64) % LOG_BYTES;
    ring.rotate_left(from as usize);
    (printable(&ring[..count]), written)
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let steers = |c: char| c.is_control() && c != '\n' || is_bidi(c);
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns true if a character changes the direction of what is printed around it (Unicode UAX 9).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n\xff"), "a\u{fffd}[2Jb\n\u{fffd}");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\u{fffd}b");
    }
}
