//! The whole system on real KVM: faults are real, and the sender outside judges the service.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lab::fault::{self, Site};
use microvm::domain::{DomainSlot, VcpuState};
use shared_ring::entry::Slot;
use shared_ring::layout;
use shared_ring::{Entry, EntryFlags};
use supervisor::Verdict;
use switchboard::{RingName, Violation};
use warmspare_tests::emulation;
use warmspare_tests::rig::{Rig, alone};

const A_WHILE: Duration = Duration::from_millis(60);
/// Number of failovers after which all one-time allocations have been made.
const WARM_UP: usize = 6;
/// Number of failovers over which resource usage must not grow.
const MANY: usize = 40;
/// How much memory may grow over these failovers, in KiB. The sender's ledger takes about 40 KiB
/// for the datagrams of that time; the rest amounts to 12 KiB a failover, which is less than the
/// stack alone of a leaked thread.
const MOST_KIB: usize = 512;

/// Corrupts the active domain's code and checks that the other one takes over.
fn crash_once(rig: &Rig, site: Site) {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    fault::corrupt_code(rig.slot(failed), life.image(), site).unwrap();
    // The domain may have nothing to do; a wake-up is enough for its loop to meet the fault.
    rig.slot(failed).kick.write(1).unwrap();
    let report = rig.wait_failover();
    assert_eq!(report.record.from, failed);
    assert!(matches!(report.record.verdict, Verdict::Crash(_)), "{:?}", report.record.verdict);
}

#[test]
fn a_crash_in_each_path_ends_in_a_failover() {
    let _alone = alone();
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
    let _alone = alone();
    let rig = Rig::start_without_spare();
    crash_once(&rig, Site::Loop);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_crash_while_the_spare_is_being_rebuilt_is_survived() {
    let _alone = alone();
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

/// Switches a NIC's transmit unit off without its driver's knowledge, so that frames the driver
/// hands over stay in the NIC.
fn jam_transmitter(slot: &DomainSlot) {
    let nic::BarAccess::Trapped(registers) = slot.nic.bar() else {
        panic!("an emulated NIC traps its registers");
    };
    registers.write(nic::registers::TCTL, 0);
}

/// Both transmitters are jammed, so the same frames are in hand when the first and when the second
/// domain fails: they count as poison and must not cause a third failure.
#[test]
fn a_frame_in_hand_at_two_failures_is_dropped_and_kept() {
    let _alone = alone();
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

/// Lets `wrong` publish something invalid in a domain's name, and returns the violation that is
/// found. The domain's vCPU is held meanwhile, so that the domain itself does not overwrite what
/// was published: a violation that is not noticed stays unnoticed, and the test fails.
fn provoke(rig: &Rig, wrong: impl Fn(&DomainSlot, u16)) -> Violation {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    let slot = rig.slot(failed);
    let held = life.hold();
    rig.wait("the vCPU to be held", |_| life.state() == VcpuState::Held);
    rig.wait("what it has published to be read", |_| {
        let read = slot.control().rx_done_consumed.0.load(Ordering::Acquire);
        read == slot.status().rx_done_published.0.load(Ordering::Acquire)
    });
    wrong(slot, life.epoch() as u16);
    slot.notify.write(1).unwrap();
    let report = rig.wait_failover();
    drop(held);
    assert_eq!(report.record.from, failed);
    assert_ne!(rig.active(), failed);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    match report.record.verdict {
        Verdict::Protocol(violation) => violation,
        other => panic!("{other}"),
    }
}

/// Returns the slot of entry number `cursor` in a domain's RX_DONE ring.
fn received_entry(slot: &DomainSlot, cursor: u32) -> &Slot {
    let index = u64::from(cursor) % layout::RING_ENTRIES as u64;
    let address = layout::RX_DONE_BASE + index * shared_ring::entry::ENTRY_BYTES as u64;
    slot.ram.shape::<Slot>(address).unwrap()
}

/// Writes an entry into a domain's RX_DONE ring as if the domain had published it.
fn forge_received(slot: &DomainSlot, entry: Entry) {
    let published = &slot.status().rx_done_published.0;
    let cursor = published.load(Ordering::Acquire);
    received_entry(slot, cursor).store(entry);
    published.store(cursor.wrapping_add(1), Ordering::Release);
}

#[test]
fn malformed_entries_end_in_a_failover_and_nothing_else() {
    let _alone = alone();
    let rig = Rig::start();
    const RX_DONE: RingName = RingName::RxDone;
    type Forge = fn(Entry) -> Entry;
    type Found = fn(u16) -> Violation;
    let forged: [(Forge, Found); 5] = [
        (
            |e| Entry { buffer: 5000, ..e },
            |_| Violation::UnknownBuffer { ring: RX_DONE, buffer: 5000 },
        ),
        (|e| Entry { len: 5000, ..e }, |_| Violation::BadLength { buffer: 1, len: 5000 }),
        (|e| Entry { len: 3, ..e }, |_| Violation::BadLength { buffer: 1, len: 3 }),
        (
            |e| Entry { flags: EntryFlags(0x8000), ..e },
            |_| Violation::UnknownFlags { ring: RX_DONE, flags: 0x8000 },
        ),
        (
            |e| Entry { epoch: e.epoch.wrapping_add(9), ..e },
            |epoch| Violation::WrongEpoch {
                ring: RX_DONE,
                found: epoch.wrapping_add(9),
                expected: epoch,
            },
        ),
    ];
    for (forge, found) in forged {
        let epoch = rig.system.failover().state(rig.active()).1 as u16;
        let good = Entry { buffer: 1, len: 100, epoch, ..Entry::default() };
        let violation = provoke(&rig, |slot, _| forge_received(slot, forge(good)));
        assert_eq!(violation, found(epoch));
    }
    rig.assert_service_whole();
}

#[test]
fn a_buffer_that_no_frame_was_written_to_ends_in_a_failover() {
    let _alone = alone();
    let rig = Rig::start();
    let claimed = Cell::new(None);
    let violation = provoke(&rig, |slot, epoch| {
        // The buffer that was read last has been cleared and given back to the NIC behind all
        // others: it is the one that the NIC reaches last.
        let last = slot.status().rx_done_published.0.load(Ordering::Acquire).wrapping_sub(1);
        let buffer = received_entry(slot, last).load().buffer;
        claimed.set(Some(buffer));
        forge_received(slot, Entry { buffer, len: 100, epoch, ..Entry::default() });
    });
    assert_eq!(Some(violation), claimed.get().map(|buffer| Violation::StaleHeader { buffer }));
    rig.assert_service_whole();
}

#[test]
fn an_impossible_cursor_ends_in_a_failover() {
    let _alone = alone();
    let rig = Rig::start();
    let violation = provoke(&rig, |slot, _| {
        let cursor = &slot.status().rx_done_published.0;
        cursor.store(cursor.load(Ordering::Acquire).wrapping_add(70_000), Ordering::Release);
    });
    let is_cursor = matches!(violation, Violation::Cursor { ring: RingName::RxDone, .. });
    assert!(is_cursor, "{violation}");
    rig.assert_service_whole();
}

#[test]
fn a_paused_spare_uses_no_cpu() {
    let _alone = alone();
    // A drill would use some.
    let rig = Rig::start_with(|topology| topology.drill.every_s = 0);
    let active = rig.active();
    let spare = rig.system.slots().iter().find(|slot| slot.id != active).unwrap().id;
    let spare = rig.system.failover().life(spare).unwrap();
    let clock = spare.cpu_clock();
    let before_ns = clock.now_ns().unwrap();
    rig.run_for(Duration::from_millis(900));
    let used_ns = clock.now_ns().unwrap() - before_ns;
    eprintln!("{used_ns} ns of CPU in 0.9 s");
    // The spare's thread checks once a second whether it should end, which may fall into this
    // interval.
    assert!(used_ns < 1_000_000, "{used_ns} ns of CPU");
    rig.assert_service_whole();
}

/// Returns what this process holds: descriptors, threads, and resident memory in KiB.
fn held_by_us() -> [usize; 3] {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    [entries("/proc/self/fd"), entries("/proc/self/task"), kib]
}

#[test]
fn many_failovers_leave_memory_threads_and_descriptors_flat() {
    let _alone = alone();
    let rig = Rig::start();
    let crash_many = |times: usize| {
        for n in 0..times {
            rig.run_for(Duration::from_millis(10));
            crash_once(&rig, Site::ALL[n % 3]);
            rig.wait_whole();
        }
    };
    crash_many(WARM_UP);
    let before = held_by_us();
    // On emulated processors each failover takes a second.
    crash_many(MANY / emulation::slowness().min(4) as usize);
    let after = held_by_us();
    eprintln!("descriptors, threads, KiB: {before:?}, and many failovers later {after:?}");
    let ([descriptors, threads, kib], [descriptors_after, threads_after, kib_after]) =
        (before, after);
    assert_eq!((descriptors_after, threads_after), (descriptors, threads));
    assert!(kib_after <= kib + MOST_KIB, "{kib} KiB became {kib_after}");
    rig.assert_service_whole();
}
