//! The whole system against front-ends: ordinary ones, those with QEMU's habits, and hostile ones.
//! A front-end can break its own connection at most; the next one is served.

mod connections;
mod counting;
mod descriptors;
mod fuzz;
mod habits;
mod hanging;
mod listening;
mod memory;
mod messages;
mod migration;
mod rings;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use supervisor::topology::Topology;
use warmspare_tests::frontend::{Connection, Station, TestGuest, wait};
use warmspare_tests::rig::Rig;

/// Lets one system run at a time: the tests count descriptors, and two cores run one system fast
/// enough.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Bench {
    /// Prints diagnostics if the test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let counters = self.rig.system.switchboard().counters();
            println!("{:?}", counters.each().filter(|(_, n)| *n != 0).collect::<Vec<_>>());
        }
    }
}

/// A system without an application guest, and a station on its LAN.
struct Bench {
    rig: Rig,
    lan: Station,
    number: u32,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// With a changed topology.
    fn with(change: impl FnOnce(&mut Topology)) -> Self {
        let turn = turn();
        let mut rig = Rig::start_without_app_with(change);
        let lan = Station::new(&mut rig);
        Self { rig, lan, number: 1000, _turn: turn }
    }

    /// Returns a number that no frame has had yet.
    fn fresh_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// Checks that a fresh guest can connect and is served in both directions.
    fn assert_serves(&mut self) {
        let mut guest = TestGuest::new();
        let _connection = Connection::start(self.rig.socket(), &guest);
        self.exchange(&mut guest);
    }

    /// Waits until the frames for a guest that has gone have been discarded: a NIC whose queue is
    /// full of them may drop the frames that follow.
    fn settle(&self) {
        let counters = self.rig.system.switchboard().counters();
        let thrown = || counters.rx_no_guest.get() + counters.rx_frames.get();
        let mut last = thrown();
        wait("the last guest's frames to be thrown away", || {
            std::thread::sleep(Duration::from_millis(10));
            let before = std::mem::replace(&mut last, thrown());
            before == last
        });
    }

    /// Sends one frame in each direction.
    fn exchange(&mut self, guest: &mut TestGuest) {
        let number = self.fresh_number();
        guest.exchange(&self.lan, number);
    }
}
