//! The whole system against front-ends: ordinary ones, those with QEMU's habits, and hostile ones.
//! Whatever a front-end does costs its own connection at most; the next one is served.

mod connections;
mod descriptors;
mod fuzz;
mod habits;
mod memory;
mod messages;
mod rings;

use std::sync::{Mutex, MutexGuard, PoisonError};

use warmspare_tests::frontend::{Connection, Station, TestGuest};
use warmspare_tests::rig::Rig;

/// One system at a time: descriptors are counted, and two cores carry one in good time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
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
        let turn = turn();
        let mut rig = Rig::start_without_app();
        let lan = Station::new(&mut rig);
        Self { rig, lan, number: 1000, _turn: turn }
    }

    /// A number that no frame has had.
    fn fresh_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// A fresh guest connects and is served, both ways.
    fn assert_serves(&mut self) {
        let mut guest = TestGuest::new();
        let _connection = Connection::start(self.rig.socket(), &guest);
        self.exchange(&mut guest);
    }

    /// A frame each way.
    fn exchange(&mut self, guest: &mut TestGuest) {
        let number = self.fresh_number();
        guest.exchange(&self.lan, number);
    }
}
