//! Loopback in the MAC or in the PHY (i210 datasheet §3.7.6): what is sent comes back and is
//! received, nothing reaches the cable, and nothing from there is taken. Both counters of good frames
//! go on as if all were well.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Frames that may be under way. Only the engine puts and takes, in turns of fewer.
const MOST_FRAMES: usize = 64;

/// Frames that were sent and not yet received again. They are rare: a driver gone wrong has set a bit.
#[derive(Debug, Default)]
pub(super) struct Loopback(Mutex<VecDeque<Vec<u8>>>);

impl Loopback {
    /// Sends a frame; one for which there is no room is lost.
    pub(super) fn put(&self, frame: &[u8]) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.len() < MOST_FRAMES {
            frames.push_back(frame.to_vec());
        }
    }

    /// Takes the oldest frame: its length, the bytes in `into`.
    pub(super) fn take(&self, into: &mut [u8]) -> Option<usize> {
        let frame = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        into[..frame.len()].copy_from_slice(&frame);
        Some(frame.len())
    }
}
