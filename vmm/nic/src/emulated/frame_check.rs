//! The frame check sequence, which the NIC computes.

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
}
