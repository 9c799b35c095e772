//! A set of application guests, by number.

use shared_ring::layout::MAX_GUESTS;

/// A set of guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestSet(u8);

const _: () = assert!(MAX_GUESTS <= u8::BITS as usize);

impl GuestSet {
    pub(crate) const NONE: Self = Self(0);

    /// The first `count` guests.
    pub(crate) fn first(count: usize) -> Self {
        Self((1u16 << count).wrapping_sub(1) as u8)
    }

    pub(crate) fn of(guest: usize) -> Self {
        Self(1 << guest)
    }

    pub(crate) fn contains(self, guest: usize) -> bool {
        self.0 >> guest & 1 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn each(self) -> impl Iterator<Item = usize> {
        (0..MAX_GUESTS).filter(move |guest| self.contains(*guest))
    }
}
