//! What the whole network receives: each broadcast reaches the guest once even while domains are
//! switched, and announcements tell the network where the guest is now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nic::wire::{MAX_FRAME_BYTES, Port, Wire};
use platform::clock::monotonic_ns;
use warmspare_tests::frontend::{Connection, TestGuest};
use warmspare_tests::rig::{Rig, StopAtEnd, alone, assert_nothing_happened};

/// A numbered broadcast frame that the guest ignores.
fn broadcast(number: u32) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x42]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame[14..18].copy_from_slice(&number.to_le_bytes());
    frame
}

/// Sends broadcasts every 100 µs while `act` runs, numbered from 1. Returns the time at which each
/// was sent, in nanoseconds of `CLOCK_MONOTONIC`.
fn broadcast_while(port: &Port, act: impl FnOnce()) -> Vec<u64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent_ns = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                sent_ns.push(monotonic_ns());
                port.send(&broadcast(sent_ns.len() as u32));
                std::thread::sleep(Duration::from_micros(100));
            }
            sent_ns
        });
        {
            let _end = StopAtEnd(&stop);
            act();
        }
        sender.join().unwrap()
    })
}

/// Sends broadcasts while `act` runs; returns how many were sent, and how many reached the guest.
fn under_broadcasts(rig: &mut Rig, act: impl FnOnce(&Rig)) -> (u64, u64) {
    let port = rig.lan("broadcaster");
    let counter = |rig: &Rig| rig.system.switchboard().counters().rx_groups.get();
    let before = counter(rig);
    let sent = broadcast_while(&port, || act(rig)).len() as u64;
    // Frames that still wait in the rings arrive later, however slow the machine is.
    let arrived = |rig: &Rig| counter(rig) - before;
    let end = Instant::now() + Duration::from_secs(2);
    while arrived(rig) < sent && Instant::now() < end {
        rig.run_for(Duration::from_millis(1));
    }
    rig.run_for(Duration::from_millis(20));
    (sent, arrived(rig))
}

/// Receives frames for a guest until it is told to stop and nothing has arrived for a while.
/// Returns the numbers of the broadcasts.
fn take_broadcasts(guest: &mut TestGuest, stop: &AtomicBool) -> Vec<u32> {
    const QUIET: Duration = Duration::from_millis(100);
    let (mut numbers, mut last) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) || last.elapsed() < QUIET {
        guest.offer_buffers();
        while let Some(frame) = guest.receive() {
            let number = frame[14..18].try_into().unwrap();
            assert_eq!(frame, broadcast(u32::from_le_bytes(number)), "a whole broadcast");
            numbers.push(u32::from_le_bytes(number));
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    numbers
}

#[test]
fn each_broadcast_comes_once_whatever_is_switched() {
    let _alone = alone();
    let mut rig = Rig::start();
    let (sent, came) = under_broadcasts(&mut rig, |rig| {
        for _ in 0..20 {
            rig.switch();
            rig.run_for(Duration::from_millis(2));
        }
    });
    let twice = rig.system.switchboard().counters().rx_twice.get();
    eprintln!("{sent} broadcasts, {twice} came through both NICs");
    assert_eq!(came, sent);
    assert!(twice > 20, "both NICs received for a while in each switch: {twice}");
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn in_failovers_broadcasts_come_at_most_once() {
    let _alone = alone();
    let mut rig = Rig::start_without_app();
    let port = rig.lan("broadcaster");
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    let (mut gaps, stop) = (Vec::new(), AtomicBool::new(false));
    let (sent_ns, came) = std::thread::scope(|scope| {
        let taker = scope.spawn(|| take_broadcasts(&mut guest, &stop));
        let _end = StopAtEnd(&stop);
        let sent_ns = broadcast_while(&port, || {
            for _ in 0..10 {
                // Frames that the NIC has received and the driver has not yet fetched are lost with
                // the domain.
                let from_ns = monotonic_ns() - 5_000_000;
                rig.crash_active();
                let to_ns = rig.wait_failover().first_sent_ns.expect("a first frame");
                gaps.push(from_ns..to_ns + 5_000_000);
                rig.wait_whole();
            }
        });
        stop.store(true, Ordering::Relaxed);
        (sent_ns, taker.join().unwrap())
    });
    let mut seen = BTreeSet::new();
    for number in came {
        assert!(seen.insert(number), "broadcast {number} of {} came twice", sent_ns.len());
    }
    let in_a_gap = |at_ns: &u64| gaps.iter().any(|gap| gap.contains(at_ns));
    let lost = (1..).zip(&sent_ns).filter(|(number, _)| !seen.contains(number));
    let outside: Vec<_> = lost.filter(|(_, at_ns)| !in_a_gap(at_ns)).collect();
    assert!(outside.is_empty(), "lost outside of gaps, of {}: {outside:?}", sent_ns.len());
}

/// Returns the frames that arrive at a port within this time.
fn listen(port: &Arc<Port>, time: Duration) -> Vec<Vec<u8>> {
    let end = Instant::now() + time;
    let mut frames = Vec::new();
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    while Instant::now() < end {
        while let Some(len) = port.receive(&mut buffer) {
            frames.push(buffer[..len].to_vec());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    frames
}

#[test]
fn the_guests_address_is_announced_at_a_takeover_and_again() {
    let _alone = alone();
    let mut rig = Rig::start_with(|topology| topology.announce.again_ms = vec![2, 30]);
    let port = rig.wires.switch("lan").attach("listener").unwrap();
    listen(&port, Duration::from_millis(1));
    rig.crash_active();
    rig.wait_failover();
    let guest = rig.topology.apps[0].mac.0;
    let frames = listen(&port, Duration::from_millis(100));
    let own = frames.iter().filter(|frame| frame[6..12] == guest && frame[..6] == [0xff; 6]);
    let own: Vec<_> = own.collect();
    // An ARP request of the guest for itself: 10.77.0.2 as sender and as target.
    let address = [10, 77, 0, 2];
    for frame in &own {
        assert_eq!((&frame[12..14], &frame[20..22]), (&[8, 6][..], &[0, 1][..]));
        assert_eq!((&frame[28..32], &frame[38..42]), (&address[..], &address[..]));
    }
    assert_eq!(own.len(), 3, "at once, after 2 and after 30 ms");
    rig.wait_whole();
    rig.assert_service_whole();
}
