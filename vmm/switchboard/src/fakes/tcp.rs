//! TCP as a guest hands it over that leaves segmentation to others.

use platform::checksum;

use crate::port::{Checksum, Internet};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

const TCP: u8 = 6;

/// All of a payload behind one header, the sum of the pseudo-header over the whole length in the
/// checksum's field.
pub(crate) fn uncut(
    internet: Internet,
    tags: usize,
    payload: &[u8],
    flags: u8,
) -> (Vec<u8>, Checksum) {
    let mut frame = [[0x02; 6], super::MAC].concat();
    for _ in 0..tags {
        frame.extend([0x81, 0x00, 0x00, 0x07]);
    }
    let length = 32 + payload.len();
    let mut pseudo = u64::from(TCP) + length as u64;
    match internet {
        Internet::V4 => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(((20 + length) as u16).to_be_bytes());
            frame.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            pseudo += checksum::sum(&frame[frame.len() - 8..]);
        }
        Internet::V6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([TCP, 64]);
            frame.extend([0xfd; 32]);
            pseudo += checksum::sum(&frame[frame.len() - 32..]);
        }
    }
    let start = frame.len() as u16;
    frame.extend([0x12, 0x34, 0x56, 0x78, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1]);
    frame.extend([8 << 4, flags, 0x20, 0]);
    frame.extend(checksum::fold(pseudo).to_be_bytes());
    frame.extend([0; 2]);
    frame.extend([1; 12]);
    frame.extend(payload);
    (frame, Checksum { start, offset: 16 })
}
