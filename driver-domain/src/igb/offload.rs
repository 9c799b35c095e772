//! Checksum and segmentation offload: the context descriptor that precedes such a frame, i210
//! datasheet §7.2.2.2.

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
const IPV4: u32 = 1 << 10;

/// What an offloaded frame needs beside its data descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offload {
    /// The context descriptor.
    pub(crate) context: [u64; 2],
    /// Bits for the command half of the first data descriptor.
    pub(crate) command: u32,
    /// Bits for the option half of the first data descriptor.
    pub(crate) options: u32,
    /// Bytes that PAYLEN leaves out: the headers of a frame that is cut into segments.
    pub(crate) header_bytes: u32,
}

impl Offload {
    /// What the first entry of a frame asks for; `None` if nothing.
    pub(crate) fn of(entry: &Entry) -> Result<Option<Self>, EntryError> {
        let segment4 = entry.flags.contains(EntryFlags::TSO4);
        let segment6 = entry.flags.contains(EntryFlags::TSO6);
        match (segment4, segment6) {
            (true, true) => Err(EntryError::Flags),
            (false, false) if !entry.flags.contains(EntryFlags::CHECKSUM) => Ok(None),
            (false, false) => Self::checksum(entry).map(Some),
            _ => Self::segmented(entry, segment4).map(Some),
        }
    }

    fn checksum(entry: &Entry) -> Result<Self, EntryError> {
        let l4 = match entry.csum_offset {
            TCP_CHECKSUM_OFFSET => L4_TCP,
            UDP_CHECKSUM_OFFSET => 0,
            _ => return Err(EntryError::Offload),
        };
        Ok(Self {
            context: context(ip_header_bytes(entry)?, l4, 0),
            command: 0,
            options: option::INSERT_L4_CHECKSUM,
            header_bytes: 0,
        })
    }

    fn segmented(entry: &Entry, ipv4: bool) -> Result<Self, EntryError> {
        let l4_bytes = entry.header_len.checked_sub(entry.csum_start).ok_or(EntryError::Offload)?;
        let whole = entry.frame_len.max(u32::from(entry.len));
        let fits = (20..=60).contains(&l4_bytes)
            && entry.csum_offset == TCP_CHECKSUM_OFFSET
            && entry.segment_len > 0
            && whole > u32::from(entry.header_len);
        if !fits {
            return Err(EntryError::Offload);
        }
        let l4 = if ipv4 { L4_TCP | IPV4 } else { L4_TCP };
        let sizes = u32::from(entry.segment_len) << 16 | u32::from(l4_bytes) << 8;
        let ip_checksum = if ipv4 { option::INSERT_IP_CHECKSUM } else { 0 };
        Ok(Self {
            context: context(ip_header_bytes(entry)?, l4, sizes),
            command: command::SEGMENT,
            options: option::INSERT_L4_CHECKSUM | ip_checksum,
            header_bytes: u32::from(entry.header_len),
        })
    }
}

fn ip_header_bytes(entry: &Entry) -> Result<u32, EntryError> {
    match entry.csum_start.checked_sub(MAC_HEADER_BYTES) {
        Some(bytes) if (20..=MAX_IP_HEADER_BYTES).contains(&bytes) => Ok(u32::from(bytes)),
        _ => Err(EntryError::Offload),
    }
}

/// The words of a context descriptor. Context 0 is the only one used, so IDX stays zero.
fn context(ip_bytes: u32, l4: u32, sizes: u32) -> [u64; 2] {
    let lengths = u32::from(MAC_HEADER_BYTES) << 9 | ip_bytes;
    let kind = command::ADVANCED | command::TYPE_CONTEXT | l4;
    [u64::from(lengths), u64::from(kind) | u64::from(sizes) << 32]
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
            header_len: 54,
            segment_len: 1448,
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
        assert_eq!((offload.command, offload.options), (0, 1 << 9));
    }

    #[test]
    fn ipv4_segmentation_is_described() {
        let offload = Offload::of(&entry(EntryFlags::TSO4.0)).unwrap().unwrap();
        assert_eq!(offload.context[1], (1448 << 48) | (20 << 40) | 0x2020_0c00);
        assert_eq!((offload.command, offload.options), (1 << 31, 3 << 8));
        assert_eq!(offload.header_bytes, 54);
    }

    #[test]
    fn impossible_offsets_are_refused() {
        let checksum = entry(EntryFlags::CHECKSUM.0);
        let tso = entry(EntryFlags::TSO6.0);
        for bad in [
            Entry { csum_start: 13, ..checksum },
            Entry { csum_start: 4000, ..checksum },
            Entry { csum_offset: 7, ..checksum },
            Entry { header_len: 30, ..tso },
            Entry { segment_len: 0, ..tso },
            Entry { header_len: 9000, ..tso },
        ] {
            assert_eq!(Offload::of(&bad), Err(EntryError::Offload), "{bad:?}");
        }
        let both = entry(EntryFlags::TSO4.0 | EntryFlags::TSO6.0);
        assert_eq!(Offload::of(&both), Err(EntryError::Flags));
    }
}
