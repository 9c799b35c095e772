//! An engine that breaks.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::*;
use super::bench::{MAC, eventually};
use crate::wire::{EthernetSwitch, Port};

/// A wire with a defect that can be armed: the engine that asks it next panics.
struct DefectiveWire {
    port: Arc<Port>,
    armed: AtomicBool,
}

impl Wire for DefectiveWire {
    fn send(&self, frame: &[u8]) {
        self.port.send(frame);
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        self.port.receive(into)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.port.readable()
    }

    fn link_up(&self) -> bool {
        self.port.link_up()
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "the defect of this test");
        self.port.link_changed()
    }

    fn follow_link(&self) {
        self.port.follow_link();
    }
}

#[test]
fn a_nic_whose_engine_panicked_looks_unplugged_until_a_reset_replaces_it() {
    let port = EthernetSwitch::new().attach("nic").unwrap();
    let wire = Arc::new(DefectiveWire { port, armed: AtomicBool::new(false) });
    let nic = EmulatedNic::new("test", MAC, wire.clone()).unwrap();
    nic.quiesce().unwrap();
    wire.armed.store(true, Ordering::SeqCst);
    eventually("the engine breaks", || nic.peek(reg::STATUS) == reg::ALL_ONES);
    assert!(nic.quiesce().is_err(), "no engine lets go of anything");

    eventually("a reset replaces it", || nic.reset().is_ok());

    assert_ne!(nic.peek(reg::STATUS), reg::ALL_ONES);
    nic.quiesce().unwrap();
    nic.enable_bus_master().unwrap();
}
