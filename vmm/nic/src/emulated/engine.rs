//! The engine: the thread that moves frames between wire and memory.

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::coalescing::Coalescing;
use super::device::Device;
use super::dma::DmaView;
use super::gather::Gathering;
use super::rx::{Received, Receiver};
use super::tx::Transmitter;
use platform::budget::NIC_HEARTBEAT;
use platform::clock::monotonic_ns;
use platform::readiness::wait_readable;

/// The engine of one NIC. It sleeps until a register, the wire or a timer wants it.
pub(super) struct Engine {
    device: Arc<Device>,
    rx: Receiver,
    tx: Transmitter,
    link_up: bool,
    gathering: Gathering,
    coalescing: Coalescing,
    /// Frames were taken from the wire since the last sleep.
    took: bool,
}

impl Engine {
    pub(super) fn new(device: Arc<Device>) -> Self {
        let link_up = device.link_up();
        Self {
            device,
            rx: Receiver::new(),
            tx: Transmitter::new(),
            link_up,
            gathering: Gathering::default(),
            coalescing: Coalescing::default(),
            took: false,
        }
    }

    /// Runs until the device is told to stop. If it breaks, the device looks unplugged until a reset
    /// replaces the engine.
    pub(super) fn run(mut self, name: &str) {
        let device = self.device.clone();
        match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(nic = name, %error, "NIC engine cannot wait"),
            Err(_) => tracing::error!(nic = name, "NIC engine panicked"),
        }
        device.die();
    }

    fn serve(&mut self) -> std::io::Result<()> {
        let device = self.device.clone();
        let mut rung = false;
        loop {
            device.doorbell.answer(rung);
            device.boundary.answer();
            device.progress.fetch_add(1, Ordering::Relaxed);
            if device.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            self.follow_link();
            let more = self.move_frames(&device);
            let timer_ns = device.interrupts.messages.fire_deferred();
            rung = !more && self.sleep(&device, timer_ns)?;
        }
    }

    /// Sleeps until something wants the engine; returns true if that was the doorbell.
    fn sleep(&mut self, device: &Device, timer_ns: Option<u64>) -> std::io::Result<bool> {
        let (wire, now_ns) = (&device.wire, monotonic_ns());
        if std::mem::take(&mut self.took) {
            self.gathering.taken(now_ns);
        }
        let pauses_ns = [self.gathering.until_ns(now_ns), self.coalescing.until_ns()];
        let pause_ns = pauses_ns.into_iter().flatten().max();
        let readable = if pause_ns.is_some() { None } else { wire.readable() };
        let events = [Some(device.doorbell.fd()), readable, wire.link_changed()];
        let descriptors = events.map(|event| event.map(|fd| fd.as_raw_fd()));
        let timeout = self.timeout(now_ns, [timer_ns, pause_ns]);
        let [doorbell, readable, link_changed] = wait_readable(descriptors, timeout)?;
        // After a pause nobody has said whether there is anything.
        if readable || pause_ns.is_some() {
            wire.begin_receive();
        }
        if readable {
            self.coalescing.arrived(monotonic_ns(), device.settings.coalescing_ns());
        }
        // A wire without a link may have lost its other end, and looks for one.
        if link_changed || !wire.is_settled() {
            wire.follow_link();
        }
        Ok(doorbell)
    }

    /// Raises LSC when the link has changed since the last look.
    fn follow_link(&mut self) {
        let link_up = self.device.link_up();
        if link_up != self.link_up {
            self.link_up = link_up;
            self.device.note_link(link_up);
        }
    }

    fn move_frames(&mut self, device: &Device) -> bool {
        let dma = device.dma.view();
        let sends = self.tx.turn(device, &dma);
        let received = self.receive(device, &dma);
        self.took |= received.any;
        sends || received.more
    }

    fn receive(&mut self, device: &Device, dma: &DmaView<'_>) -> Received {
        let watchdog_ns = device.settings.coalescing_ns();
        let now_ns = if watchdog_ns.is_some() { monotonic_ns() } else { 0 };
        if !self.coalescing.lets_through(now_ns, watchdog_ns) {
            return self.rx.hold(device, dma);
        }
        let received = self.rx.turn(device, dma);
        if !received.more {
            self.coalescing.taken();
        }
        received
    }

    /// How long to sleep at most: until the next timer, and never without a sign of life.
    fn timeout(&self, now_ns: u64, timers_ns: [Option<u64>; 2]) -> Duration {
        let negotiated_ns = self.device.phy.pending_ns(now_ns);
        let next_ns = timers_ns.into_iter().flatten().chain(negotiated_ns).min();
        let left = next_ns.map(|at| Duration::from_nanos(at.saturating_sub(now_ns)));
        left.map_or(NIC_HEARTBEAT, |left| left.min(NIC_HEARTBEAT))
    }
}
