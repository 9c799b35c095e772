//! A bounded queue of frames in one block of bytes.

/// Bytes that say how long the frame behind them is.
const LENGTH_BYTES: usize = 2;

/// Frames one behind the other, each with its length before it, in a ring of bytes. All storage is
/// there from the start; short frames take little of it.
#[derive(Debug)]
pub(super) struct FrameRing {
    bytes: Box<[u8]>,
    /// Where the oldest frame starts.
    start: usize,
    used_bytes: usize,
    frames: usize,
    most_frames: usize,
}

/// There is no room for another frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl FrameRing {
    pub(super) fn new(bytes: usize, most_frames: usize) -> Self {
        Self {
            bytes: vec![0; bytes].into_boxed_slice(),
            start: 0,
            used_bytes: 0,
            frames: 0,
            most_frames,
        }
    }

    /// Appends a frame, and says whether the ring was empty before. Frames of more than
    /// `u16::MAX` bytes find no room.
    pub(super) fn push(&mut self, frame: &[u8]) -> Result<bool, Full> {
        let length = u16::try_from(frame.len()).map_err(|_| Full)?;
        let needed = LENGTH_BYTES + frame.len();
        if self.frames == self.most_frames || self.bytes.len() - self.used_bytes < needed {
            return Err(Full);
        }
        let was_empty = self.frames == 0;
        if was_empty {
            // The same few pages again and again, as long as the receiver keeps up.
            self.start = 0;
        }
        self.copy_in(self.used_bytes, &length.to_le_bytes());
        self.copy_in(self.used_bytes + LENGTH_BYTES, frame);
        self.used_bytes += needed;
        self.frames += 1;
        Ok(was_empty)
    }

    /// Takes the oldest frame. What of it does not fit `into` is cut off.
    pub(super) fn pop(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.frames == 0 {
            return None;
        }
        let mut length = [0; LENGTH_BYTES];
        self.copy_out(0, &mut length);
        let length = usize::from(u16::from_le_bytes(length));
        let kept = length.min(into.len());
        self.copy_out(LENGTH_BYTES, &mut into[..kept]);
        self.start = (self.start + LENGTH_BYTES + length) % self.bytes.len();
        self.used_bytes -= LENGTH_BYTES + length;
        self.frames -= 1;
        Some(kept)
    }

    /// Forgets all frames, and says how many there were.
    pub(super) fn clear(&mut self) -> usize {
        self.start = 0;
        self.used_bytes = 0;
        std::mem::take(&mut self.frames)
    }

    /// Splits `len` bytes from `offset` behind the start: how many lie before the wrap, and where.
    fn split(&self, offset: usize, len: usize) -> (usize, usize) {
        let at = (self.start + offset) % self.bytes.len();
        (at, len.min(self.bytes.len() - at))
    }

    fn copy_in(&mut self, offset: usize, from: &[u8]) {
        let (at, before_wrap) = self.split(offset, from.len());
        self.bytes[at..at + before_wrap].copy_from_slice(&from[..before_wrap]);
        self.bytes[..from.len() - before_wrap].copy_from_slice(&from[before_wrap..]);
    }

    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let (at, before_wrap) = self.split(offset, to.len());
        let (first, rest) = to.split_at_mut(before_wrap);
        first.copy_from_slice(&self.bytes[at..at + before_wrap]);
        rest.copy_from_slice(&self.bytes[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_first_frame_finds_the_ring_empty() {
        let mut ring = FrameRing::new(64, 4);
        assert_eq!(ring.push(&[1; 10]), Ok(true));
        assert_eq!(ring.push(&[2; 10]), Ok(false));
        assert_eq!(ring.clear(), 2);
        assert_eq!(ring.push(&[3; 10]), Ok(true));
    }

    #[test]
    fn bytes_and_frames_are_bounded() {
        let mut ring = FrameRing::new(24, 3);
        assert_eq!(ring.push(&[0; 23]), Err(Full));
        assert_eq!(ring.push(&[0; 22]), Ok(true));
        assert_eq!(ring.push(&[]), Err(Full));
        ring.clear();
        for _ in 0..3 {
            ring.push(&[1]).unwrap();
        }
        assert_eq!(ring.push(&[1]), Err(Full));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            steps in prop::collection::vec(prop::option::of(0_usize..40), 1..200)
        ) {
            let mut ring = FrameRing::new(100, 8);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let mut into = [0; 64];
            for (number, step) in steps.into_iter().enumerate() {
                if let Some(len) = step {
                    let frame: Vec<u8> = (0..len).map(|i| (i * 7 + number) as u8).collect();
                    let used: usize = model.iter().map(|frame| frame.len() + 2).sum();
                    let fits = model.len() < 8 && used + len + 2 <= 100;
                    prop_assert_eq!(ring.push(&frame).is_ok(), fits);
                    if fits {
                        model.push_back(frame);
                    }
                } else {
                    let taken = ring.pop(&mut into).map(|len| into[..len].to_vec());
                    prop_assert_eq!(taken, model.pop_front());
                }
            }
        }
    }
}
