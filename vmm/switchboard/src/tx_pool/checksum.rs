//! Checksums that no NIC knows.

use platform::checksum;
use shared_ring::layout::BUFFER_BYTES;

use super::memory::PoolMemory;
use crate::port::Checksum;

/// Computes a checksum over a frame in `buffers`. Rare: a NIC does TCP's and UDP's.
pub(super) fn insert(memory: &PoolMemory, buffers: &[u16], bytes: usize, wanted: Checksum) {
    let mut sum = 0;
    let mut at = usize::from(wanted.start);
    let mut part = [0; BUFFER_BYTES];
    while at < bytes {
        let (n, from) = (at / BUFFER_BYTES, at % BUFFER_BYTES);
        let len = (BUFFER_BYTES - from).min(bytes - at);
        memory.slice(buffers[n], from, len).copy_to(&mut part[..len]);
        let odd = !(at - usize::from(wanted.start)).is_multiple_of(2);
        sum = checksum::sum_on(sum, &part[..len], odd);
        at += len;
    }
    let value = match !checksum::fold(sum) {
        0 if wanted.is_udp() => u16::MAX,
        value => value,
    };
    for (n, byte) in value.to_be_bytes().into_iter().enumerate() {
        let at = wanted.field() + n;
        memory.slice(buffers[at / BUFFER_BYTES], at % BUFFER_BYTES, 1).copy_from(&[byte]);
    }
}
