//! What each buffer of the transmit pool is for.
//!
//! | buffers | for |
//! |---|---|
//! | `0..FIRST_RESERVED` | the guests' frames |
//! | [`ANNOUNCE_BUFFERS`] from there | announcements |
//! | [`QUESTION_BUFFER`], [`ANSWER_BUFFER`] | drills |

use shared_ring::layout::TX_BUFFERS;

/// Buffers for announcements: twenty go out in a millisecond, and some are still unconfirmed when
/// the next repetition is due.
pub(crate) const ANNOUNCE_BUFFERS: usize = 68;
/// First buffer that is not for the guests' frames, and the first one for announcements.
pub(crate) const FIRST_RESERVED: u16 = (TX_BUFFERS - ANNOUNCE_BUFFERS - 2) as u16;
/// The frame that a drilled standby sends.
pub const QUESTION_BUFFER: u16 = TX_BUFFERS as u16 - 2;
/// The frame by which the serving domain answers it.
pub(crate) const ANSWER_BUFFER: u16 = TX_BUFFERS as u16 - 1;

/// Returns true if a buffer is for the guests' frames.
#[inline]
pub(crate) fn is_for_guests(number: u16) -> bool {
    number < FIRST_RESERVED
}
