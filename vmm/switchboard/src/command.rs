//! Changes at a loop boundary that a caller waits for, off the failover path: the commands, their
//! replies, and the queue between callers and the switchboard's thread.
//!
//! Invariant: a command is carried out once or never. Of one that its caller gave up waiting for
//! before it was begun, only what ends something is carried out ([`Command::what_stays`]), because
//! the caller has gone on without the rest.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use platform::budget::BOUNDARY_DEADLINE;

use crate::domains::QueuePair;
use crate::error::SwitchboardError;
use crate::port::{RINGS, Vring};

/// What is to become of one of a guest's virtqueues.
#[derive(Debug)]
pub(crate) enum RingChange {
    /// It stays as it is.
    Keep,
    /// It stops: nothing of it is touched any more.
    Stop,
    /// It starts, in place of the one before if there is one.
    Start(Box<Vring>),
}

/// What became of a guest's virtqueues.
#[derive(Debug, Default)]
pub(crate) struct RingsDone {
    /// Index of the next chain of each that was or is running: where a stopped one ended, and
    /// where a started one began.
    pub(crate) positions: [Option<u16>; RINGS],
    /// Those that were stopped, to be dropped by the caller: closing descriptors and unmapping
    /// memory can take long.
    pub(crate) retired: [Option<Box<Vring>>; RINGS],
}

/// Why a domain cannot become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such installed life, or it broke the protocol.
    NotInstalled,
    /// Another domain is active, or a handover is under way or over.
    Busy,
    /// The serving domain did not get rid of its frames in time, and keeps the ring.
    NotDrained,
    /// A takeover came in between.
    TakenOver,
}

/// What the switchboard saw of a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrillSeen {
    /// The question came in through the active domain.
    pub question: bool,
    /// The answer was posted to it.
    pub answered: bool,
    /// Its NIC has confirmed the answer.
    pub answer_sent: bool,
    /// Frames of the wire that came in meanwhile, the question included: they show whether the
    /// active domain receives at all.
    pub received: u64,
}

/// A change that a caller waits for. Domains are named by their places.
pub(crate) enum Command {
    Install { domain: usize, pair: Box<QueuePair> },
    Activate { domain: usize, epoch: u32 },
    Detach { domain: usize },
    SetRings { guest: usize, changes: [RingChange; RINGS] },
    Overlap { domain: usize, epoch: u32 },
    HandOver,
    EndHandover,
    BeginDrill { number: u32, standby: usize },
    EndDrill,
    Announce { guest: usize },
    Reannounce,
}

impl Command {
    /// What is carried out of a command after its caller has given up: what ends something, because
    /// nothing could go on from where that was left out. A guest's ring that was to change stops:
    /// its front-end was told that it does not run as described, or has gone.
    fn what_stays(self) -> Option<Self> {
        match self {
            Self::EndHandover | Self::EndDrill => Some(self),
            Self::SetRings { guest, changes } => {
                let changes = changes.map(|change| match change {
                    RingChange::Keep => RingChange::Keep,
                    RingChange::Stop | RingChange::Start(_) => RingChange::Stop,
                });
                Some(Self::SetRings { guest, changes })
            }
            Self::Install { .. }
            | Self::Activate { .. }
            | Self::Detach { .. }
            | Self::Overlap { .. }
            | Self::HandOver
            | Self::BeginDrill { .. }
            | Self::Announce { .. }
            | Self::Reannounce => None,
        }
    }
}

/// What came of a command.
pub(crate) enum Reply {
    /// Done; the life that it ended, to be dropped by the caller.
    Life(#[expect(dead_code, reason = "dropped on the caller's thread")] Option<Box<QueuePair>>),
    Activated(Result<(), Refused>),
    Rings(RingsDone),
    /// Whether a handover can begin.
    Overlap(Result<(), Refused>),
    /// The ring has changed hands, and how many nanoseconds the guests' frames had to wait for it;
    /// or why it has not.
    HandedOver(Result<u64, Refused>),
    /// Whether a drill can begin.
    Drill(bool),
    DrillSeen(DrillSeen),
    Done,
}

/// A command, and the channel to its caller.
pub(crate) struct Envelope {
    number: u64,
    pub(crate) command: Command,
    pub(crate) reply: SyncSender<Reply>,
}

/// Commands that wait for the loop boundary.
#[derive(Default)]
pub(crate) struct CommandQueue {
    waiting: Mutex<VecDeque<Envelope>>,
    /// Answers that nobody waited for any more. The next caller drops them: that can take long,
    /// with the descriptors and the memory of a front-end in them.
    unclaimed: Mutex<Vec<Reply>>,
    /// Commands so far.
    numbers: AtomicU64,
    /// Nothing is carried out any more.
    ended: AtomicBool,
}

impl CommandQueue {
    /// Has a command carried out at the next loop boundary and waits for it; `wake` wakes the
    /// switchboard.
    pub(crate) fn call(
        &self,
        command: Command,
        wake: impl Fn(),
    ) -> Result<Reply, SwitchboardError> {
        let unclaimed = std::mem::take(&mut *self.unclaimed());
        drop(unclaimed);
        let (reply, answer) = sync_channel(1);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Checked under the lock under which the ending thread empties the queue.
            if self.has_ended() {
                return Err(SwitchboardError::Ended);
            }
            waiting.push_back(Envelope { number, command, reply });
        }
        wake();
        answer.recv_timeout(BOUNDARY_DEADLINE).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                self.withdraw(number);
                // The lock was held, and the switchboard may have passed by meanwhile.
                wake();
                SwitchboardError::Deadline
            }
            RecvTimeoutError::Disconnected => SwitchboardError::Ended,
        })
    }

    /// Takes a command back unless it has begun, but for what stays of it, which keeps its place.
    fn withdraw(&self, number: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let place = waiting.iter().position(|e| e.number == number);
        let Some((place, envelope)) = place.and_then(|at| Some((at, waiting.remove(at)?))) else {
            return;
        };
        let Envelope { command, reply, .. } = envelope;
        // What does not stay is dropped here, with rings and their memory: the queue's lock is held
        // for as long, and the switchboard does not wait for it.
        if let Some(command) = command.what_stays() {
            waiting.insert(place, Envelope { number, command, reply });
        }
    }

    /// The next command. The switchboard never waits for the lock: whoever holds it wakes the
    /// switchboard after letting go.
    pub(crate) fn next(&self) -> Option<Envelope> {
        self.waiting.try_lock().ok()?.pop_front()
    }

    /// Answers a caller, who may have given up waiting.
    pub(crate) fn answer(&self, reply: &SyncSender<Reply>, answer: Reply) {
        if let Err(TrySendError::Disconnected(answer) | TrySendError::Full(answer)) =
            reply.try_send(answer)
        {
            self.unclaimed().push(answer);
        }
    }

    /// Held for a moment only, by callers and by the switchboard.
    fn unclaimed(&self) -> MutexGuard<'_, Vec<Reply>> {
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commands that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends the queue: nothing is carried out any more, and the callers that wait are told.
    pub(crate) fn end(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.store(true, Ordering::Release);
        waiting.clear();
    }

    /// Returns true once the thread has ended, by request or by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::FakeGuest;

    /// Gives up waiting for a command, and returns what the switchboard finds of it.
    fn given_up(command: Command) -> Option<Command> {
        let queue = CommandQueue::default();
        let outcome = queue.call(command, || {});
        assert!(matches!(outcome, Err(SwitchboardError::Deadline)));
        queue.next().map(|envelope| envelope.command)
    }

    #[test]
    fn of_a_late_change_of_rings_only_the_stop_stays() {
        let [rx, _] = FakeGuest::new().vrings();
        let changes = [RingChange::Start(rx), RingChange::Keep];
        let left = given_up(Command::SetRings { guest: 3, changes });
        let Some(Command::SetRings { guest: 3, changes }) = left else { panic!("it is forgotten") };
        assert!(matches!(changes, [RingChange::Stop, RingChange::Keep]), "{changes:?}");
    }

    #[test]
    fn what_begins_something_is_forgotten_and_what_ends_something_is_not() {
        assert!(given_up(Command::BeginDrill { number: 1, standby: 1 }).is_none());
        assert!(given_up(Command::Announce { guest: 0 }).is_none());
        assert!(matches!(given_up(Command::EndDrill), Some(Command::EndDrill)));
    }
}
