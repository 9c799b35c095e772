//! Definitions that the Linux guest shares with its tests: ports, and the blocks of bulk data.
//! Every byte of this data is known in advance. It is sent in blocks of 64 KiB; the first eight
//! bytes of each block are its number, and the rest are always the same pseudo-random bytes.

pub mod groups;

/// Port of the echo server, over UDP and TCP.
pub const ECHO_PORT: u16 = 7;
/// Port of the sink, which receives blocks until the other end shuts down its side, or a block is
/// damaged, and then replies how many were intact.
pub const SINK_PORT: u16 = 9;
/// Port of the source, which sends as many blocks as it is asked for (with a little-endian `u64`).
pub const SOURCE_PORT: u16 = 19;
/// Size of a block in bytes.
pub const BLOCK_BYTES: usize = 65_536;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns block number 0; its first eight bytes are the number.
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
