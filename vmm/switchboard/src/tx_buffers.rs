//! What each buffer of the transmit pool is for.
//!
//! | buffers | for |
//! |---|---|
//! | `0..FIRST_RESERVED` | the guests' frames |
//! | [`ANNOUNCE_BUFFERS`] from there | announcements |
//! | [`STATION_BUFFERS`] from [`FIRST_STATION`] | announcements of addresses that guests have beside their own |
//! | [`QUESTION_BUFFER`], [`ANSWER_BUFFER`] | drills |

use shared_ring::layout::TX_BUFFERS;

use crate::limits::ADDRESSES;

/// Announcements that a guest can need: one for each address of both families, and the one without
/// an address.
pub(crate) const ANNOUNCEMENTS_EACH: usize = 2 * ADDRESSES + 1;
/// Buffers for announcements: some are still unconfirmed when the next repetition is due.
pub(crate) const ANNOUNCE_BUFFERS: usize = 4 * ANNOUNCEMENTS_EACH;
/// First buffer that is not for the guests' frames, and the first one for announcements.
pub(crate) const FIRST_RESERVED: u16 = (TX_BUFFERS - ANNOUNCE_BUFFERS - STATION_BUFFERS - 2) as u16;
/// Buffers for announcements of addresses that guests have beside their own: 64 of them take two
/// rounds of confirmations, 2 ms.
pub(crate) const STATION_BUFFERS: usize = 32;
/// The first of them.
pub(crate) const FIRST_STATION: u16 = FIRST_RESERVED + ANNOUNCE_BUFFERS as u16;
/// The frame that a drilled standby sends.
pub const QUESTION_BUFFER: u16 = TX_BUFFERS as u16 - 2;
/// The frame by which the serving domain answers it.
pub(crate) const ANSWER_BUFFER: u16 = TX_BUFFERS as u16 - 1;

/// Returns true if a buffer is for the guests' frames.
#[inline]
pub(crate) fn is_for_guests(number: u16) -> bool {
    number < FIRST_RESERVED
}
