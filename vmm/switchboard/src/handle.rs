//! The switchboard's handle, as the supervisor has it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use microvm::domain::{DomainId, DomainSlot};
use nic::AddedAddresses;
use platform::memory::SharedMemory;
use platform::realtime::{Priority, spawn};
use shared_ring::layout::{BUFFER_BYTES, MAX_GUESTS, TX_BUFFERS};
use vmm_sys_util::eventfd::EventFd;

use crate::announce::AnnounceConfig;
use crate::command::{Command, Refused, Reply};
use crate::counters::Counters;
use crate::domains::QueuePair;
use crate::engine::Engine;
use crate::error::SwitchboardError;
use crate::guest_figures::GuestFigures;
use crate::macs::{GuestRules, MacRule};
use crate::port::{FrontEnds, PortEvents};
use crate::port_handle::PortHandle;
use crate::quarantine::QuarantinedFrame;
use crate::shared::Shared;
use crate::takeover_order::{TakeOver, TakeOverReport};
use crate::tx_path::TxPath;
use crate::violation::ViolationSink;
use crate::worker::Worker;

/// What a switchboard is made of.
pub struct SwitchboardConfig {
    /// The domains, each at the place that its number says.
    pub slots: Vec<Arc<DomainSlot>>,
    /// The common transmit pool, see [`DomainSlot::new_tx_pool`].
    pub tx_pool: Arc<SharedMemory>,
    /// The application guests' MAC addresses, at least one and at most
    /// [`shared_ring::layout::MAX_GUESTS`].
    pub macs: Vec<[u8; 6]>,
    /// MTU of the network, see [`shared_ring::frame`]. Longer frames are refused both ways.
    pub mtu: u16,
    /// What each guest may send; guests without an entry have the default.
    pub rules: Vec<GuestRules>,
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
    pub(crate) shared: Arc<Shared>,
    slots: Vec<Arc<DomainSlot>>,
    /// A guest gets whatever is nobody's.
    promiscuous: bool,
    thread: Option<JoinHandle<()>>,
}

impl Switchboard {
    /// Starts the thread "switchboard", with no domain active and no guest.
    ///
    /// # Errors
    /// No thread or descriptors can be had, or the configuration is impossible.
    pub fn spawn(config: SwitchboardConfig) -> Result<Self, SwitchboardError> {
        let places = config.slots.iter().enumerate();
        if let Some((_, slot)) = places.into_iter().find(|(n, slot)| slot.id.index() != *n) {
            return Err(SwitchboardError::Place(slot.id));
        }
        let guests = config.macs.len();
        if !(1..=MAX_GUESTS).contains(&guests) {
            return Err(SwitchboardError::Guests(guests));
        }
        let pool_bytes = TX_BUFFERS * BUFFER_BYTES;
        config.tx_pool.slice(0, pool_bytes).map_err(SwitchboardError::Pool)?;
        let shared = Arc::new(Shared::new(guests, config.mtu).map_err(SwitchboardError::Start)?);
        let mut engine = Engine::new(
            config.slots.clone(),
            TxPath::new(config.tx_pool, guests),
            &config.macs,
            &config.announce,
            config.violations,
            shared.clone(),
        );
        engine.set_rules(&config.rules);
        let promiscuous = config.rules.iter().any(|it| it.macs == MacRule::Promiscuous);
        let worker = Worker::new(engine, shared.clone()).map_err(SwitchboardError::Start)?;
        let thread = spawn("switchboard", Some(Priority::Switchboard), || worker.run())
            .map_err(SwitchboardError::Start)?;
        Ok(Self { shared, slots: config.slots, promiscuous, thread: Some(thread) })
    }

    fn slot(&self, id: DomainId, epoch: u32) -> Result<&DomainSlot, SwitchboardError> {
        let slot = self.slots.get(id.index()).map(|slot| &**slot);
        slot.ok_or(SwitchboardError::NotInstalled { id, epoch })
    }

    /// Makes the rings of a new life, which must be zeroed, and provides its receive buffers.
    /// Ends the life before it, if that was not done. This is off the failover path: it takes some
    /// hundred microseconds on the calling thread.
    ///
    /// # Errors
    /// The slot was not prepared, or the switchboard does not answer.
    pub fn install(&self, id: DomainId, epoch: u32) -> Result<(), SwitchboardError> {
        self.detach(id)?;
        let slot = self.slot(id, epoch)?;
        let pair = QueuePair::new(slot, epoch, self.shared.port_events.len())
            .map_err(|source| SwitchboardError::NotPrepared { id, source })?;
        let pair = Box::new(pair);
        self.shared.call(Command::Install { domain: id.index(), pair }).map(drop)
    }

    /// Makes an installed life active while no other is: the first one, or after a restart in
    /// place, in which case the frames that were not confirmed are posted again.
    ///
    /// # Errors
    /// The life is not installed, another is active, or the switchboard does not answer.
    pub fn activate(&self, id: DomainId, epoch: u32) -> Result<(), SwitchboardError> {
        self.slot(id, epoch)?;
        match self.shared.call(Command::Activate { domain: id.index(), epoch })? {
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
    /// touched any more, and they may be zeroed. Also waits for a takeover that was ordered before.
    /// If the domain was active, its received frames are salvaged, and the guests' frames stay in
    /// their rings until another domain is active.
    ///
    /// # Errors
    /// There is no such domain, or the switchboard does not answer.
    pub fn detach(&self, id: DomainId) -> Result<(), SwitchboardError> {
        self.slot(id, 0)?;
        self.shared.call(Command::Detach { domain: id.index() }).map(drop)
    }

    /// Orders that another domain become active at the next loop boundary. This is on the failover
    /// path, from any thread: no lock, no allocation, one eventfd written. [`Self::report`] tells
    /// what came of it.
    pub fn take_over(&self, order: TakeOver) {
        self.shared.orders.put(&order);
        self.shared.wake();
    }

    /// Announces the guests as after a takeover, unless they are to be announced once more anyway:
    /// the NIC of a domain that failed is silent from now on.
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

    /// MTU of the network.
    pub fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    /// The counters.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Copies of the poison frames that are kept.
    pub fn quarantine(&self) -> Vec<QuarantinedFrame> {
        let quarantine = self.shared.quarantine.lock();
        quarantine.unwrap_or_else(PoisonError::into_inner).copy()
    }

    /// Asks the thread for a turn of its loop, and returns how many such questions it has answered so
    /// far. Does not wait: a thread that is alive has answered when the caller asks again.
    pub fn ping(&self) -> u64 {
        let answered = self.shared.ping.ask();
        self.shared.wake();
        answered
    }

    /// Returns true while the thread is running.
    pub fn is_running(&self) -> bool {
        !self.shared.commands.has_ended()
    }

    /// The front-ends of each guest's socket, in the guests' order.
    pub fn front_ends(&self) -> Vec<FrontEnds> {
        self.shared.port_events.iter().map(PortEvents::front_ends).collect()
    }

    /// What is known of each guest, in the guests' order.
    pub fn figures(&self) -> &[GuestFigures] {
        &self.shared.figures
    }

    /// Readable when [`Self::added_addresses`] may have changed; it is the reader's to reset.
    pub fn macs_changed(&self) -> &EventFd {
        &self.shared.macs_changed
    }

    /// What NICs have to receive for the guests beside their own addresses.
    pub fn added_addresses(&self) -> AddedAddresses {
        match self.promiscuous {
            true => AddedAddresses::Promiscuous,
            false => AddedAddresses::of(self.figures().iter().flat_map(GuestFigures::macs)),
        }
    }

    /// A guest's port, for the thread that holds the connection to its front-end; `None` if there
    /// is no such guest.
    pub fn port(&self, guest: usize) -> Option<PortHandle> {
        let is_there = guest < self.shared.port_events.len();
        is_there.then(|| PortHandle::new(self.shared.clone(), guest))
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // The thread catches its own panics.
            let _ = thread.join();
        }
    }
}
