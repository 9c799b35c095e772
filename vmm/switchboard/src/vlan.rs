//! VLAN tags: IEEE 802.1Q, 802.1ad, the 0x9100 of before that, and one behind the other.

/// Most tags that are looked at: a service tag and a customer's.
const TAGS: usize = 2;
/// Bytes of a tag.
const TAG_BYTES: usize = 4;
/// Most bytes that tags add to a frame.
pub(crate) const TAGS_BYTES: usize = TAGS * TAG_BYTES;
/// Where tags stand, or the EtherType of a frame without any.
const AT: usize = 12;

const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;
const OLD_SERVICE: u16 = 0x9100;

#[inline]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, CUSTOMER | SERVICE | OLD_SERVICE)
}

/// The EtherType (or length) behind all tags, however many there are. `head` is the beginning of a
/// frame, at least its Ethernet header; where the tags go on to its end, the type of the last one.
#[inline]
pub(crate) fn ethertype(head: &[u8]) -> u16 {
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let mut at = AT;
    while is_tag(word(at)) && at + TAG_BYTES + 2 <= head.len() {
        at += TAG_BYTES;
    }
    word(at)
}

/// Which VLAN a frame belongs to: its tags, the outer one first. Priorities do not count, so a tag
/// that carries a priority alone (VLAN 0) is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags([u32; TAGS]);

impl Tags {
    /// Of frames without tags.
    pub(crate) const NONE: Self = Self([0; TAGS]);

    /// The VLAN with this number, 1 to 4094.
    #[cfg(test)]
    pub(crate) fn customer(vlan: u16) -> Self {
        Self([u32::from(CUSTOMER) << 16 | u32::from(vlan), 0])
    }

    /// Reads the tags at the head of a frame. Returns them, and where the EtherType behind them is;
    /// that may be past the end of a frame that is cut off there.
    #[inline]
    pub(crate) fn read(head: &[u8]) -> (Self, usize) {
        let (mut tags, mut known, mut at) = (Self::NONE, 0, AT);
        while at < AT + TAGS_BYTES
            && let Some([a, b, c, d]) = head.get(at..at + TAG_BYTES)
            && is_tag(u16::from_be_bytes([*a, *b]))
        {
            let vlan = u32::from(u16::from_be_bytes([*c, *d]) & 0xfff);
            if vlan != 0 {
                tags.0[known] = u32::from(u16::from_be_bytes([*a, *b])) << 16 | vlan;
                known += 1;
            }
            at += TAG_BYTES;
        }
        (tags, at)
    }

    /// A small number that differs for most VLANs of one network.
    #[inline]
    pub(crate) fn hint(self) -> u32 {
        self.0[0] ^ self.0[1] >> 3
    }

    /// Puts the tags into a frame of so many bytes that has none, and has room behind it. Returns
    /// how many bytes it has now.
    pub(crate) fn insert(self, frame: &mut [u8], len: usize) -> usize {
        let mut at = AT;
        for tag in self.0.into_iter().filter(|tag| *tag != 0) {
            frame.copy_within(at..len + at - AT, at + TAG_BYTES);
            frame[at..at + TAG_BYTES].copy_from_slice(&tag.to_be_bytes());
            at += TAG_BYTES;
        }
        len + at - AT
    }
}

/// A frame's head as if it had no tags; `at` is where its EtherType is.
pub(crate) fn untagged<const N: usize>(head: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..AT].copy_from_slice(&head[..AT]);
    let rest = head.get(at..).unwrap_or_default();
    let len = rest.len().min(N - AT);
    bytes[AT..AT + len].copy_from_slice(&rest[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = vec![1; 12];
        tags.iter().for_each(|tag| frame.extend(tag));
        frame.extend([8, 0, 0x45, 0]);
        frame
    }

    #[test]
    fn tags_are_read_and_written_alike() {
        let customer = [0x81, 0, 0, 100];
        let [service, old] = [[0x88, 0xa8, 0, 7], [0x91, 0, 0, 7]];
        for tags in [vec![], vec![customer], vec![service], vec![service, customer], vec![old]] {
            let tagged = frame(&tags);
            let (read, at) = Tags::read(&tagged);
            assert_eq!(at, 12 + 4 * tags.len());
            let mut bytes = frame(&[]);
            bytes.resize(40, 0);
            let len = read.insert(&mut bytes, 16);
            assert_eq!(bytes[..len], tagged);
            assert_eq!(untagged::<16>(&tagged, at)[..], frame(&[]));
        }
        assert_eq!(Tags::read(&frame(&[customer])).0, Tags::customer(100));
    }

    #[test]
    fn the_type_stands_behind_any_number_of_tags() {
        let behind = |tags: &[[u8; 4]]| ethertype(&frame(tags));
        assert_eq!((behind(&[]), behind(&[[0x81, 0, 0, 5]])), (0x0800, 0x0800));
        assert_eq!(behind(&[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 5], [0x91, 0, 0, 1]]), 0x0800);
        assert_eq!(ethertype(&[0x81; 42]), 0x8181, "no tag");
        assert_eq!(ethertype(&frame(&[[0x81, 0, 0x81, 0]; 8])[..42]), 0x8100, "tags to the end");
    }

    #[test]
    fn a_priority_makes_no_vlan() {
        let (tags, at) = Tags::read(&frame(&[[0x81, 0, 0xe0, 0]]));
        assert_eq!((tags, at), (Tags::NONE, 16));
        assert_eq!(Tags::read(&frame(&[[0x81, 0, 0x70, 100]])).0, Tags::customer(100));
        let both = frame(&[[0x88, 0xa8, 0xe0, 0], [0x81, 0, 0, 100]]);
        assert_eq!(Tags::read(&both), (Tags::customer(100), 20));
    }

    #[test]
    fn tags_without_end_and_tags_cut_off_are_read_as_far_as_they_go() {
        let (_, at) = Tags::read(&frame(&[[0x81, 0, 0, 1]; 5]));
        assert_eq!(at, 20, "a third one is not looked at");
        for len in 0..24 {
            let head = &frame(&[[0x88, 0xa8, 0, 1], [0x81, 0, 0, 2]])[..len.min(24)];
            assert!(Tags::read(head).1 <= len.max(12));
        }
    }
}
