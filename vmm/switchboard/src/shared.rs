//! What the switchboard's thread and all others share: the order box, the commands, the figures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::command::{Command, CommandQueue, Reply};
use crate::counters::Counters;
use crate::error::SwitchboardError;
use crate::guest_figures::GuestFigures;
use crate::port::PortEvents;
use crate::quarantine::Quarantine;
use crate::takeover_order::{OrderBox, ReportCell};

/// Whether the thread still makes turns: asked now and then, answered at the next loop boundary.
/// Invariant: `answered` follows `asked`, and only the thread writes it.
#[derive(Debug, Default)]
pub(crate) struct Ping {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Ping {
    /// Asks, unless the last question still waits. Returns how many were answered so far.
    pub(crate) fn ask(&self) -> u64 {
        let answered = self.answered.load(Ordering::Acquire);
        self.asked.store(answered + 1, Ordering::Release);
        answered
    }

    /// The thread answers what was asked.
    #[inline]
    pub(crate) fn answer(&self) {
        let asked = self.asked.load(Ordering::Relaxed);
        if self.answered.load(Ordering::Relaxed) != asked {
            self.answered.store(asked, Ordering::Release);
        }
    }
}

pub(crate) struct Shared {
    /// Wakes the switchboard. Edge-triggered, so never read.
    pub(crate) wake: EventFd,
    pub(crate) orders: OrderBox,
    pub(crate) commands: CommandQueue,
    pub(crate) counters: Counters,
    pub(crate) report: ReportCell,
    pub(crate) quarantine: Mutex<Quarantine>,
    /// One for each guest.
    pub(crate) port_events: Vec<PortEvents>,
    /// One for each guest.
    pub(crate) figures: Vec<GuestFigures>,
    /// Written when the addresses have changed that guests have beside their own.
    pub(crate) macs_changed: EventFd,
    /// Since the ring changed hands in a planned switch, the announcements of all guests have come
    /// round to the port that was left.
    pub(crate) settled: AtomicBool,
    pub(crate) ping: Ping,
    /// MTU of the network.
    pub(crate) mtu: u16,
    /// The thread is to end.
    pub(crate) stop: AtomicBool,
}

impl Shared {
    pub(crate) fn new(guests: usize, mtu: u16) -> std::io::Result<Self> {
        Ok(Self {
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            orders: OrderBox::default(),
            commands: CommandQueue::default(),
            counters: Counters::default(),
            report: ReportCell::default(),
            quarantine: Mutex::new(Quarantine::new()),
            figures: (0..guests).map(|_| GuestFigures::default()).collect(),
            macs_changed: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            port_events: (0..guests).map(|_| PortEvents::new()).collect::<Result<_, _>>()?,
            settled: AtomicBool::new(false),
            ping: Ping::default(),
            mtu,
            stop: AtomicBool::new(false),
        })
    }

    pub(crate) fn wake(&self) {
        // Full means readable, and the edge comes all the same.
        let _ = self.wake.write(1);
    }

    /// Has a command carried out at the next loop boundary and waits for it.
    pub(crate) fn call(&self, command: Command) -> Result<Reply, SwitchboardError> {
        self.commands.call(command, || self.wake())
    }
}
