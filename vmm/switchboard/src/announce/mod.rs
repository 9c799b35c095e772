//! Announcements: what the guests' addresses are, and telling the network which port they are
//! behind.

mod addresses;
mod announcement;
mod announcer;
mod stations;

pub(crate) use self::addresses::{GLANCE_BYTES, LEARN_BYTES};
#[cfg(test)]
pub(crate) use self::announcement::{Announced, Announcement};
pub use self::announcer::AnnounceConfig;
pub(crate) use self::announcer::Announcer;
pub(crate) use self::stations::StationAnnouncer;
