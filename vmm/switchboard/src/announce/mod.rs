//! Announcements: what the guests' addresses and groups are, and telling the network which port they
//! are behind.
//!
//! | file | holds |
//! |---|---|
//! | `neighbours`, `reports` | what ARP, neighbour discovery, IGMP and MLD say |
//! | `addresses`, `groups`, `station` | what one station has |
//! | `announcement`, `report_frames` | the frames that tell it |
//! | `stations` | all of a guest: each MAC address in each VLAN, and in which order it is told |
//! | `announcer` | when, and in which buffer |

mod addresses;
mod announcement;
mod announcer;
mod groups;
mod neighbours;
mod report_frames;
mod reports;
mod station;
mod stations;

pub(crate) use self::addresses::{GLANCE_BYTES, LEARN_BYTES};
#[cfg(test)]
pub(crate) use self::announcement::{Announced, Announcement};
pub use self::announcer::AnnounceConfig;
pub(crate) use self::announcer::Announcer;
pub(crate) use self::neighbours::may_say;
