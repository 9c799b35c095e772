//! Link changes are told by the NICs' own vector: nobody asks, so more NICs cost nothing more.

use std::fs;
use std::time::Duration;

use warmspare::domain::DomainId;
use warmspare::supervisor::Event;
use warmspare::topology::{DomainSpec, EmulatedSpec, MAX_DOMAINS, NicSpec, WireSpec};
use warmspare_tests::rig::Rig;

const SILENCE: Duration = Duration::from_millis(600);

/// A system of so many domains, each with its own NIC, and a guest that nobody talks to.
fn idle_system(domains: usize) -> Rig {
    let mut rig = Rig::start_with(|topology| {
        let domain = |n: usize| DomainSpec {
            name: format!("d{n}"),
            nic: NicSpec::Emulated(EmulatedSpec {
                name: format!("nic-d{n}"),
                wire: WireSpec::Switch("lan".into()),
            }),
        };
        topology.domains = (0..domains).map(domain).collect();
    });
    rig.finish_traffic();
    rig
}

/// How often the supervisor thread has gone to sleep since it was started.
fn supervisor_sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("our threads");
    let counts = tasks.flatten().filter_map(|task| {
        // A thread may end while we look.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        let count = line.split_whitespace().nth(1)?.parse().ok()?;
        (name.trim() == "supervisor").then_some(count)
    });
    let counts: Vec<u64> = counts.collect();
    assert_eq!(counts.len(), 1, "one supervisor thread");
    counts[0]
}

/// How often the supervisor wakes while nothing happens.
fn wakes_in_silence(rig: &Rig) -> u64 {
    let before = supervisor_sleeps();
    rig.run_for(SILENCE);
    supervisor_sleeps() - before
}

/// Every NIC's cable is pulled and plugged in again, and each change is told of.
fn assert_every_link_is_watched(rig: &Rig, domains: usize) {
    for index in 0..domains {
        let id = DomainId(index as u8);
        for up in [false, true] {
            rig.set_link(id, up);
            rig.wait_event(|event| match event {
                Event::Link { nic, up: now } if nic == rig.slot(id).nic.name() && now == up => {
                    Some(())
                }
                _ => None,
            });
        }
        rig.wait_whole();
    }
}

#[test]
fn link_supervision_costs_the_same_with_two_nics_and_with_eight() {
    let wakes = [2, MAX_DOMAINS].map(|domains| {
        let rig = idle_system(domains);
        let wakes = wakes_in_silence(&rig);
        assert_every_link_is_watched(&rig, domains);
        wakes
    });
    eprintln!("the supervisor woke {} times for 2 NICs, {} for {MAX_DOMAINS}", wakes[0], wakes[1]);
    // The idle proof of the domain that serves wakes it some times a second, whatever the others
    // are; a poll of six more links would show as a multiple.
    assert!(wakes[1] <= 2 * wakes[0] + 10, "{wakes:?}");
}
