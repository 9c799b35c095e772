//! The whole system on real KVM: faults are real, the truth comes from the sender outside.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lab::fault::{self, Site};
use shared_ring::entry::Slot;
use shared_ring::layout;
use shared_ring::{Entry, EntryFlags};
use supervisor::{Event, FailoverReport, Verdict};
use warmspare_tests::rig::Rig;

const A_WHILE: Duration = Duration::from_millis(60);

/// Corrupts the active domain's code and checks that the other one takes over.
fn crash_once(rig: &Rig, site: Site) {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    fault::corrupt_code(rig.slot(failed), life.image(), site).unwrap();
    // It may have nothing to do; a wake-up is enough to meet the fault in its loop.
    rig.slot(failed).kick.write(1).unwrap();
    let report = rig.wait_failover();
    assert_eq!(report.record.from, failed);
    assert!(matches!(report.record.verdict, Verdict::Crash(_)), "{:?}", report.record.verdict);
}

#[test]
fn a_crash_in_each_path_ends_in_a_failover() {
    let rig = Rig::start();
    for site in Site::ALL {
        let failed = rig.active();
        crash_once(&rig, site);
        assert_ne!(rig.active(), failed);
        rig.wait_whole();
        rig.run_for(A_WHILE);
    }
    rig.assert_service_whole();
}

#[test]
fn without_a_spare_the_domain_is_restarted_in_place() {
    let rig = Rig::start_without_spare();
    crash_once(&rig, Site::Loop);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_crash_while_the_spare_is_being_rebuilt_is_survived() {
    let rig = Rig::start();
    crash_once(&rig, Site::Loop);
    let second = rig.active();
    let life = rig.system.failover().life(second).unwrap();
    fault::corrupt_code(rig.slot(second), life.image(), Site::Loop).unwrap();
    rig.wait_failover();
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

/// Switches a NIC's transmit unit off behind its driver's back: what the driver hands it stays there.
fn jam_transmitter(slot: &microvm::domain::DomainSlot) {
    let nic::BarAccess::Trapped(registers) = slot.nic.bar() else {
        panic!("an emulated NIC traps its registers");
    };
    registers.write(nic::registers::TCTL, 0);
}

/// Both transmitters are jammed, so the same frames are in hand when the first and when the second
/// domain fails: they are poison, and must not kill a third one.
#[test]
fn a_frame_in_hand_at_two_failures_is_dropped_and_kept() {
    let rig = Rig::start();
    rig.system.slots().iter().for_each(|slot| jam_transmitter(slot));
    let first = rig.wait_failover();
    let second = rig.wait_failover();
    assert_ne!(first.record.from, second.record.from);
    rig.wait_whole();
    let counters = rig.system.switchboard().counters();
    assert!(counters.tx_poisoned.get() >= 1);
    assert!(!rig.system.switchboard().quarantine().is_empty());
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

/// Plays a domain gone wrong: writes entries into its RX_DONE ring as if it had published them.
fn forge_received(rig: &Rig, entry: Entry) {
    let slot = rig.slot(rig.active());
    let published = &slot.status().rx_done_published.0;
    let cursor = published.load(Ordering::Acquire);
    let index = u64::from(cursor) % layout::RING_ENTRIES as u64;
    let address = layout::RX_DONE_BASE + index * shared_ring::entry::ENTRY_BYTES as u64;
    slot.ram.shape::<Slot>(address).unwrap().store(entry);
    published.store(cursor.wrapping_add(1), Ordering::Release);
    slot.notify.write(1).unwrap();
}

/// Does wrong until it is noticed: the domain itself may publish over it before anybody has looked.
fn provoke(rig: &Rig, wrong: impl Fn(&Rig)) -> FailoverReport {
    for _ in 0..20 {
        wrong(rig);
        let end = Instant::now() + Duration::from_secs(1);
        let left =
            || rig.system.events().recv_timeout(end.saturating_duration_since(Instant::now()));
        while let Ok(event) = left() {
            if let Event::Failover(report) = event {
                return *report;
            }
        }
    }
    panic!("nobody noticed, twenty times");
}

fn epoch(rig: &Rig) -> u16 {
    rig.system.failover().state(rig.active()).1 as u16
}

#[test]
fn malformed_entries_end_in_a_failover_and_nothing_else() {
    let rig = Rig::start();
    let good = Entry { buffer: 1, len: 100, epoch: epoch(&rig), ..Entry::default() };
    type Forge = fn(Entry) -> Entry;
    let forged: [(&str, Forge); 5] = [
        ("unknown buffer", |e| Entry { buffer: 5000, ..e }),
        ("too long", |e| Entry { len: 5000, ..e }),
        ("too short", |e| Entry { len: 3, ..e }),
        ("unknown flag", |e| Entry { flags: EntryFlags(0x8000), ..e }),
        ("of another life", |e| Entry { epoch: e.epoch.wrapping_add(9), ..e }),
    ];
    for (what, forge) in forged {
        let failed = rig.active();
        let forge = |rig: &Rig| forge_received(rig, forge(Entry { epoch: epoch(rig), ..good }));
        let report = provoke(&rig, forge);
        assert_eq!(report.record.from, failed, "{what}");
        assert!(matches!(report.record.verdict, Verdict::Protocol(_)), "{what}: {report:?}");
        rig.wait_whole();
        rig.run_for(A_WHILE);
    }
    rig.assert_service_whole();
}

#[test]
fn a_buffer_that_no_frame_was_written_to_ends_in_a_failover() {
    let rig = Rig::start();
    // All buffers of an idle instant are provided and cleared: the domain claims to have received
    // into the last one, which the NIC has not reached yet.
    let stale = Entry {
        buffer: layout::RX_BUFFERS as u16 - 1,
        len: 100,
        epoch: epoch(&rig),
        ..Entry::default()
    };
    let report = provoke(&rig, |rig| forge_received(rig, stale));
    assert!(matches!(report.record.verdict, Verdict::Protocol(_)), "{report:?}");
    rig.wait_whole();
    rig.assert_service_whole();
}

#[test]
fn an_impossible_cursor_ends_in_a_failover() {
    let rig = Rig::start();
    let report = provoke(&rig, |rig| {
        let slot = rig.slot(rig.active());
        let cursor = &slot.status().rx_done_published.0;
        cursor.store(cursor.load(Ordering::Acquire).wrapping_add(70_000), Ordering::Release);
        slot.notify.write(1).unwrap();
    });
    assert!(matches!(report.record.verdict, Verdict::Protocol(_)), "{report:?}");
    rig.wait_whole();
    rig.assert_service_whole();
}

#[test]
fn a_paused_spare_uses_no_cpu() {
    let rig = Rig::start();
    let active = rig.active();
    let spare = rig.system.slots().iter().find(|slot| slot.id != active).unwrap().id;
    let spare = rig.system.failover().life(spare).unwrap();
    let clock = spare.cpu_clock();
    let before_ns = clock.now_ns().unwrap();
    rig.run_for(Duration::from_millis(900));
    let used_ns = clock.now_ns().unwrap() - before_ns;
    eprintln!("{used_ns} ns of CPU in 0.9 s");
    // Its thread looks once a second whether it should end: that moment may be in between.
    assert!(used_ns < 1_000_000, "{used_ns} ns of CPU");
    rig.assert_service_whole();
}

#[test]
fn twelve_failovers_leave_memory_and_descriptors_flat() {
    let rig = Rig::start();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    crash_once(&rig, Site::Loop);
    rig.wait_whole();
    let before = descriptors();
    for n in 0..12 {
        rig.run_for(Duration::from_millis(10));
        crash_once(&rig, Site::ALL[n % 3]);
        rig.wait_whole();
    }
    // Tests beside this one open and close their own.
    assert!(descriptors() <= before + 40, "{before} descriptors became {}", descriptors());
    rig.assert_service_whole();
}
