//! Poison frames: kept for the post-mortem, which asks what killed two drivers in a row.

use nic::wire::MAX_FRAME_BYTES;

/// Frames that are kept; the oldest makes room.
const QUARANTINE_FRAMES: usize = 8;

/// A frame that two domains were at when they failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedFrame {
    /// Number of takeovers when it was recognised, that one included.
    pub takeover: u64,
    /// The frame, padded as it was to be sent.
    pub bytes: Vec<u8>,
}

/// A bounded store, allocated at start.
#[derive(Debug)]
pub(crate) struct Quarantine {
    frames: Vec<QuarantinedFrame>,
    next: usize,
}

impl Quarantine {
    pub(crate) fn new() -> Self {
        let empty = || QuarantinedFrame { takeover: 0, bytes: Vec::with_capacity(MAX_FRAME_BYTES) };
        Self { frames: (0..QUARANTINE_FRAMES).map(|_| empty()).collect(), next: 0 }
    }

    /// A place for one more frame, emptied.
    pub(crate) fn next(&mut self, takeover: u64) -> &mut Vec<u8> {
        let index = self.next % QUARANTINE_FRAMES;
        self.next += 1;
        let frame = &mut self.frames[index];
        frame.takeover = takeover;
        frame.bytes.clear();
        &mut frame.bytes
    }

    /// The place that [`Self::next`] gave last.
    pub(crate) fn last(&mut self) -> &mut Vec<u8> {
        let index = self.next.wrapping_sub(1) % QUARANTINE_FRAMES;
        &mut self.frames[index].bytes
    }

    /// Copies of all frames, oldest first.
    pub(crate) fn copy(&self) -> Vec<QuarantinedFrame> {
        let oldest = self.next.saturating_sub(QUARANTINE_FRAMES);
        (oldest..self.next).map(|n| self.frames[n % QUARANTINE_FRAMES].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut quarantine = Quarantine::new();
        for n in 0..QUARANTINE_FRAMES as u64 + 2 {
            quarantine.next(n).push(n as u8);
        }
        let frames = quarantine.copy();
        assert_eq!(frames.len(), QUARANTINE_FRAMES);
        assert_eq!(frames[0], QuarantinedFrame { takeover: 2, bytes: vec![2] });
        assert_eq!(frames[7].takeover, 9);
    }
}
