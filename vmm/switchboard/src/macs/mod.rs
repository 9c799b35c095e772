//! What a guest may send, and under which MAC addresses.

mod egress;
mod further;
mod rule;

pub(crate) use self::egress::kind_of;
pub use self::egress::{EgressRules, Refusal};
pub(crate) use self::further::FurtherMacs;
pub use self::rule::{GuestRules, MacRule};

/// A MAC address as a number, for comparisons.
#[inline]
pub(crate) fn key_of(mac: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(&mac[..6]);
    u64::from_be_bytes(bytes)
}

/// The address that [`key_of`] made a number of.
pub(crate) fn mac_of(key: u64) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = key.to_be_bytes();
    [a, b, c, d, e, f]
}

/// Returns true if a host may have this address: it is neither a group's nor all zeroes.
pub(crate) fn is_unicast(key: u64) -> bool {
    key != 0 && key >> 40 & 1 == 0
}
