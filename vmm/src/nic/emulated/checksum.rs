//! Checksums that the NIC computes: of the Internet protocols, and of Ethernet.

/// Sum of 16-bit words in network order, an odd last byte padded with zero. Not folded: good for
/// frames of any length the NIC handles.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let whole: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    whole + rest.first().map_or(0, |&byte| u64::from(byte) << 8)
}

/// The sum as ones' complement number of 16 bits.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Frame check sequence in the order of transmission (IEEE 802.3 §3.2.9).
pub(super) fn frame_check(frame: &[u8]) -> [u8; 4] {
    let crc = frame.iter().fold(u32::MAX, |crc, &byte| {
        crc >> 8 ^ CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize]
    });
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sequence_is_that_of_the_standard() {
        assert_eq!(u32::from_le_bytes(frame_check(b"123456789")), 0xcbf4_3926);
    }

    #[test]
    fn sums_fold_with_their_carries() {
        assert_eq!(fold(sum(&[0xff, 0xff, 0x00, 0x01])), 1);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56])), 0x1234 + 0x5600);
        assert_eq!(fold(0), 0);
    }
}
