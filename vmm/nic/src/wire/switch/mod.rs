//! A learning Ethernet switch inside this process.
//!
//! ```text
//!   sender's thread                                        receiver's thread
//!   send ─ learn source ─ look up destination ─┬─ queue of port i ─ eventfd ─ receive
//!                                              └─ (flooded) queue of every other port
//! ```
//!
//! The switch has no thread of its own: the sender's does the work, and locks a port's queue only
//! while it copies a frame in.

mod mac_table;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::mac_table::MacTable;
use crate::wire::frame_ring::FrameRing;
use crate::wire::interface::{MAX_FRAME_BYTES, Wire};
use platform::clock::monotonic_ns;

/// Most ports of a switch.
pub const MAX_PORTS: usize = 16;
/// Most frames that wait at a port.
pub const QUEUE_FRAMES: usize = 1024;
/// Bytes for the frames that wait at a port: more than [`QUEUE_FRAMES`] of full size.
const QUEUE_BYTES: usize = 2 << 20;
/// Destination, source, type.
const HEADER_BYTES: usize = 14;

/// Why a port could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// All ports are taken.
    #[error("the switch has no free port for {name} (it has {MAX_PORTS})")]
    NoPort {
        /// Who asked.
        name: String,
    },
    /// No eventfd.
    #[error("cannot create an eventfd for switch port {name}")]
    EventFd {
        /// Who asked.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// A learning switch with up to [`MAX_PORTS`] ports.
pub struct EthernetSwitch {
    /// Written only when a port comes or goes.
    ports: RwLock<[Option<Arc<PortState>>; MAX_PORTS]>,
    stations: MacTable,
}

impl EthernetSwitch {
    /// A switch without ports.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { ports: RwLock::default(), stations: MacTable::new() })
    }

    /// A new port, its cable plugged in. It leaves the switch when it is dropped.
    ///
    /// # Errors
    /// All ports are taken, or no descriptors are left.
    pub fn attach(self: &Arc<Self>, name: &str) -> Result<Arc<Port>, SwitchError> {
        let state = Arc::new(
            PortState::new()
                .map_err(|source| SwitchError::EventFd { name: name.to_owned(), source })?,
        );
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        let number = ports
            .iter()
            .position(Option::is_none)
            .ok_or_else(|| SwitchError::NoPort { name: name.to_owned() })?;
        ports[number] = Some(state.clone());
        Ok(Arc::new(Port { name: name.to_owned(), number, state, switch: self.clone() }))
    }

    /// Takes a frame that came in at port `from` to where it belongs.
    fn forward(&self, from: usize, frame: &[u8]) {
        let Some((destination, source)) = addresses(frame) else { return };
        let now_ns = monotonic_ns();
        if !is_group(source) {
            self.stations.learn(source, from, now_ns);
        }
        let known =
            if is_group(destination) { None } else { self.stations.lookup(destination, now_ns) };
        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        // A sender that raced with a pulled cable may have taught us a port that is down since.
        let known = known.and_then(|to| Some((to, ports[to].as_ref().filter(|p| p.link_up())?)));
        match known {
            Some((to, _)) if to == from => {}
            Some((_, port)) => port.deliver(frame),
            None => {
                let others = ports.iter().enumerate().filter(|(number, _)| *number != from);
                others.filter_map(|(_, port)| port.as_ref()).for_each(|port| port.deliver(frame));
            }
        }
    }
}

/// Destination and source of a frame; `None` if it is too short or too long to be one.
fn addresses(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    if !(HEADER_BYTES..=MAX_FRAME_BYTES).contains(&frame.len()) {
        return None;
    }
    Some((*frame.first_chunk()?, *frame[6..].first_chunk()?))
}

/// Whether an address is broadcast or multicast.
fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 != 0
}

/// What a port counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames that came in from the station at this port.
    pub sent: u64,
    /// Frames that the station at this port took.
    pub delivered: u64,
    /// Frames lost because [`QUEUE_FRAMES`] were waiting.
    pub dropped_full: u64,
    /// Frames from or to the station lost because the cable was unplugged.
    pub dropped_link_down: u64,
    /// Frames from or to the station lost because the port is dead.
    pub dropped_dead: u64,
}

#[derive(Default)]
struct AtomicCounters {
    sent: AtomicU64,
    delivered: AtomicU64,
    dropped_full: AtomicU64,
    dropped_link_down: AtomicU64,
    dropped_dead: AtomicU64,
}

/// What the switch and the holder of a port share.
struct PortState {
    link_up: AtomicBool,
    dead: AtomicBool,
    waiting: Mutex<FrameRing>,
    readable: EventFd,
    link_changed: EventFd,
    counters: AtomicCounters,
}

impl PortState {
    fn new() -> std::io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            link_up: AtomicBool::new(true),
            dead: AtomicBool::new(false),
            waiting: Mutex::new(FrameRing::new(QUEUE_BYTES, QUEUE_FRAMES)),
            readable: event()?,
            link_changed: event()?,
            counters: AtomicCounters::default(),
        })
    }

    fn link_up(&self) -> bool {
        self.link_up.load(Ordering::Acquire)
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    fn waiting(&self) -> MutexGuard<'_, FrameRing> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, frame: &[u8]) {
        let pushed = {
            let mut waiting = self.waiting();
            // Looked at under the lock: nothing joins the queue after a pulled cable emptied it.
            if !self.link_up() {
                count(&self.counters.dropped_link_down, 1);
                return;
            }
            if self.is_dead() {
                count(&self.counters.dropped_dead, 1);
                return;
            }
            waiting.push(frame)
        };
        match pushed {
            Ok(true) => signal(&self.readable),
            Ok(false) => {}
            Err(_) => count(&self.counters.dropped_full, 1),
        }
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn signal(event: &EventFd) {
    // Fails only when the counter is about to overflow, and then the other side is awake anyway.
    let _ = event.write(1);
}

fn borrow(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as the event that is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// A port of an [`EthernetSwitch`]: the station's end of the cable.
pub struct Port {
    name: String,
    number: usize,
    state: Arc<PortState>,
    switch: Arc<EthernetSwitch>,
}

impl Port {
    /// Who attached it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Plugs the cable in (`true`) or pulls it. While it is out, frames from and to the station are
    /// lost, those that were waiting included, and the switch forgets what it learned here.
    pub fn set_link(&self, up: bool) {
        let was_up = {
            let mut waiting = self.state.waiting();
            let was_up = self.state.link_up.swap(up, Ordering::AcqRel);
            if !up {
                let lost = waiting.clear() as u64;
                count(&self.state.counters.dropped_link_down, lost);
            }
            was_up
        };
        if was_up == up {
            return;
        }
        if !up {
            self.switch.stations.flush(self.number);
        }
        signal(&self.state.link_changed);
    }

    /// The switch's side of the port dies (`true`) or lives again: the link stays up, and no frame
    /// gets through either way.
    pub fn set_dead(&self, dead: bool) {
        self.state.dead.store(dead, Ordering::Release);
    }

    /// What was counted so far.
    pub fn counters(&self) -> PortCounters {
        let counters = &self.state.counters;
        PortCounters {
            sent: counters.sent.load(Ordering::Relaxed),
            delivered: counters.delivered.load(Ordering::Relaxed),
            dropped_full: counters.dropped_full.load(Ordering::Relaxed),
            dropped_link_down: counters.dropped_link_down.load(Ordering::Relaxed),
            dropped_dead: counters.dropped_dead.load(Ordering::Relaxed),
        }
    }
}

impl Wire for Port {
    fn send(&self, frame: &[u8]) {
        if !self.state.link_up() {
            count(&self.state.counters.dropped_link_down, 1);
            return;
        }
        if self.state.is_dead() {
            count(&self.state.counters.dropped_dead, 1);
            return;
        }
        count(&self.state.counters.sent, 1);
        self.switch.forward(self.number, frame);
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        let len = self.state.waiting().pop(into)?;
        count(&self.state.counters.delivered, 1);
        Some(len)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(borrow(&self.state.readable))
    }

    fn begin_receive(&self) {
        let _ = self.state.readable.read();
    }

    fn link_up(&self) -> bool {
        self.state.link_up()
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        Some(borrow(&self.state.link_changed))
    }

    fn follow_link(&self) {
        let _ = self.state.link_changed.read();
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut ports = self.switch.ports.write().unwrap_or_else(PoisonError::into_inner);
        ports[self.number] = None;
        drop(ports);
        self.switch.stations.flush(self.number);
    }
}

#[cfg(test)]
mod tests;
