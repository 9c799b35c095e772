//! Frames that are meant for the next bridge or NIC and for nobody behind it, which a guest does not
//! send unless it is told to.
//!
//! A PAUSE frame stops the switch port that it reaches, and with that every guest behind the NIC; a
//! BPDU has a switch shut the port (`bpduguard`), and then a takeover does not help either: the spare's
//! port goes the same way.

use crate::vlan::ethertype;

/// EtherTypes of MAC control (PAUSE and priority-based flow control: IEEE 802.3, 31; 802.1Qbb), slow
/// protocols, LLDP and 802.1X.
const MAC_CONTROL: u16 = 0x8808;
const SLOW_PROTOCOLS: u16 = 0x8809;
const LLDP: u16 = 0x88cc;
const EAPOL: u16 = 0x888e;
/// The first bytes of the group addresses that no bridge forwards (IEEE 802.1Q, table 8-1); the last
/// one is 00 to 0F.
const BRIDGE_GROUP: [u8; 5] = [0x01, 0x80, 0xc2, 0, 0];

/// Why a frame of a guest was not let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its source is no address that the guest may send from.
    Source,
    /// PAUSE of 802.3x or 802.1Qbb, or any other MAC control. These never leave.
    Pause,
    /// Spanning tree.
    Bpdu,
    /// LACP and other slow protocols.
    Lacp,
    /// LLDP.
    Lldp,
    /// 802.1X.
    Eapol,
    /// Anything else to one of these addresses.
    Reserved,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Source,
        Self::Pause,
        Self::Bpdu,
        Self::Lacp,
        Self::Lldp,
        Self::Eapol,
        Self::Reserved,
    ];

    /// The name in metrics and events; of those that a topology can allow, also the key there.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Pause => "pause",
            Self::Bpdu => "bpdu",
            Self::Lacp => "lacp",
            Self::Lldp => "lldp",
            Self::Eapol => "eapol",
            Self::Reserved => "reserved",
        }
    }
}

/// Which of these frames a guest may send. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Spanning tree.
    pub bpdu: bool,
    /// LACP and other slow protocols.
    pub lacp: bool,
    /// LLDP.
    pub lldp: bool,
    /// 802.1X.
    pub eapol: bool,
    /// Anything else to 01-80-C2-00-00-00 to -0F but PAUSE.
    pub reserved: bool,
}

impl EgressRules {
    /// Returns true if frames that would be refused for this reason are let out.
    pub(crate) fn allow(self, kind: Refusal) -> bool {
        match kind {
            Refusal::Source | Refusal::Pause => false,
            Refusal::Bpdu => self.bpdu,
            Refusal::Lacp => self.lacp,
            Refusal::Lldp => self.lldp,
            Refusal::Eapol => self.eapol,
            Refusal::Reserved => self.reserved,
        }
    }
}

/// What a frame with this head is, if it is none that every guest may send.
#[inline]
pub(crate) fn kind_of(head: &[u8]) -> Option<Refusal> {
    let ethertype = ethertype(head);
    if ethertype == MAC_CONTROL {
        return Some(Refusal::Pause);
    }
    if head[..5] != BRIDGE_GROUP || head[5] > 0x0f {
        return None;
    }
    Some(match (head[5], ethertype) {
        (0x01, _) => Refusal::Pause,
        (_, SLOW_PROTOCOLS) => Refusal::Lacp,
        (_, LLDP) => Refusal::Lldp,
        (_, EAPOL) => Refusal::Eapol,
        (0x00 | 0x08, _) => Refusal::Bpdu,
        _ => Refusal::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(last: u8, types: &[u16]) -> Vec<u8> {
        let mut head = vec![1, 0x80, 0xc2, 0, 0, last, 2, 0, 0, 0, 0, 1];
        types.iter().for_each(|word| head.extend(word.to_be_bytes()));
        head.resize(42, 0);
        head
    }

    #[test]
    fn each_kind_is_known_by_address_and_type() {
        let seen = [
            (0x00, 0x0026, Refusal::Bpdu),
            (0x08, 0x0026, Refusal::Bpdu),
            (0x01, 0x8808, Refusal::Pause),
            (0x01, 0x0800, Refusal::Pause),
            (0x02, 0x8809, Refusal::Lacp),
            (0x03, 0x888e, Refusal::Eapol),
            (0x0e, 0x88cc, Refusal::Lldp),
            (0x00, 0x88cc, Refusal::Lldp),
            (0x0e, 0x88f7, Refusal::Reserved),
            (0x0f, 0x0800, Refusal::Reserved),
        ];
        for (last, ethertype, kind) in seen {
            assert_eq!(kind_of(&head(last, &[ethertype])), Some(kind), "{last:#x} {ethertype:#x}");
        }
        assert_eq!(kind_of(&head(0x10, &[0x0026])), None, "no address of a bridge");
    }

    #[test]
    fn pause_is_known_at_any_address_and_behind_tags() {
        let mut unicast = head(1, &[0x8100, 0xe000, 0x8808]);
        unicast[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        assert_eq!(kind_of(&unicast), Some(Refusal::Pause));
        assert_eq!(kind_of(&head(0x0e, &[0x88a8, 3, 0x8100, 5, 0x88cc])), Some(Refusal::Lldp));
    }

    #[test]
    fn only_what_the_topology_allows_leaves_and_pause_never() {
        let all = EgressRules { bpdu: true, lacp: true, lldp: true, eapol: true, reserved: true };
        let allowed = Refusal::ALL.map(|kind| all.allow(kind));
        assert_eq!(allowed, [false, false, true, true, true, true, true]);
        assert!(Refusal::ALL.iter().all(|kind| !EgressRules::default().allow(*kind)));
    }
}
