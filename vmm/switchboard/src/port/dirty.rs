//! Marks of written pages, for a front-end that moves its guest elsewhere while it runs
//! (vhost-user document, "Migration").
//!
//! The log is memory of the front-end's: bit *n* of it stands for the guest-physical addresses from
//! 4096 *n* on. A page is marked after it was written, so that whoever clears a bit and then reads
//! the page has either what was written, or a mark that comes later. Nothing is marked on the way
//! of a frame unless a front-end asked for it, and then by one atomic instruction a page.
//!
//! That the log covers all of the guest's addresses is the front-end's duty. Where it does not, a
//! mark is dropped: there is no place for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::doorbell::Call;
use super::foreign::Foreign;
use super::memory::{GuestMemoryError, MappedRegion, RegionSpec};
use super::scatter::Segment;

/// Bytes of guest memory that one bit stands for (`VHOST_LOG_PAGE`).
const PAGE_BYTES: u64 = 4096;
/// Pages that one byte of the log stands for.
const PAGES: u64 = 8;

/// A front-end's log, mapped.
#[derive(Debug)]
pub(crate) struct DirtyLog {
    region: MappedRegion,
}

impl DirtyLog {
    /// Maps a log of `bytes` bytes at an offset in a file, which must be memory as a guest's is.
    ///
    /// # Errors
    /// See [`GuestMemoryError`].
    pub(crate) fn map(
        bytes: u64,
        file_offset: u64,
        file: &Foreign,
    ) -> Result<Self, GuestMemoryError> {
        let spec = RegionSpec { guest_address: 0, bytes, user_address: 0, file_offset };
        Ok(Self { region: MappedRegion::map(spec, file)? })
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.region.spec().bytes
    }

    /// Guest-physical address at which it ends.
    pub(crate) fn end(&self) -> u64 {
        self.region.spec().bytes.saturating_mul(PAGES * PAGE_BYTES)
    }

    /// Returns true if its file has become shorter, as far as marks have shown.
    pub(crate) fn is_truncated(&self) -> bool {
        self.region.is_truncated()
    }

    /// Marks the pages of some bytes that were written, as far as the log goes.
    pub(crate) fn mark(&self, address: u64, bytes: u64) {
        let Some(more) = bytes.checked_sub(1) else { return };
        let first = address / PAGE_BYTES;
        let last = address.saturating_add(more) / PAGE_BYTES;
        let log = self.region.bytes();
        let (from, to) = (first / PAGES, last / PAGES);
        for place in from..=to.min(log.len() as u64 - 1) {
            let low = if place == from { 0xff << (first % PAGES) } else { 0xff };
            let high = if place == to { 0xff >> (PAGES - 1 - last % PAGES) } else { 0xff };
            // Release: who takes the bit sees what was written before it. Never left out for a bit
            // that is set already: it may be taken before the write is seen.
            log[place as usize].fetch_or(low & high, Ordering::Release);
        }
    }
}

/// Which of a virtqueue's writes are marked, and where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// For received frames: `VHOST_F_LOG_ALL` is set.
    pub(crate) frames: Option<Arc<DirtyLog>>,
    /// For the used ring, with the address that its first byte has in the log:
    /// `VHOST_VRING_F_LOG` is set.
    pub(crate) used: Option<(Arc<DirtyLog>, u64)>,
    /// Signalled after marks (SET_LOG_FD).
    pub(crate) call: Call,
}

impl Marks {
    /// Marks the first `bytes` bytes of the segments.
    pub(crate) fn frame(&self, segments: &[Segment], bytes: usize) {
        let Some(log) = &self.frames else { return };
        let mut left = bytes;
        for segment in segments {
            let here = segment.len.min(left);
            log.mark(segment.address, here as u64);
            left -= here;
        }
    }

    /// Marks bytes of the used ring, from its first on.
    pub(crate) fn used(&self, offset: u64, bytes: u64) {
        if let Some((log, base)) = &self.used {
            log.mark(base.saturating_add(offset), bytes);
        }
    }

    /// Tells the front-end, if it wants to be told, that there may be new marks.
    pub(crate) fn tell(&self) {
        if self.frames.is_some() || self.used.is_some() {
            self.call.signal();
        }
    }

    /// Returns true if a log was truncated.
    pub(crate) fn is_truncated(&self) -> bool {
        let logs = [self.frames.as_ref(), self.used.as_ref().map(|(log, _)| log)];
        logs.into_iter().flatten().any(|log| log.is_truncated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{foreign, marked_pages, memfd};
    use std::fs::File;

    fn log(bytes: u64) -> (DirtyLog, File) {
        let file = memfd(bytes);
        (DirtyLog::map(bytes, 0, &foreign(&file)).unwrap(), file)
    }

    #[test]
    fn every_page_that_is_touched_is_marked_and_no_other() {
        let (log, file) = log(8);
        let marked = |address, bytes| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; 8], 0).unwrap();
            log.mark(address, bytes);
            marked_pages(&file)
        };
        assert_eq!(marked(0, 1), [0]);
        assert_eq!(marked(4095, 1), [0]);
        assert_eq!(marked(4095, 2), [0, 1]);
        assert_eq!(marked(7 * 4096, 4097), [7, 8]);
        assert_eq!(marked(9 * 4096, 3 * 4096), [9, 10, 11]);
        assert_eq!(marked(6 * 4096, 11 * 4096), (6..17).collect::<Vec<_>>());
        assert_eq!(marked(5, 0), [0; 0]);
        assert_eq!(marked(63 * 4096 + 4095, 1), [63]);
    }

    #[test]
    fn marks_beyond_the_log_are_dropped_and_those_before_its_end_are_not() {
        let (log, file) = log(2);
        log.mark(16 * 4096, 4096);
        log.mark(u64::MAX, 1);
        log.mark(u64::MAX - 4096, u64::MAX);
        assert_eq!(marked_pages(&file), [0; 0]);
        log.mark(14 * 4096, 8 * 4096);
        assert_eq!(marked_pages(&file), [14, 15]);
        assert_eq!(log.end(), 16 * 4096);
    }

    #[test]
    fn bits_that_others_set_stay() {
        let (log, file) = log(1);
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x81], 0).unwrap();
        log.mark(4096, 1);
        assert_eq!(marked_pages(&file), [0, 1, 7]);
    }

    #[test]
    fn a_log_may_begin_anywhere_in_its_file() {
        let file = memfd(3 * 4096);
        let log = DirtyLog::map(16, 4096 + 100, &foreign(&file)).unwrap();
        log.mark(0, 1);
        log.mark(127 * 4096, 4096);
        assert_eq!(marked_pages(&file), [8 * (4096 + 100), 8 * (4096 + 100) + 127]);
    }

    #[test]
    fn only_memory_that_is_there_can_be_a_log() {
        use GuestMemoryError as E;
        let file = memfd(4096);
        let map = |bytes, offset| DirtyLog::map(bytes, offset, &foreign(&file));
        assert!(matches!(map(0, 0), Err(E::Impossible(_))));
        assert!(matches!(map(8, u64::MAX), Err(E::Impossible(_))));
        assert!(matches!(map(u64::MAX, 0), Err(E::LargerThanFile { .. })));
        assert!(matches!(map(4097, 0), Err(E::LargerThanFile { .. })));
        assert!(matches!(map(8, 4096), Err(E::LargerThanFile { .. })));
        assert!(matches!(map(8, 1 << 62), Err(E::LargerThanFile { .. })));
        for path in ["/dev/zero", "/proc/self/exe", "/proc/self"] {
            let refused = DirtyLog::map(8, 0, &File::open(path).unwrap().into());
            assert!(matches!(refused, Err(E::NotMemory)), "{path}");
        }
    }

    #[test]
    fn a_log_that_is_truncated_costs_its_marks_and_shows() {
        let (log, file) = log(2 * 4096);
        file.set_len(0).unwrap();
        assert!(!log.is_truncated());
        log.mark(0, 4096);
        log.mark(4096 * PAGES * PAGE_BYTES, 1);
        assert!(log.is_truncated());
    }
}
