//! A software model of an Intel igb NIC, as its registers, descriptor rings and interrupts behave
//! on an i210: one receive and one transmit queue, five vectors of which the first two are heard.
//!
//! ```text
//!  vCPU thread                            engine thread "nic-NAME"
//!  load, store ─▶ bar ─▶ registers ─────▶ tx ─ fetch ─ assemble ─ offload ─▶ wire.send
//!                  │     (atomics)  ─────▶ rx ─ filter ─ fill ─ write back ◀─ wire.receive
//!                  └─ doorbell (eventfd) ─▶ │
//!  vector 0, 1 (eventfds) ◀── interrupts ◀──┘      all memory through dma, a window of areas
//! ```
//!
//! It is strict where the real part is and QEMU's model is not, because a driver that passes here
//! has to work there: descriptors are fetched ahead and then stale, a ring cannot be moved while
//! its queue is on, a tail that is written while it is off is lost, ENABLE reads 1 until the queue
//! has drained, frames wait for the link, PAYLEN and IFCS must be right. A driver that misbehaves
//! loses frames and is counted; it can neither stop the engine nor reach memory outside the window.
//! Registers with which a NIC attaches and does not work do what their wrong values mean
//! ([`settings`]), and survive what they survive on the real part.
//!
//! Not modelled: queues 1 to 3, VLAN filters and tags, RSS, SCTP checksums, flow control, wake-up,
//! time stamps, launch times, a PHY that negotiates less than 1 Gb/s, what only the 82576 has (VMDq,
//! RTTDCS); packets that find no descriptor are lost at once, without a buffer on the chip; a
//! negotiation takes half a second, a cable that is plugged in no time.

mod arrivals;
mod bar;
mod boundary;
mod cache;
mod coalescing;
mod device;
mod dma;
mod doorbell;
mod engine;
mod filter;
mod frame_check;
mod gather;
mod interrupts;
mod loopback;
mod offload;
mod phy;
mod queue;
mod rx;
mod segment;
mod settings;
mod statistics;
mod stored;
mod tx;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use vmm_sys_util::eventfd::EventFd;

use self::device::Device;
use self::engine::Engine;
use self::queue::Phase;
use self::statistics::Counter;
use self::stored::Reset;
use crate::added::{Added, AddedAddresses};
use crate::error::NicError;
use crate::interface::{BarAccess, BarRegisters, DmaArea, Nic};
use crate::pristine::Pristine;
use crate::registers::{self as reg, icr, queue as queue_bits, rctl, tctl};
use crate::totals::NicCounters;
use crate::wire::Wire;
use platform::budget::{
    EMULATED_DRAIN_POLL, NIC_BOUNDARY_DEADLINE, NIC_DRAIN_DEADLINE, NIC_ENGINE_TURN,
};
use platform::realtime::{self, Priority};

/// What a driver did that hardware would not have forgiven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Accesses to memory outside the NIC's areas.
    pub dma: u64,
    /// Descriptors, or packets made of them, that contradict themselves.
    pub descriptors: u64,
}

/// A NIC in software. Dropping it stops its engine.
pub struct EmulatedNic {
    name: String,
    device: Arc<Device>,
    pristine: Pristine,
    added: Added,
    engine: Mutex<Option<JoinHandle<()>>>,
}

impl EmulatedNic {
    /// A NIC with the factory address `mac` on `wire`. Like a real one it comes up with bus
    /// mastering off: [`Nic::enable_bus_master`] comes before the first driver.
    ///
    /// # Errors
    /// No descriptors or threads are left, or the name has a zero byte.
    pub fn new(name: &str, mac: [u8; 6], wire: Arc<dyn Wire>) -> Result<Arc<Self>, NicError> {
        let failed = |what| move |source| NicError::System { name: name.to_owned(), what, source };
        if name.contains('\0') {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "a zero byte in the name");
            return Err(failed("name its thread")(source));
        }
        let device = Device::new(mac, wire).map_err(failed("create its eventfds"))?;
        let device = Arc::new(device);
        let pristine = Pristine::of(&*device);
        let engine = start_engine(name, &device).map_err(failed("start its engine"))?;
        let engine = Mutex::new(Some(engine));
        let added = Added::new().map_err(failed("make a lock"))?;
        Ok(Arc::new(Self { name: name.to_owned(), device, pristine, added, engine }))
    }

    /// What its drivers did wrong so far.
    pub fn faults(&self) -> Faults {
        Faults {
            dma: self.device.dma.faults(),
            descriptors: self.device.descriptor_faults.load(Ordering::Relaxed),
        }
    }

    fn error(&self, what: &'static str, kind: io::ErrorKind) -> NicError {
        NicError::System { name: self.name.clone(), what, source: kind.into() }
    }

    /// Waits until the engine has seen everything that was stored before.
    fn settle(&self, what: &'static str) -> Result<(), NicError> {
        let ticket = self.device.ask_engine();
        self.wait_for(ticket, what)
    }

    fn wait_for(&self, ticket: u64, what: &'static str) -> Result<(), NicError> {
        // An engine that broke is out of memory for good, but there is no use going on with it.
        if self.device.dead.load(Ordering::SeqCst) {
            return Err(self.error(what, io::ErrorKind::BrokenPipe));
        }
        let answered = self.device.boundary.wait(ticket, NIC_BOUNDARY_DEADLINE);
        if answered { Ok(()) } else { Err(self.error(what, io::ErrorKind::TimedOut)) }
    }

    /// Replaces an engine that broke. A new one knows nothing of what the old one was at, and a
    /// reset follows, so nothing that was left half done is relied on.
    fn revive(&self) -> Result<(), NicError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.device.dead.load(Ordering::SeqCst) {
            return Ok(());
        }
        if engine.as_ref().is_some_and(|engine| !engine.is_finished()) {
            // It is about to end; the next reset finds that it has.
            return Ok(());
        }
        let started = start_engine(&self.name, &self.device);
        let failed = |source| NicError::System {
            name: self.name.clone(),
            what: "start its engine again",
            source,
        };
        *engine = Some(started.map_err(failed)?);
        self.device.dead.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Gives the queues the time to send what they had fetched.
    fn drain(&self) {
        let device = &self.device;
        let deadline = Instant::now() + NIC_DRAIN_DEADLINE;
        let is_off = || {
            [&device.rx, &device.tx].iter().all(|queue| queue.position().phase == Phase::Disabled)
        };
        while !is_off() && Instant::now() < deadline {
            std::thread::sleep(EMULATED_DRAIN_POLL);
        }
    }
}

/// Starts the thread "nic-NAME".
fn start_engine(name: &str, device: &Arc<Device>) -> io::Result<JoinHandle<()>> {
    let engine = Engine::new(device.clone());
    let own_name = name.to_owned();
    let thread_name = format!("nic-{name}");
    realtime::spawn(&thread_name, Some(Priority::Nic), move || engine.run(&own_name))
}

impl Nic for EmulatedNic {
    fn name(&self) -> &str {
        &self.name
    }

    /// Takes effect at once: after it returned, at most the frame that the engine has in hand goes
    /// out or comes in (of a packet that is cut into segments, the segment).
    fn shut_units(&self) {
        self.added.forget_open();
        self.device.receive_control.fetch_and(!rctl::EN, Ordering::SeqCst);
        self.device.transmit_control.fetch_and(!tctl::EN, Ordering::SeqCst);
    }

    fn open_filters(&self) {
        self.device.filters.accept(self.device.mac);
        self.device.filters.accept_others();
        self.device.receive_control.fetch_or(rctl::BAM | rctl::MPE, Ordering::SeqCst);
        self.added.open(&*self.device);
    }

    fn set_added(&self, added: &AddedAddresses) {
        self.added.set(&*self.device, added);
    }

    fn driver_opened(&self) {
        self.added.open(&*self.device);
    }

    fn is_promiscuous(&self) -> bool {
        self.added.is_promiscuous()
    }

    fn spoilt_address(&self, number: usize) -> Option<(u32, u32, u32)> {
        self.added.compare(&*self.device, number)
    }

    fn take_sent(&self) -> u32 {
        self.device.statistics.take(Counter::Gptc)
    }

    fn link_up(&self) -> bool {
        self.device.link_up()
    }

    fn shut_filters(&self) {
        self.added.shut(&*self.device);
        let open = rctl::BAM | rctl::MPE | rctl::UPE;
        self.device.receive_control.fetch_and(!open, Ordering::SeqCst);
        self.device.filters.refuse();
    }

    fn accept_probes(&self, to: Option<[u8; 6]>) {
        self.device.filters.accept_probes(to);
    }

    fn take_received(&self) -> u32 {
        self.device.statistics.take(Counter::Gprc)
    }

    fn counters(&self) -> NicCounters {
        self.device.totals.counters()
    }

    fn queue_event(&self) -> &EventFd {
        self.device.interrupts.messages.event(0)
    }

    fn link_event(&self) -> &EventFd {
        self.device.interrupts.messages.event(1)
    }

    /// The eventfd itself is left to whoever listens to it.
    fn acknowledge_link(&self) -> bool {
        self.write(reg::ICR, icr::LSC);
        self.write(reg::EICR, reg::VECTOR_OTHER);
        self.write(reg::EIMS, reg::VECTOR_OTHER);
        self.link_up()
    }

    fn map_dma(&self, areas: &[DmaArea]) -> Result<(), NicError> {
        self.device.dma.add(areas).map_err(|source| NicError::System {
            name: self.name.clone(),
            what: "map memory for DMA",
            source,
        })
    }

    /// Queues that do not drain (their link is down) are cut off with the bus, as the real part
    /// resets its DMA when that happens; their rings start anew either way.
    fn quiesce(&self) -> Result<(), NicError> {
        self.write(reg::EIMC, u32::MAX);
        for control in [reg::RXDCTL, reg::TXDCTL] {
            let thresholds = self.read(control) & !queue_bits::ENABLE;
            self.write(control, thresholds);
        }
        self.drain();
        self.device.set_bus_master(false);
        self.device.rx.force_off();
        self.device.tx.force_off();
        self.settle("stop")
    }

    fn enable_bus_master(&self) -> Result<(), NicError> {
        self.pristine.restore(&*self.device, &self.name);
        self.device.set_bus_master(true);
        self.settle("enable bus mastering")
    }

    /// A function-level reset: every register is as after power-on. The link survives if the PHY was
    /// at work, and so do the memory window and bus mastering. An engine that broke is replaced.
    fn reset(&self) -> Result<(), NicError> {
        self.revive()?;
        self.device.semaphore.store(0, Ordering::Release);
        let ticket = self.device.reset(Reset::Function);
        self.wait_for(ticket, "reset")
    }

    fn trouble(&self) -> Option<String> {
        self.device.wire.trouble()
    }

    fn is_present(&self) -> bool {
        self.device.wire.is_present()
    }

    fn bar(&self) -> BarAccess<'_> {
        BarAccess::Trapped(self)
    }

    fn stamps_first_sent(&self) -> bool {
        true
    }

    fn arm_first_sent(&self) {
        self.device.first_sent_ns.store(0, Ordering::Release);
        self.device.arrivals.forget_refused();
    }

    fn first_sent_ns(&self) -> Option<u64> {
        Some(self.device.first_sent_ns.load(Ordering::Acquire)).filter(|&stamp_ns| stamp_ns != 0)
    }

    fn unpublished_since_ns(&self, next: u32) -> Option<u64> {
        let head = self.device.rx.position().head;
        self.device.arrivals.oldest_ns(next, head.into())
    }

    fn spoilt_register(&self, number: usize) -> Option<(u32, u32, u32)> {
        self.pristine.compare(&*self.device, number)
    }

    fn progress(&self) -> u64 {
        self.device.progress.load(Ordering::Relaxed)
    }

    fn peek(&self, register: u32) -> u32 {
        self.device.read(register)
    }

    fn poke(&self, register: u32, value: u32) {
        self.device.write(register, value);
    }
}

impl BarRegisters for EmulatedNic {
    fn read(&self, offset: u32) -> u32 {
        if self.device.waits_for_engine(offset) {
            // A driver asks again and again, on a thread that goes before the engine's: where the
            // other processors are taken, it would ask in vain.
            std::thread::sleep(NIC_ENGINE_TURN);
        }
        self.device.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.device.write(offset, value);
    }
}

impl Drop for EmulatedNic {
    fn drop(&mut self) {
        self.device.stop.store(true, Ordering::Release);
        self.device.doorbell.ring();
        let engine = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engine.take() {
            // The engine ends within one turn of its loop; its panics were caught inside.
            let _ = engine.join();
        }
    }
}

#[cfg(test)]
mod tests;
