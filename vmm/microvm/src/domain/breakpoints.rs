//! A debugger's breakpoints in one life. Each is an `int3`, since KVM may offer no hardware
//! breakpoints where it is itself nested.
//!
//! ```text
//!  program meets int3 ─▶ vCPU thread: known here?  ── yes, wanted ─▶ RIP back, held, debugger told
//!                              │ no                └─ not wanted ──▶ RIP back, byte back, goes on
//!                              └ no int3 there any more: RIP back, goes on; else it is a crash
//! ```
//! When the domain has to serve, breakpoints are not wanted any more from that very moment, without
//! a lock; the bytes follow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::eventfd::signal;
use super::holds::Holds;
use super::int3::{INT3, address_of_int3};
use crate::kvm::{CrashRecord, MicroVm};
use platform::memory::{MemoryError, SharedMemory};

/// The breakpoints of one life.
pub(super) struct Breakpoints {
    table: Mutex<Table>,
    wanted: AtomicBool,
    /// A debugger is there.
    attached: AtomicBool,
    /// Written when one was met; read by the debugger.
    pub(super) met: EventFd,
}

#[derive(Default)]
struct Table {
    /// Address, and the byte that belongs there.
    bytes: BTreeMap<u64, u8>,
    stop: Option<Stop>,
    /// The memory is another life's by now: none is set or taken away.
    over: bool,
}

/// The vCPU stands before a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) address: u64,
    /// Of the hold that the vCPU thread began.
    pub(super) generation: u32,
}

impl Breakpoints {
    pub(super) fn new(met: EventFd) -> Self {
        let (table, off) = (Mutex::default(), || AtomicBool::new(false));
        Self { table, wanted: off(), attached: off(), met }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Entries are added and removed whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A debugger comes. Returns true if it may: there is none yet.
    pub(super) fn attach(&self) -> bool {
        let first = !self.attached.swap(true, Ordering::SeqCst);
        if first {
            self.wanted.store(true, Ordering::SeqCst);
        }
        first
    }

    /// From this moment on none stops the program. On the failover path.
    pub(super) fn disarm(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }

    pub(super) fn are_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// The life is over, and its memory about to be another's: nothing is written to it any more.
    pub(super) fn forget(&self) {
        self.disarm();
        let mut table = self.table();
        table.bytes.clear();
        table.over = true;
    }

    /// Runs `write` unless the memory is another life's by now.
    pub(super) fn unless_over<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        let table = self.table();
        (!table.over).then(write)
    }

    /// The debugger goes, and the breakpoints with it; what remains is a stop that it has not
    /// taken.
    pub(super) fn detach(&self, ram: &SharedMemory) -> Option<Stop> {
        self.disarm();
        let stop = self.clear(ram);
        let _ = self.met.read();
        self.attached.store(false, Ordering::SeqCst);
        stop
    }

    /// Sets one, if there is none.
    pub(super) fn set(&self, ram: &SharedMemory, address: u64) -> Result<(), MemoryError> {
        let mut table = self.table();
        if table.over || table.bytes.contains_key(&address) {
            return Ok(());
        }
        let mut byte = [0];
        ram.read(address, &mut byte)?;
        // Before the byte: the program may meet it at once.
        table.bytes.insert(address, byte[0]);
        ram.write(address, &[INT3])
    }

    /// Takes one away, if there is one.
    pub(super) fn remove(&self, ram: &SharedMemory, address: u64) {
        let mut table = self.table();
        if let Some(byte) = table.bytes.remove(&address) {
            // It could be read there, so it can be written.
            let _ = ram.write(address, &[byte]);
        }
    }

    fn clear(&self, ram: &SharedMemory) -> Option<Stop> {
        let mut table = self.table();
        for (address, byte) in std::mem::take(&mut table.bytes) {
            let _ = ram.write(address, &[byte]);
        }
        table.stop.take()
    }

    /// Puts the bytes that belong there over what was read from `address` on.
    pub(super) fn hide(&self, address: u64, bytes: &mut [u8]) {
        let end = address.saturating_add(bytes.len() as u64);
        for (&at, &byte) in self.table().bytes.range(address..end) {
            bytes[(at - address) as usize] = byte;
        }
    }

    pub(super) fn take_stop(&self) -> Option<Stop> {
        let _ = self.met.read();
        self.table().stop.take()
    }

    /// For the vCPU thread: whether this exception is a breakpoint's, and the program can run on
    /// when it is let in again.
    pub(super) fn meet(
        &self,
        vm: &mut MicroVm,
        ram: &SharedMemory,
        holds: &Holds,
        mut record: CrashRecord,
    ) -> bool {
        let Some(address) = address_of_int3(&record) else { return false };
        let mut table = self.table();
        let wanted = self.are_wanted();
        match table.bytes.get(&address).copied() {
            Some(byte) if !wanted => {
                table.bytes.remove(&address);
                let _ = ram.write(address, &[byte]);
            }
            Some(_) => {}
            None if is_int3(ram, address) => return false,
            // It was taken away just after the program had met it.
            None => {}
        }
        record.registers.rip = address;
        if vm.complete_record(&mut record).is_err() || vm.set_registers(&record.registers).is_err()
        {
            return false;
        }
        if wanted && table.bytes.contains_key(&address) {
            table.stop = Some(Stop { address, generation: holds.add() });
            signal(&self.met);
        }
        true
    }
}

fn is_int3(ram: &SharedMemory, address: u64) -> bool {
    let mut byte = [INT3];
    // Outside RAM there is no breakpoint of ours.
    let _ = ram.read(address, &mut byte);
    byte == [INT3]
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    #[test]
    fn breakpoints_hide_and_go_without_a_trace() {
        let ram = SharedMemory::new(c"test", 4096).unwrap();
        ram.write(100, &[1, 2, 3]).unwrap();
        let points = Breakpoints::new(EventFd::new(EFD_NONBLOCK).unwrap());
        points.set(&ram, 101).unwrap();
        points.set(&ram, 101).unwrap();
        let mut seen = [0; 3];
        ram.read(100, &mut seen).unwrap();
        assert_eq!(seen, [1, INT3, 3]);
        points.hide(100, &mut seen);
        assert_eq!(seen, [1, 2, 3]);
        points.remove(&ram, 101);
        points.set(&ram, 102).unwrap();
        assert!(points.clear(&ram).is_none());
        ram.read(100, &mut seen).unwrap();
        assert_eq!(seen, [1, 2, 3]);
        assert!(points.set(&ram, 4096).is_err(), "outside memory there is none");

        // Another life's program is there now.
        points.set(&ram, 100).unwrap();
        points.forget();
        ram.write(100, &[9]).unwrap();
        points.set(&ram, 101).unwrap();
        assert!(points.clear(&ram).is_none());
        assert!(points.unless_over(|| ()).is_none());
        ram.read(100, &mut seen).unwrap();
        assert_eq!(seen, [9, 2, 3]);
    }
}
