//! Frames for an instruction counter: what a turn of the engine costs, and nothing around it.
//!
//! ```sh
//! BENCH=$(cargo test --release -p switchboard --lib --no-run 2>&1 | sed -n 's/.*(\(.*\))/\1/p')
//! valgrind --tool=callgrind --toggle-collect='*cost::counted_turn*' $BENCH --ignored cost::sends_64
//! ```
//! The total divided by [`FRAMES`] is the cost of a frame.

use super::*;

/// Frames that each of these moves.
const FRAMES: usize = 12_800;
/// Frames that one turn finds; as many as a fake guest has receive buffers.
const BATCH: usize = 64;

/// Under this name the turns are counted.
#[inline(never)]
fn counted_turn(rig: &mut Rig) {
    assert!(rig.engine.turn(rig.now), "there was something to move");
}

fn sends(bytes: usize) {
    let (mut rig, mut domain) = Rig::new();
    let sent = frame(true, 1, bytes);
    for _ in 0..FRAMES / BATCH {
        (0..BATCH).for_each(|_| rig.guest.tx.send(&sent));
        counted_turn(&mut rig);
        assert_eq!(rig.guest.tx.drain_used(), BATCH);
        let entries = std::iter::from_fn(|| domain.rings.tx_post.pop().unwrap());
        domain.in_hand.extend(entries);
        domain.rings.tx_post.release();
        domain.claim(BATCH);
        rig.nics[0].send(BATCH as u32);
        counted_turn(&mut rig);
        rig.now += MS;
    }
}

fn receives(received: &[u8]) {
    let (mut rig, mut domain) = Rig::new();
    for _ in 0..FRAMES / BATCH {
        (0..BATCH).for_each(|_| domain.receive(received));
        counted_turn(&mut rig);
        assert_eq!(rig.guest.rx.drain_used(), BATCH);
        (0..BATCH).for_each(|_| drop(rig.guest.rx.add(&[(2048, true)])));
    }
}

#[test]
#[ignore = "for an instruction counter"]
fn sends_64() {
    sends(64);
}

#[test]
#[ignore = "for an instruction counter"]
fn sends_1500() {
    sends(1514);
}

#[test]
#[ignore = "for an instruction counter"]
fn receives_64() {
    receives(&frame(false, 1, 64));
}

#[test]
#[ignore = "for an instruction counter"]
fn receives_1500() {
    receives(&frame(false, 1, 1514));
}

/// A multicast stream, say.
#[test]
#[ignore = "for an instruction counter"]
fn receives_groups_1500() {
    let mut received = frame(false, 1, 1514);
    received[..6].copy_from_slice(&[1, 0, 0x5e, 1, 2, 3]);
    receives(&received);
}
