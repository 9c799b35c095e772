//! What the Linux guest and who tests it agree on: bulk data whose every byte is known, in blocks of
//! 64 KiB, the first eight bytes of each its number, the rest always the same noise.

pub mod groups;

/// Echoes, over UDP and TCP.
pub const ECHO_PORT: u16 = 7;
/// Takes blocks until the other end says so, and answers how many were right.
pub const SINK_PORT: u16 = 9;
/// Sends as many blocks as it is asked for (a little-endian `u64`).
pub const SOURCE_PORT: u16 = 19;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 65_536;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Block number 0; its first eight bytes are the number.
pub fn block() -> Vec<u8> {
    let mut state = SEED;
    let words = (0..BLOCK_BYTES / 8).map(|n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if n == 0 { 0 } else { state }
    });
    words.flat_map(u64::to_le_bytes).collect()
}
