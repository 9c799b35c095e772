//! What a domain's NIC received against what came of it: the frames that a failed driver made
//! disappear, which nobody else can know of.

use std::sync::atomic::{AtomicU64, Ordering};

/// The received frames of a domain. Written off the data path: when a life begins, ends, or has
/// been drilled.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Frames that the NIC had received and that are none of this life's to publish.
    before: AtomicU64,
    /// Frames of the life that has ended which the switchboard got.
    known: AtomicU64,
    /// See [`Self::vanished`].
    vanished: AtomicU64,
}

impl Accounts {
    /// A life begins; its NIC has received so many frames so far.
    pub fn begin(&self, received: u64) {
        self.before.store(received, Ordering::Relaxed);
    }

    /// The driver has kept so many received frames to itself, as it should: a drill's answers.
    pub fn note_kept(&self, frames: u64) {
        self.before.fetch_add(frames, Ordering::Relaxed);
    }

    /// The switchboard got so many more frames of the life that ends: those that it published, and
    /// those that were found in the NIC's ring.
    pub fn note_known(&self, frames: u64) {
        self.known.fetch_add(frames, Ordering::Relaxed);
    }

    /// A life has ended, its NIC is silent and has received so many frames so far: those that the
    /// switchboard never got have vanished.
    pub fn end(&self, received: u64) {
        let known = self.known.swap(0, Ordering::Relaxed);
        let before = self.before.swap(received, Ordering::Relaxed);
        let vanished = received.saturating_sub(before).saturating_sub(known);
        self.vanished.fetch_add(vanished, Ordering::Relaxed);
    }

    /// Frames that the NIC received for lives which have ended and the switchboard never got: the
    /// driver did not publish them, or what it published was not believed, and they were not found
    /// in the NIC's ring.
    pub fn vanished(&self) -> u64 {
        self.vanished.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_got_has_vanished() {
        let accounts = Accounts::default();
        accounts.begin(100);
        accounts.note_kept(1);
        accounts.note_known(5);
        accounts.note_known(2);
        accounts.end(111);
        assert_eq!(accounts.vanished(), 3);
        accounts.end(111);
        assert_eq!(accounts.vanished(), 3, "a life ends once");
    }
}
