//! The switchboard: the one trusted thread between guests' virtqueues and the driver domains.
//!
//! ```text
//!            port                      transmit pool, line of unconfirmed frames
//!   guest ── TX ring ──copy──> transmit buffer ──TX_POST──> active domain ──> NIC
//!            (used at once)        ^     <──TX_DONE (claimed)──┘               |
//!                                  └──────── confirmed: NIC's count, link up <─┘
//!
//!   guest <── RX ring <──copy── receive buffer <──RX_DONE── active domain <── NIC
//!            (popped with a        └──RX_PROVIDE (header cleared, owned)──>
//!             checked frame in hand)
//! ```
//!
//! From the bottom up; each owner of state names its invariants at the head of its file:
//!
//! | module | holds |
//! |---|---|
//! | `limits`, `vlan`, `tx_buffers`, `guest_set`, `counters`, `guest_figures`, `violation`, `quarantine` | what many share |
//! | `port` | a guest's side: virtqueues, memory, doorbells; nothing in it trusts the guest |
//! | `macs` | which addresses a guest has beside its own, and which frames it may not send |
//! | `guests` | whose a frame is, and who may send it |
//! | `domains` | the domains' side: places, one life's rings and buffer ownership, frames that wait; nothing in it trusts a domain |
//! | `tx_pool`, `confirmations` | the transmit pool and what the NIC really sent |
//! | `announce` | what the guests' addresses are, and telling the network where they are |
//! | `tx_path` | guests to the wire and to each other, fairly |
//! | `rx_path`, `dedup`, `salvage` | domains to guests; each frame once; what a failed life leaves |
//! | `command`, `takeover_order`, `shared` | what callers and the thread exchange |
//! | `engine` | one turn of the loop; who serves; takeovers, planned switches, drills, guests that stop |
//! | `worker` | the thread |
//! | `handle`, `planned`, `port_handle` | what callers have |
//! | `vhost_user` | the sockets of the guests' front-ends |
//!
//! Nothing here allocates, logs or waits for a lock between a guest's kick and a NIC's doorbell, or
//! between the order to take over and its end.

mod announce;
mod command;
mod confirmations;
mod counters;
mod dedup;
mod domains;
mod engine;
mod error;
#[cfg(test)]
mod fakes;
mod guest_figures;
mod guest_set;
mod guests;
mod handle;
mod limits;
mod macs;
mod planned;
mod port;
mod port_handle;
mod quarantine;
mod rx_path;
mod salvage;
mod shared;
mod takeover_order;
mod tx_buffers;
mod tx_path;
mod tx_pool;
pub mod vhost_user;
mod violation;
mod vlan;
mod worker;

pub use self::announce::AnnounceConfig;
pub use self::command::DrillSeen;
pub use self::counters::{Counter, Counters};
pub use self::error::SwitchboardError;
pub use self::guest_figures::GuestFigures;
pub use self::handle::{Switchboard, SwitchboardConfig};
pub use self::limits::FURTHER_MACS;
pub use self::macs::{EgressRules, GuestRules, MacRule, Refusal};
pub use self::planned::HandoverError;
pub use self::port::FrontEnds;
pub use self::port_handle::PortHandle;
pub use self::quarantine::QuarantinedFrame;
pub use self::takeover_order::{TakeOver, TakeOverReport};
pub use self::tx_buffers::QUESTION_BUFFER;
pub use self::violation::{RingName, Violation, ViolationSink};

#[cfg(test)]
mod tests;
