//! The VLAN tags of a frame (802.1Q, 802.1ad, and the 0x9100 of before that).

/// Bytes of one tag: its EtherType, and the VLAN with its priority.
const TAG: usize = 4;
/// Most tags that are remembered of a frame.
const REMEMBERED: usize = 2;
/// Bytes of the tags that are remembered.
pub(crate) const TAG_BYTES: usize = REMEMBERED * TAG;
/// Where the first tag, or the EtherType, stands in a frame.
const FIRST: usize = 12;

/// The outer tags of a frame, without priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    bytes: [u8; TAG_BYTES],
    len: u8,
}

#[inline]
fn word(head: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

#[inline]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// The EtherType (or length) behind all tags. `head` is the beginning of the frame; where the tags
/// go on to its end, the type of the last one.
#[inline]
pub(super) fn ethertype(head: &[u8]) -> u16 {
    let mut at = FIRST;
    while is_tag(word(head, at)) && at + TAG + 2 <= head.len() {
        at += TAG;
    }
    word(head, at)
}

impl Tags {
    /// Those of a frame without any.
    pub(crate) const NONE: Self = Self { bytes: [0; TAG_BYTES], len: 0 };

    /// Of the frame with this head.
    pub(crate) fn of(head: &[u8]) -> Self {
        let mut tags = Self::NONE;
        for at in (FIRST..).step_by(TAG).take(REMEMBERED) {
            let ethertype = word(head, at);
            if !is_tag(ethertype) {
                break;
            }
            let vlan = word(head, at + 2) & 0x0fff;
            let to = usize::from(tags.len);
            tags.bytes[to..to + 2].copy_from_slice(&ethertype.to_be_bytes());
            tags.bytes[to + 2..to + TAG].copy_from_slice(&vlan.to_be_bytes());
            tags.len += TAG as u8;
        }
        tags
    }

    /// As they stand in a frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(words: &[u16]) -> Vec<u8> {
        let mut head = vec![0; FIRST];
        words.iter().for_each(|word| head.extend(word.to_be_bytes()));
        head.resize(42, 0);
        head
    }

    #[test]
    fn the_type_stands_behind_any_number_of_tags() {
        assert_eq!(ethertype(&head(&[0x0800])), 0x0800);
        assert_eq!(ethertype(&head(&[0x8100, 5, 0x0806])), 0x0806);
        assert_eq!(ethertype(&head(&[0x88a8, 7, 0x8100, 5, 0x8808])), 0x8808);
        assert_eq!(ethertype(&head(&[0x8100; 15])), 0x8100, "tags to the end of the head");
    }

    #[test]
    fn two_tags_are_remembered_without_their_priorities() {
        let tags = Tags::of(&head(&[0x88a8, 0xe007, 0x8100, 0x2005, 0x8100, 1]));
        assert_eq!(tags.bytes(), [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]);
        assert_eq!(Tags::of(&head(&[0x0800])).bytes(), [0; 0]);
    }
}
