//! A guest on VLANs and in a multicast group: when its port changes, the network hears it in each
//! of them within milliseconds, though the guest itself is silent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nic::wire::{MAX_FRAME_BYTES, Port, Wire};
use warmspare_tests::frontend::{Connection, TestGuest};
use warmspare_tests::rig::{Rig, StopAtEnd, alone};

const CHANGES: usize = 10;
/// Limit on the median: inbound service is back.
const LIMIT: Duration = Duration::from_millis(10);
/// Longer than the last repetition of an announcement (20 ms), and than frames wait for their
/// confirmation.
const QUIET: Duration = Duration::from_millis(40);

const CUSTOMER: [u8; 4] = [0x81, 0, 0, 100];
const SERVICE: [u8; 4] = [0x88, 0xa8, 0, 7];
const GROUP: [u8; 4] = [239, 1, 2, 3];

/// What the guest has said once, and what is to be heard for it: the tags, and the EtherType with
/// what follows.
fn said() -> [(Vec<u8>, Vec<u8>); 3] {
    let claim = |last| {
        let mut arp = vec![8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, last];
        arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, last]);
        arp
    };
    // IGMPv2 with a router alert, to the group; its checksums are nobody's business here.
    let mut report = vec![8, 0, 0x46, 0xc0, 0, 32, 0, 0, 0x40, 0, 1, 2, 0, 0, 10, 0, 0, 1];
    report.extend([&GROUP[..], &[0x94, 4, 0, 0, 0x16, 0, 0, 0], &GROUP].concat());
    [
        (CUSTOMER.to_vec(), claim(1)),
        ([SERVICE, CUSTOMER].concat(), claim(2)),
        (CUSTOMER.to_vec(), report),
    ]
}

/// Which of what was said a frame of the guest says.
fn which(frame: &[u8]) -> Option<usize> {
    said().iter().position(|(tags, body)| {
        let at = 12 + tags.len();
        let kind = frame.get(at..at + 2);
        let is_report = body[0..2] == [8, 0];
        let same = match is_report {
            // The group stands at the end.
            true => frame.get(at + 30..at + 34) == Some(&GROUP),
            false => frame.get(at + 16..at + 20) == Some(&body[16..20]),
        };
        frame[12..at] == tags[..] && kind == Some(&body[..2]) && same
    })
}

/// A frame that the guest ignores.
fn broadcast() -> [u8; 60] {
    let mut frame = [0xff; 60];
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 0x42, 0x88, 0xb5]);
    frame
}

/// Everything that a port receives from the guest until it is told to stop.
fn listen(port: &Port, guest: [u8; 6], stop: &AtomicBool) -> Vec<(Instant, usize)> {
    let mut heard = Vec::new();
    let mut buffer = vec![0; MAX_FRAME_BYTES];
    while !stop.load(Ordering::Relaxed) {
        while let Some(len) = port.receive(&mut buffer) {
            let frame = &buffer[..len];
            if frame[6..12] == guest {
                heard.extend(which(frame).map(|which| (Instant::now(), which)));
            }
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    heard
}

/// Changes the guest's port, and returns how long each thing that it had said was not heard again,
/// medians.
fn unheard(change: impl Fn(&Rig, &Port)) -> Vec<Duration> {
    let mut rig = Rig::start_without_app();
    let port = rig.lan("listener");
    let mut guest = TestGuest::new();
    let mac = guest.mac;
    let _connection = Connection::start(rig.socket(), &guest);
    for (tags, mut body) in said() {
        if body[..2] == [8, 6] {
            body[10..16].copy_from_slice(&mac);
        }
        guest.send(&[&[0xff; 6][..], &mac, &tags, &body].concat());
    }
    // Frames that wait for the guest's buffers would hold up the standby's drill.
    guest.offer_buffers();
    rig.run_for(QUIET);
    let stop = AtomicBool::new(false);
    let (changes, heard) = std::thread::scope(|scope| {
        let listener = scope.spawn(|| listen(&port, mac, &stop));
        let _end = StopAtEnd(&stop);
        let mut changes = Vec::new();
        for _ in 0..CHANGES {
            changes.push(Instant::now());
            change(&rig, &port);
            std::thread::sleep(QUIET);
            rig.wait_whole();
        }
        stop.store(true, Ordering::Relaxed);
        (changes, listener.join().unwrap())
    });
    let after = |change: &Instant, which| {
        let first = heard.iter().find(|(at, heard)| at > change && *heard == which);
        first.map_or(Duration::MAX, |(at, _)| at.duration_since(*change))
    };
    let median = |which| {
        let mut times: Vec<_> = changes.iter().map(|change| after(change, which)).collect();
        times.sort();
        eprintln!("heard after {times:?}");
        times[CHANGES / 2]
    };
    (0..said().len()).map(median).collect()
}

#[test]
fn a_silent_guest_is_heard_in_its_vlans_and_groups_after_each_takeover() {
    let _alone = alone();
    let medians = unheard(|rig, port| {
        rig.crash_active();
        // An idle driver runs its code when there is something to do.
        port.send(&broadcast());
        rig.wait_failover();
    });
    assert!(medians.iter().all(|median| *median <= LIMIT), "{medians:?}");
}

#[test]
fn a_silent_guest_is_heard_in_its_vlans_and_groups_after_each_planned_switch() {
    let _alone = alone();
    let medians = unheard(|rig, _| {
        rig.switch();
    });
    assert!(medians.iter().all(|median| *median <= LIMIT), "{medians:?}");
}
