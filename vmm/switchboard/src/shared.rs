//! What the switchboard's thread and everybody else share: the order box, the commands, the figures.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::SwitchboardError;
use super::counters::Counters;
use super::drill::DrillSeen;
use super::lane::LaneLife;
use super::port::vring::Vring;
use super::port::{PortEvents, RINGS};
use super::quarantine::Quarantine;
use super::report::{OrderBox, ReportCell};
use super::takeover::Refused;
use platform::budget::BOUNDARY_DEADLINE;

/// What is to become of one of a guest's virtqueues.
#[derive(Debug)]
pub enum RingChange {
    /// As it is.
    Keep,
    /// Nothing of it is touched any more.
    Stop,
    /// Start it, in place of the one before if there is one.
    Start(Box<Vring>),
}

/// What became of a guest's virtqueues.
#[derive(Debug, Default)]
pub struct RingsDone {
    /// Index of the next chain of each that was or is running: where a stopped one ended, and
    /// where a started one began.
    pub positions: [Option<u16>; RINGS],
    /// Those that were stopped, to be dropped by the caller: closing descriptors and unmapping
    /// memory can take long.
    pub retired: [Option<Box<Vring>>; RINGS],
}

/// A change at a loop boundary that somebody waits for. Off the failover path.
pub(crate) enum Command {
    Install { lane: usize, life: Box<LaneLife> },
    Activate { lane: usize, epoch: u32 },
    Detach { lane: usize },
    SetRings { guest: usize, changes: [RingChange; RINGS] },
    Overlap { lane: usize, epoch: u32 },
    HandOver,
    EndHandover,
    BeginDrill { number: u32, standby: usize },
    EndDrill,
    Announce,
    Reannounce,
}

/// What came of a command.
pub(crate) enum Reply {
    /// Done; the life that it ended, to be dropped by the caller.
    Lane(#[expect(dead_code, reason = "dropped on the caller's thread")] Option<Box<LaneLife>>),
    Activated(Result<(), Refused>),
    Rings(RingsDone),
    /// Whether a handover can begin.
    Overlap(Result<(), Refused>),
    /// The ring has changed hands, and how long the guest's frames had to wait for it, or has not.
    HandedOver(Result<u64, Refused>),
    /// Whether a drill can begin.
    Drill(bool),
    DrillSeen(DrillSeen),
    Done,
}

/// A command and who waits for it.
pub(crate) struct Envelope {
    number: u64,
    pub(crate) command: Command,
    pub(crate) reply: SyncSender<Reply>,
}

pub(crate) struct Shared {
    /// Wakes the switchboard. Edge-triggered, so never read.
    pub(crate) wake: EventFd,
    pub(crate) orders: OrderBox,
    pub(crate) counters: Counters,
    pub(crate) report: ReportCell,
    pub(crate) quarantine: Mutex<Quarantine>,
    /// One for each guest.
    pub(crate) port_events: Vec<PortEvents>,
    /// Since the ring changed hands in a planned switch, the announcements of all guests have come
    /// round to the port that was left.
    pub(crate) settled: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// The thread has ended, by request or by a panic.
    pub(crate) ended: AtomicBool,
    commands: Mutex<VecDeque<Envelope>>,
    /// Commands so far.
    numbers: AtomicU64,
}

impl Shared {
    pub(crate) fn new(guests: usize) -> std::io::Result<Self> {
        Ok(Self {
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            orders: OrderBox::default(),
            counters: Counters::default(),
            report: ReportCell::default(),
            quarantine: Mutex::new(Quarantine::new()),
            port_events: (0..guests).map(|_| PortEvents::new()).collect::<Result<_, _>>()?,
            settled: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            commands: Mutex::new(VecDeque::with_capacity(8)),
            numbers: AtomicU64::new(0),
        })
    }

    pub(crate) fn wake(&self) {
        // Full means readable, and the edge comes all the same.
        let _ = self.wake.write(1);
    }

    /// Has a command carried out at the next loop boundary and waits for it. One that is not begun
    /// in time is never begun: whoever asked has gone on without it.
    pub(crate) fn call(&self, command: Command) -> Result<Reply, SwitchboardError> {
        let (reply, answer) = sync_channel(1);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        {
            let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
            // Checked under the lock under which the ending thread empties the queue.
            if self.ended.load(Ordering::Acquire) {
                return Err(SwitchboardError::Ended);
            }
            commands.push_back(Envelope { number, command, reply });
        }
        self.wake();
        answer.recv_timeout(BOUNDARY_DEADLINE).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.withdraw(number);
                SwitchboardError::Deadline
            }
            RecvTimeoutError::Disconnected => SwitchboardError::Ended,
        })
    }

    /// Takes a command back, unless it has begun. Those that end something stay: nothing goes on
    /// from where they were left out.
    fn withdraw(&self, number: u64) {
        let ends = |command: &Command| matches!(command, Command::EndHandover | Command::EndDrill);
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let place = commands.iter().position(|e| e.number == number && !ends(&e.command));
        let withdrawn = place.and_then(|place| commands.remove(place));
        drop(commands);
        drop(withdrawn);
    }

    /// The next command. The switchboard never waits for the lock: whoever holds it wakes the
    /// switchboard after letting go.
    pub(crate) fn next_command(&self) -> Option<Envelope> {
        self.commands.try_lock().ok()?.pop_front()
    }

    /// Nothing is carried out any more; who waits is told.
    pub(crate) fn end(&self) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::Release);
        commands.clear();
    }
}
