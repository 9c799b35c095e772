//! The frames of a drill: a spare proves its NIC with them, without the ring.
//!
//! ```text
//!   0  destination   probe address of the other domain, never the guest's
//!   6  source        probe address of the sender: no switch learns anything about the guest
//!  12  EtherType     0x88b6, IEEE 802 local experimental 2
//!  14  magic         "WSDR"
//!  18  number        of the drill, little-endian
//!  22  kind          0 question (from the spare), 1 answer (from the active domain)
//!  23  zeroes
//! ```
//! Where the network between the NICs takes only tagged frames, a tag (IEEE 802.1Q) stands before
//! the EtherType, and there are four zeroes less.

/// Bytes of a probe: the shortest Ethernet frame.
pub const PROBE_BYTES: usize = 60;
/// Bytes at the head of a probe that say everything.
pub const PROBE_HEAD_BYTES: usize = 32;
/// EtherType of probes, IEEE 802 local experimental 2 (IEEE 802-2014, 9.2.4).
pub const PROBE_ETHERTYPE: u16 = 0x88b6;
const MAGIC: [u8; 4] = *b"WSDR";
/// EtherType of a tag.
const TAG: u16 = 0x8100;
/// Where the EtherType or a tag is.
const ETHERTYPE_AT: usize = 12;
/// Bytes of a tag.
const TAG_BYTES: usize = 4;

/// Which way a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProbeKind {
    /// From the spare to the active domain.
    Question = 0,
    /// Back.
    Answer = 1,
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Number of the drill.
    pub number: u32,
    /// Which way it goes.
    pub kind: ProbeKind,
}

impl Probe {
    /// The frame from one probe address to another, in this VLAN (1 to 4094) or without a tag.
    pub fn frame(self, to: [u8; 6], from: [u8; 6], vlan: Option<u16>) -> [u8; PROBE_BYTES] {
        let mut frame = [0; PROBE_BYTES];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        let mut at = ETHERTYPE_AT;
        if let Some(vlan) = vlan {
            frame[at..at + 2].copy_from_slice(&TAG.to_be_bytes());
            frame[at + 2..at + TAG_BYTES].copy_from_slice(&vlan.to_be_bytes());
            at += TAG_BYTES;
        }
        frame[at..at + 2].copy_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
        frame[at + 2..at + 6].copy_from_slice(&MAGIC);
        frame[at + 6..at + 10].copy_from_slice(&self.number.to_le_bytes());
        frame[at + 10] = self.kind as u8;
        frame
    }

    /// Reads the head of a frame, with or without a tag; `None` if it is no probe.
    #[inline]
    pub fn parse(head: &[u8; PROBE_HEAD_BYTES]) -> Option<Self> {
        let is_tagged = head[ETHERTYPE_AT..ETHERTYPE_AT + 2] == TAG.to_be_bytes();
        let at = if is_tagged { ETHERTYPE_AT + TAG_BYTES } else { ETHERTYPE_AT };
        let says = head[at..].first_chunk::<11>()?;
        if says[..2] != PROBE_ETHERTYPE.to_be_bytes() || says[2..6] != MAGIC {
            return None;
        }
        let kind = match says[10] {
            0 => ProbeKind::Question,
            1 => ProbeKind::Answer,
            _ => return None,
        };
        let number = u32::from_le_bytes([says[6], says[7], says[8], says[9]]);
        Some(Self { number, kind })
    }
}

/// The probe address of the domain with this number that serves the guest with this address:
/// locally administered, and unlike the guest's in its second byte whatever that is.
pub const fn probe_mac(guest: [u8; 6], domain: u8) -> [u8; 6] {
    let [_, b, c, d, e, f] = guest;
    [0x42 | (domain & 7) << 2, b ^ 0xa5, c, d, e, f]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_probe_survives_its_frame() {
        for (kind, vlan) in [
            (ProbeKind::Question, None),
            (ProbeKind::Answer, None),
            (ProbeKind::Question, Some(1)),
            (ProbeKind::Answer, Some(4094)),
        ] {
            let probe = Probe { number: 0xdead_beef, kind };
            let frame = probe.frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], vlan);
            assert_eq!(Probe::parse(frame.first_chunk().unwrap()), Some(probe));
        }
        assert_eq!(Probe::parse(&[0; PROBE_HEAD_BYTES]), None);
    }

    #[test]
    fn probe_addresses_are_stations_of_their_own() {
        let guest = [0x52, 0x54, 0, 1, 2, 3];
        let all: Vec<_> = (0..8).map(|domain| probe_mac(guest, domain)).collect();
        for (n, mac) in all.iter().enumerate() {
            assert_eq!(mac[0] & 3, 2, "local, not a group");
            assert_ne!(*mac, guest);
            assert!(!all[..n].contains(mac));
        }
    }
}
