//! The internet checksum (RFC 1071): a ones' complement sum of 16-bit words in network order.

/// Sum of some bytes, an odd last one padded with zero. Not folded: good for any frame.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    sum_on(0, bytes, false)
}

/// Adds bytes to a sum; `odd` says that an odd number of bytes came before.
pub fn sum_on(mut sum: u64, bytes: &[u8], odd: bool) -> u64 {
    let (head, rest) = bytes.split_at(usize::from(odd).min(bytes.len()));
    sum += head.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let (words, tail) = rest.as_chunks::<2>();
    sum += words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
    sum + tail.iter().map(|byte| u64::from(*byte) << 8).sum::<u64>()
}

/// The sum as a ones' complement number of 16 bits; the checksum is its complement.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_fold_with_their_carries() {
        assert_eq!(fold(sum(&[0xff, 0xff, 0x00, 0x01])), 1);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56])), 0x1234 + 0x5600);
        assert_eq!(fold(0), 0);
    }

    #[test]
    fn a_sum_does_not_depend_on_how_it_is_cut() {
        let bytes: Vec<u8> = (0..101_u32).map(|n| (n * 37) as u8).collect();
        let whole = fold(sum(&bytes));
        for cut in 0..=bytes.len() {
            let first = sum(&bytes[..cut]);
            assert_eq!(fold(sum_on(first, &bytes[cut..], cut % 2 == 1)), whole, "{cut}");
        }
        // RFC 1071's own example.
        assert_eq!(!fold(sum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7])), 0x220d);
    }
}
