//! A pattern in the guest's memory that nothing may ever change.
//!
//! The whole of a guest's RAM is in reach of its vhost-user back-end. Whatever a failing driver
//! domain does, and whatever the switchboard makes of it, this area must stay as it was written.

use crate::layout::CANARY_BYTES;

/// Words in the area.
pub const WORDS: usize = CANARY_BYTES as usize / 8;

/// Words that the guest checks in each turn of its loop: one cache line.
pub const WORDS_PER_CHECK: usize = 8;

/// What stands at a place of the area: no two words are alike, so a shifted copy shows too.
pub const fn word(index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_words_are_alike() {
        let mut words: Vec<u64> = (0..WORDS).map(word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS);
        assert!(WORDS.is_multiple_of(WORDS_PER_CHECK));
    }
}
