//! What the topology says of a guest's frames.

use super::egress::EgressRules;

/// Which source addresses a guest may send from, and which addresses are received for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MacRule {
    /// Its own alone.
    #[default]
    One,
    /// Its own and these, at most [`FURTHER_MACS`](crate::FURTHER_MACS).
    List(Vec<[u8; 6]>),
    /// Its own and those that it sends from, at most [`FURTHER_MACS`](crate::FURTHER_MACS).
    Learn,
    /// Any. Whatever is for none of the other guests is received for this one.
    Promiscuous,
}

/// The rules for one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestRules {
    /// Its MAC addresses.
    pub macs: MacRule,
    /// Frames for bridges that it may send.
    pub egress: EgressRules,
}
