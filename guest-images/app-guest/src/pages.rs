//! The two pages beside the virtqueues: what the VMM tells the guest, and what the guest reports.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// First word of a [`ControlPage`], "WSAP" in memory.
pub const CONTROL_MAGIC: u32 = u32::from_le_bytes(*b"WSAP");

/// Raised with every change to a shape in this crate.
pub const VERSION: u32 = 1;

/// Argument of WAIT: park without a deadline. Any other value is microseconds.
pub const WAIT_FOREVER: u32 = 0;

/// Bytes of [`StatusPage::text`].
pub const TEXT_BYTES: usize = 256;

/// Shape of the page at [`crate::layout::CONTROL_BASE`]: the VMM writes it before the guest starts.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct ControlPage {
    /// [`CONTROL_MAGIC`].
    pub magic: AtomicU32,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// Ticks of the time stamp counter in a millisecond.
    pub tsc_khz: AtomicU64,
    /// IPv4 address, first byte highest. The MAC address comes from the device, as it should.
    pub ipv4: AtomicU32,
    /// Length of the network prefix, 0 to 32.
    pub prefix_len: AtomicU32,
    /// UDP port that echoes.
    pub udp_port: AtomicU32,
}

/// Counters of the guest, running. Nothing is decided by them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Counters {
    /// Frames taken from the receive queue.
    pub frames_in: AtomicU64,
    /// Frames put into the transmit queue.
    pub frames_out: AtomicU64,
    /// Datagrams echoed.
    pub datagrams_echoed: AtomicU64,
    /// Datagrams not echoed: no room, or from an echo port.
    pub datagrams_dropped: AtomicU64,
    /// Stores to QueueNotify.
    pub notifies: AtomicU64,
    /// WAIT calls.
    pub parks: AtomicU64,
}

/// Shape of the page at [`crate::layout::STATUS_BASE`]. All-zero memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct StatusPage {
    /// Counters.
    pub counters: Counters,
    /// Virtio features in use.
    pub features: AtomicU64,
    /// Bytes of `text` that are valid.
    pub text_len: AtomicU32,
    /// Text of the LOG or PANIC call that follows, UTF-8; words, little-endian.
    pub text: [AtomicU64; TEXT_BYTES / 8],
}

const _: () = {
    assert!(core::mem::offset_of!(ControlPage, ipv4) == 16);
    assert!(size_of::<ControlPage>() == 64);
    assert!(core::mem::offset_of!(StatusPage, features) == 48);
    assert!(size_of::<StatusPage>() <= crate::layout::PAGE_BYTES as usize);
};

/// What the guest is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Ticks of the time stamp counter in a millisecond, not zero.
    pub tsc_khz: u64,
    /// IPv4 address.
    pub ipv4: [u8; 4],
    /// Length of the network prefix, 0 to 32.
    pub prefix_len: u8,
    /// UDP port that echoes, not zero.
    pub udp_port: u16,
}

impl ControlPage {
    /// Writes the page.
    pub fn write(&self, settings: &Settings) {
        self.tsc_khz.store(settings.tsc_khz, Ordering::Relaxed);
        self.ipv4.store(u32::from_be_bytes(settings.ipv4), Ordering::Relaxed);
        self.prefix_len.store(settings.prefix_len.into(), Ordering::Relaxed);
        self.udp_port.store(settings.udp_port.into(), Ordering::Relaxed);
        self.version.store(VERSION, Ordering::Relaxed);
        self.magic.store(CONTROL_MAGIC, Ordering::Release);
    }

    /// Reads the page; `None` if it is of another version or says something impossible.
    pub fn read(&self) -> Option<Settings> {
        let magic = self.magic.load(Ordering::Acquire);
        let version = self.version.load(Ordering::Relaxed);
        let settings = Settings {
            tsc_khz: self.tsc_khz.load(Ordering::Relaxed),
            ipv4: self.ipv4.load(Ordering::Relaxed).to_be_bytes(),
            prefix_len: u8::try_from(self.prefix_len.load(Ordering::Relaxed)).ok()?,
            udp_port: u16::try_from(self.udp_port.load(Ordering::Relaxed)).ok()?,
        };
        let possible = settings.tsc_khz > 0 && settings.prefix_len <= 32 && settings.udp_port > 0;
        (magic == CONTROL_MAGIC && version == VERSION && possible).then_some(settings)
    }
}

impl StatusPage {
    /// Replaces the text; what does not fit is cut off.
    pub fn set_text(&self, text: &[u8]) {
        let len = text.len().min(TEXT_BYTES);
        for (word, bytes) in self.text.iter().zip(text[..len].chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        self.text_len.store(len as u32, Ordering::Release);
    }

    /// The text as bytes, and how many of them are valid, whatever the guest claims.
    pub fn text(&self) -> ([u8; TEXT_BYTES], usize) {
        let len = (self.text_len.load(Ordering::Acquire) as usize).min(TEXT_BYTES);
        let mut text = [0; TEXT_BYTES];
        for (word, bytes) in self.text.iter().zip(text.chunks_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        (text, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { tsc_khz: 2_500_000, ipv4: [10, 0, 0, 2], prefix_len: 24, udp_port: 7 };

    #[test]
    fn settings_survive_the_control_page() {
        let page = ControlPage::default();
        assert_eq!(page.read(), None, "an empty page is no control page");
        page.write(&SETTINGS);
        assert_eq!(page.read(), Some(SETTINGS));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let page = ControlPage::default();
        page.write(&SETTINGS);
        page.prefix_len.store(33, Ordering::Relaxed);
        assert_eq!(page.read(), None);
        page.write(&SETTINGS);
        page.version.store(VERSION + 1, Ordering::Relaxed);
        assert_eq!(page.read(), None);
    }

    #[test]
    fn a_lying_text_length_is_cut() {
        let page = StatusPage {
            counters: Counters::default(),
            features: AtomicU64::new(0),
            text_len: AtomicU32::new(0),
            text: [const { AtomicU64::new(0) }; TEXT_BYTES / 8],
        };
        page.set_text(b"hello, world");
        let (text, len) = page.text();
        assert_eq!(&text[..len], b"hello, world");
        page.text_len.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(page.text().1, TEXT_BYTES);
    }
}
