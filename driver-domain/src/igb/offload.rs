//! Checksum offload: the context descriptor that precedes such a frame, i210 datasheet §7.2.2.2.

use shared_ring::{Entry, EntryFlags};

use super::descriptor::{command, option};
use crate::error::EntryError;

/// Bytes of an Ethernet header without tags. With tags the rest counts as IP header: for checksum
/// insertion only the sum of both lengths matters.
const MAC_HEADER_BYTES: u16 = 14;
/// Largest value of the context's IP header length field.
const MAX_IP_HEADER_BYTES: u16 = 511;
/// Distance of the checksum field in a TCP and in a UDP header.
const TCP_CHECKSUM_OFFSET: u16 = 16;
const UDP_CHECKSUM_OFFSET: u16 = 6;

const L4_TCP: u32 = 1 << 11;

/// What an offloaded frame needs beside its data descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offload {
    /// The context descriptor.
    pub(crate) context: [u64; 2],
    /// Bits for the option half of the first data descriptor.
    pub(crate) options: u32,
}

impl Offload {
    /// What the first entry of a frame asks for; `None` if nothing.
    pub(crate) fn of(entry: &Entry) -> Result<Option<Self>, EntryError> {
        if !entry.flags.contains(EntryFlags::CHECKSUM) {
            return Ok(None);
        }
        let l4 = match entry.csum_offset {
            TCP_CHECKSUM_OFFSET => L4_TCP,
            UDP_CHECKSUM_OFFSET => 0,
            _ => return Err(EntryError::Offload),
        };
        let context = context(ip_header_bytes(entry)?, l4);
        Ok(Some(Self { context, options: option::INSERT_L4_CHECKSUM }))
    }
}

fn ip_header_bytes(entry: &Entry) -> Result<u32, EntryError> {
    match entry.csum_start.checked_sub(MAC_HEADER_BYTES) {
        Some(bytes) if (20..=MAX_IP_HEADER_BYTES).contains(&bytes) => Ok(u32::from(bytes)),
        _ => Err(EntryError::Offload),
    }
}

/// The words of a context descriptor. Context 0 is the only one used, so IDX stays zero.
fn context(ip_bytes: u32, l4: u32) -> [u64; 2] {
    let lengths = u32::from(MAC_HEADER_BYTES) << 9 | ip_bytes;
    let kind = command::ADVANCED | command::TYPE_CONTEXT | l4;
    [u64::from(lengths), u64::from(kind)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(flags: u16) -> Entry {
        Entry {
            flags: EntryFlags(flags),
            len: 1500,
            csum_start: 34,
            csum_offset: TCP_CHECKSUM_OFFSET,
            frame_len: 9000,
            ..Entry::default()
        }
    }

    #[test]
    fn a_plain_frame_needs_no_context() {
        assert_eq!(Offload::of(&entry(EntryFlags::MORE.0)), Ok(None));
    }

    #[test]
    fn a_udp_checksum_is_described() {
        let udp = Entry { csum_offset: UDP_CHECKSUM_OFFSET, ..entry(EntryFlags::CHECKSUM.0) };
        let offload = Offload::of(&udp).unwrap().unwrap();
        assert_eq!(offload.context, [14 << 9 | 20, 0x2020_0000]);
        assert_eq!(offload.options, 1 << 9);
    }

    #[test]
    fn a_tcp_checksum_is_described() {
        let offload = Offload::of(&entry(EntryFlags::CHECKSUM.0)).unwrap().unwrap();
        assert_eq!(offload.context, [14 << 9 | 20, 0x2020_0800]);
    }

    #[test]
    fn impossible_offsets_are_refused() {
        let checksum = entry(EntryFlags::CHECKSUM.0);
        for bad in [
            Entry { csum_start: 13, ..checksum },
            Entry { csum_start: 4000, ..checksum },
            Entry { csum_offset: 7, ..checksum },
        ] {
            assert_eq!(Offload::of(&bad), Err(EntryError::Offload), "{bad:?}");
        }
    }
}
