//! The switchboard: the one trusted thread between guests' virtqueues and the driver domains.
//!
//! ```text
//!            port                      TxPool, line of unconfirmed frames
//!   guest ── TX ring ──copy──> transmit buffer ──TX_POST──> active domain ──> NIC
//!            (used at once)        ^     <──TX_DONE (claimed)──┘               |
//!                                  └──────── confirmed: NIC's count, link up <─┘
//!
//!   guest <── RX ring <──copy── receive buffer <──RX_DONE── active domain <── NIC
//!            (popped with a        └──RX_PROVIDE (header cleared, owned)──>
//!             checked frame in hand)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `port` | a guest's side: virtqueues, memory, doorbells; nothing in it trusts the guest |
//! | `guests`, `backlog` | whose a frame is; what waits for guests without room |
//! | `lane` | a domain's side: one life's rings and buffer ownership; nothing in it trusts the domain |
//! | `outward` | guests to the wire and to each other, fairly |
//! | `transmit`, `confirm` | the transmit pool and what the NIC really sent |
//! | `forward`, `twice` | the last step of a received frame; that it is taken once |
//! | `engine` | one turn of the loop; `takeover`: who is active; `worker`: the thread |
//! | `handover`, `drill` | planned switches, and the active side of a drill |
//! | `departure` | guests that leave |
//! | `addresses`, `announce` | what the guests' addresses are, and telling the network where they are |
//!
//! Nothing here allocates, logs or waits for a lock between a guest's kick and a NIC's doorbell, or
//! between the order to take over and its end.

mod addresses;
mod announce;
mod announcement;
mod backlog;
mod confirm;
mod counters;
mod departure;
mod drill;
mod engine;
#[cfg(test)]
pub(crate) mod fakes;
mod forward;
mod guests;
mod handover;
mod lane;
mod outward;
mod planned;
pub mod port;
mod quarantine;
mod report;
mod shared;
mod takeover;
mod transmit;
mod twice;
pub mod vhost_user;
mod violation;
mod worker;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

pub use self::announce::AnnounceConfig;
pub use self::announce::QUESTION_BUFFER;
pub use self::counters::{Counter, Counters};
pub use self::drill::DrillSeen;
pub use self::planned::HandoverError;
pub use self::quarantine::{QUARANTINE_FRAMES, QuarantinedFrame};
pub use self::report::{TakeOver, TakeOverReport};
pub use self::shared::{RingChange, RingsDone};
pub use self::violation::{RingName, Violation, ViolationSink};

use self::engine::Engine;
use self::lane::LaneLife;
use self::port::{PortEvents, RINGS};
use self::shared::{Command, Reply, Shared};
use self::takeover::Refused;
use self::transmit::TxPool;
use self::worker::Worker;
use microvm::domain::{DomainId, DomainSlot};
use platform::memory::{MemoryError, SharedMemory};
use platform::realtime::{Priority, spawn};

/// Why the switchboard could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SwitchboardError {
    /// The operating system refuses a thread or a descriptor.
    #[error("cannot start the switchboard")]
    Start(#[source] std::io::Error),
    /// The transmit pool is too small.
    #[error("the transmit pool is too small")]
    Pool(#[source] MemoryError),
    /// There must be guests, but no more than have room.
    #[error("{0} application guests cannot be served")]
    Guests(usize),
    /// Domain numbers must be places in the list of slots.
    #[error("domain {0:?} is not at its place in the list of slots")]
    Place(DomainId),
    /// The rings were not zeroed before.
    #[error("domain {id:?} was not prepared")]
    NotPrepared {
        /// Which.
        id: DomainId,
        /// How that showed.
        source: Violation,
    },
    /// There is no such installed life, or it broke the protocol.
    #[error("domain {id:?} has no installed life {epoch}")]
    NotInstalled {
        /// Which.
        id: DomainId,
        /// Epoch that was asked for.
        epoch: u32,
    },
    /// Another domain is active; that takes a takeover.
    #[error("a domain is active already")]
    Busy,
    /// No loop boundary within [`platform::budget::BOUNDARY_DEADLINE`].
    #[error("the switchboard does not answer")]
    Deadline,
    /// Its thread has ended.
    #[error("the switchboard has ended")]
    Ended,
}

/// What a switchboard is made of.
pub struct SwitchboardConfig {
    /// The domains, each at the place that its number says.
    pub slots: Vec<Arc<DomainSlot>>,
    /// The common transmit pool, see [`DomainSlot::new_tx_pool`].
    pub tx_pool: Arc<SharedMemory>,
    /// The application guests' MAC addresses, at least one and at most
    /// [`shared_ring::layout::MAX_GUESTS`].
    pub macs: Vec<[u8; 6]>,
    /// How the guests are announced after a takeover.
    pub announce: AnnounceConfig,
    /// Hears of protocol violations.
    pub violations: Arc<dyn ViolationSink>,
}

/// The switchboard's handle. Dropping it ends the thread.
///
/// The order for one life of a domain: [`Self::detach`] (if there was one before), then
/// `slot.prepare`, [`Self::install`], start of the vCPU; then [`Self::activate`] for the first, or
/// [`Self::take_over`].
pub struct Switchboard {
    shared: Arc<Shared>,
    slots: Vec<Arc<DomainSlot>>,
    thread: Option<JoinHandle<()>>,
}

impl Switchboard {
    /// Starts the thread "switchboard", with no domain active and no guest.
    ///
    /// # Errors
    /// No thread or descriptors, or an impossible configuration.
    pub fn spawn(config: SwitchboardConfig) -> Result<Self, SwitchboardError> {
        let places = config.slots.iter().enumerate();
        if let Some((_, slot)) = places.into_iter().find(|(n, slot)| slot.id.index() != *n) {
            return Err(SwitchboardError::Place(slot.id));
        }
        let guests = config.macs.len();
        if !(1..=shared_ring::layout::MAX_GUESTS).contains(&guests) {
            return Err(SwitchboardError::Guests(guests));
        }
        let pool_bytes = shared_ring::layout::TX_BUFFERS * shared_ring::layout::BUFFER_BYTES;
        config.tx_pool.slice(0, pool_bytes).map_err(SwitchboardError::Pool)?;
        let shared = Arc::new(Shared::new(guests).map_err(SwitchboardError::Start)?);
        let engine = Engine::new(
            config.slots.clone(),
            TxPool::new(config.tx_pool, guests),
            &config.macs,
            &config.announce,
            config.violations,
            shared.clone(),
        );
        let worker = Worker::new(engine, shared.clone()).map_err(SwitchboardError::Start)?;
        let thread = spawn("switchboard", Some(Priority::Switchboard), || worker.run())
            .map_err(SwitchboardError::Start)?;
        Ok(Self { shared, slots: config.slots, thread: Some(thread) })
    }

    fn slot(&self, id: DomainId, epoch: u32) -> Result<&DomainSlot, SwitchboardError> {
        let slot = self.slots.get(id.index()).map(|slot| &**slot);
        slot.ok_or(SwitchboardError::NotInstalled { id, epoch })
    }

    /// Makes the rings of a new life, which must be zeroed, and provides its receive buffers.
    /// Ends the life before it, if that was not done. Off the path: takes some hundred
    /// microseconds on the calling thread.
    ///
    /// # Errors
    /// The slot was not prepared, or the switchboard does not answer.
    pub fn install(&self, id: DomainId, epoch: u32) -> Result<(), SwitchboardError> {
        self.detach(id)?;
        let slot = self.slot(id, epoch)?;
        let life = LaneLife::new(slot, epoch, self.shared.port_events.len())
            .map_err(|source| SwitchboardError::NotPrepared { id, source })?;
        let life = Box::new(life);
        self.shared.call(Command::Install { lane: id.index(), life }).map(drop)
    }

    /// Makes an installed life active while no other is: the first one, or after a restart in
    /// place, in which case the frames that were not confirmed are posted again.
    ///
    /// # Errors
    /// Not installed, another is active, or the switchboard does not answer.
    pub fn activate(&self, id: DomainId, epoch: u32) -> Result<(), SwitchboardError> {
        self.slot(id, epoch)?;
        match self.shared.call(Command::Activate { lane: id.index(), epoch })? {
            Reply::Activated(Err(Refused::NotInstalled)) => {
                Err(SwitchboardError::NotInstalled { id, epoch })
            }
            Reply::Activated(Err(Refused::Busy)) => Err(SwitchboardError::Busy),
            Reply::Activated(Err(Refused::NotDrained | Refused::TakenOver)) => {
                Err(SwitchboardError::Busy)
            }
            _ => Ok(()),
        }
    }

    /// Ends a domain's life, if it has one: when this returns, nothing of its rings and pools is
    /// touched any more, and they may be zeroed. Also waits for a takeover ordered before. If the
    /// domain was active, its received frames are salvaged, and the guest's stay in its ring until
    /// another is active.
    ///
    /// # Errors
    /// No such domain, or the switchboard does not answer.
    pub fn detach(&self, id: DomainId) -> Result<(), SwitchboardError> {
        self.slot(id, 0)?;
        self.shared.call(Command::Detach { lane: id.index() }).map(drop)
    }

    /// Orders that another domain become active at the next loop boundary. On the failover path,
    /// from any thread: no lock, no allocation, one eventfd written. [`Self::report`] tells what
    /// came of it.
    pub fn take_over(&self, order: TakeOver) {
        self.shared.orders.put(&order);
        self.shared.wake();
    }

    /// The NIC of a domain that failed is silent from now on: announces the guests as after a takeover,
    /// unless they are to be announced once more anyway.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn reannounce(&self) -> Result<(), SwitchboardError> {
        self.shared.call(Command::Reannounce).map(drop)
    }

    /// What the last takeover did.
    pub fn report(&self) -> TakeOverReport {
        self.shared.report.read()
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Copies of the poison frames that are kept.
    pub fn quarantine(&self) -> Vec<QuarantinedFrame> {
        let quarantine = self.shared.quarantine.lock();
        quarantine.unwrap_or_else(std::sync::PoisonError::into_inner).copy()
    }

    /// Whether the thread is running.
    pub fn is_running(&self) -> bool {
        !self.shared.ended.load(Ordering::Acquire)
    }

    /// A guest's port, for whatever holds the connection to its front-end; `None` if there is no
    /// such guest.
    pub fn port(&self, guest: usize) -> Option<PortHandle> {
        let is_there = guest < self.shared.port_events.len();
        is_there.then(|| PortHandle { shared: self.shared.clone(), guest })
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It does not panic outside of its own catch.
            let _ = thread.join();
        }
    }
}

/// The switchboard as a connection to a front-end sees it.
#[derive(Clone)]
pub struct PortHandle {
    shared: Arc<Shared>,
    guest: usize,
}

impl PortHandle {
    /// Changes this guest's virtqueues at the next loop boundary and waits for that; where the
    /// transmit ring is stopped, also for the guest's last frames, [`platform::budget::DEPARTURE`] at most.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn set_rings(&self, changes: [RingChange; RINGS]) -> Result<RingsDone, SwitchboardError> {
        let command = Command::SetRings { guest: self.guest, changes };
        match self.shared.call(command)? {
            Reply::Rings(done) => Ok(done),
            _ => Ok(RingsDone::default()),
        }
    }

    /// Announces the guests to the network, now and by the schedule, as after a takeover.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn announce(&self) -> Result<(), SwitchboardError> {
        self.shared.call(Command::Announce).map(drop)
    }

    pub(crate) fn events(&self) -> &PortEvents {
        &self.shared.port_events[self.guest]
    }
}

#[cfg(test)]
mod tests;
