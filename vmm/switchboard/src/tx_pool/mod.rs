//! The common transmit pool.
//!
//! | file | holds |
//! |---|---|
//! | `record` | what is known of a buffer |
//! | `ledger` | whose each buffer is, and in which order frames were posted: plain data |
//! | `memory`, `checksum` | the buffers' bytes |
//! | `pool` | both together: frames on their way in, and out into the quarantine |

mod checksum;
mod ledger;
mod memory;
mod pool;
mod record;

pub(crate) use self::ledger::TxLedger;
pub(crate) use self::pool::{Reserved, Staged, TxPool};
pub(crate) use self::record::buffers_of;
