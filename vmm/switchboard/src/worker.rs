//! The switchboard's thread: turns of [`Engine`], and sleep between them.
//!
//! Everything that it waits for is an eventfd, a timer or a pipe, registered edge-triggered: an
//! event only ends the sleep, and after each sleep everything is looked at. So no eventfd is ever
//! read, and no descriptor that a front-end passes can keep the loop from sleeping.

use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use platform::clock::monotonic_ns;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::timerfd::TimerFd;

use crate::command::{Command, Envelope, Reply, RingChange, RingsDone};
use crate::engine::Engine;
use crate::port::{Kick, RINGS};
use crate::shared::Shared;

/// Events taken from the kernel at a time; the others come at the next sleep.
const EVENTS: usize = 16;

/// What ended a sleep. Only after a kick is there something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Wake,
    Timer,
    Notify,
    Kick { guest: usize, ring: usize },
}

impl Token {
    fn number(self) -> u64 {
        match self {
            Self::Wake => 0,
            Self::Timer => 1,
            Self::Notify => 2,
            Self::Kick { guest, ring } => 3 + (guest * RINGS + ring) as u64,
        }
    }

    fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Wake,
            1 => Self::Timer,
            2 => Self::Notify,
            kick => {
                let kick = (kick - 3) as usize;
                Self::Kick { guest: kick / RINGS, ring: kick % RINGS }
            }
        }
    }
}

/// The loop.
pub(crate) struct Worker {
    engine: Engine,
    shared: Arc<Shared>,
    epoll: Epoll,
    timer: TimerFd,
    /// What the timer is set to.
    armed_ns: Option<u64>,
}

impl Worker {
    /// Registers what the loop waits for from the start.
    pub(crate) fn new(engine: Engine, shared: Arc<Shared>) -> std::io::Result<Self> {
        let timer = TimerFd::new().map_err(std::io::Error::from)?;
        let worker = Self { engine, shared, epoll: Epoll::new()?, timer, armed_ns: None };
        worker.watch(worker.shared.wake.as_raw_fd(), Token::Wake)?;
        worker.watch(worker.timer.as_raw_fd(), Token::Timer)?;
        for notifier in worker.engine.notifiers() {
            worker.watch(notifier, Token::Notify)?;
        }
        Ok(worker)
    }

    fn watch(&self, fd: RawFd, token: Token) -> std::io::Result<()> {
        let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        self.epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(events, token.number()))
    }

    /// Runs until told to stop. A panic ends the thread, not the process: later calls of the
    /// switchboard get an error.
    pub(crate) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while !self.shared.stop.load(Ordering::Acquire) {
                self.cycle();
            }
        }));
        if outcome.is_err() {
            tracing::error!("the switchboard has panicked: no frames are moved any more");
        }
        self.shared.commands.end();
    }

    fn cycle(&mut self) {
        self.shared.ping.answer();
        if let Some(order) = self.shared.orders.take() {
            self.engine.take_over(&order);
        }
        // One, so that whoever gives many holds up neither the frames nor an order.
        let commanded = self.shared.commands.next().map(|envelope| self.obey(envelope)).is_some();
        // Another command may be waiting, whose signal has ended an earlier sleep: no sleep now.
        if self.engine.turn(monotonic_ns()) || commanded {
            return;
        }
        if self.engine.arm() {
            self.sleep();
        }
        self.engine.disarm();
    }

    fn obey(&mut self, envelope: Envelope) {
        let (now_ns, reply) = (monotonic_ns(), envelope.reply);
        match envelope.command {
            Command::HandOver => self.engine.hand_over(now_ns, reply),
            Command::SetRings { guest, changes } => {
                let done = self.set_rings(guest, changes);
                self.engine.answer_rings(guest, now_ns, done, reply);
            }
            command => {
                let answer = self.carry_out(command);
                self.shared.commands.answer(&reply, answer);
            }
        }
    }

    fn sleep(&mut self) {
        self.set_timer();
        self.shared.counters.sleeps.add(1);
        let mut events = [EpollEvent::default(); EVENTS];
        // An error is an interruption by a signal: look at everything, as after any wake.
        let count = self.epoll.wait(-1, &mut events).unwrap_or(0);
        for event in &events[..count] {
            match Token::from_number(event.data()) {
                Token::Kick { guest, ring } => {
                    if let Some(vring) = self.engine.ring(guest, ring) {
                        vring.kick.drain();
                    }
                }
                Token::Timer => self.armed_ns = None,
                Token::Wake | Token::Notify => {}
            }
        }
    }

    /// Sets the timer to the next deadline, if it is not set to it already.
    fn set_timer(&mut self) {
        let now_ns = monotonic_ns();
        let due_ns = self.engine.deadline_ns(now_ns);
        if due_ns == self.armed_ns {
            return;
        }
        // Zero would stop the timer.
        let set = match due_ns {
            Some(due) => {
                self.timer.reset(Duration::from_nanos(due.saturating_sub(now_ns).max(1)), None)
            }
            None => self.timer.clear(),
        };
        if set.is_ok() {
            self.armed_ns = due_ns;
        }
    }

    fn carry_out(&mut self, command: Command) -> Reply {
        match command {
            Command::Install { domain, pair } => Reply::Life(self.engine.install(domain, pair)),
            Command::Activate { domain, epoch } => {
                Reply::Activated(self.engine.activate(domain, epoch))
            }
            Command::Detach { domain } => Reply::Life(self.engine.detach(domain)),
            Command::Overlap { domain, epoch } => {
                Reply::Overlap(self.engine.overlap(domain, epoch))
            }
            Command::EndHandover => {
                self.engine.end_handover(monotonic_ns());
                Reply::Done
            }
            Command::BeginDrill { number, standby } => {
                Reply::Drill(self.engine.begin_drill(number, standby))
            }
            Command::EndDrill => Reply::DrillSeen(self.engine.end_drill(monotonic_ns())),
            Command::Announce { guest } => {
                self.engine.announce_guest(guest, monotonic_ns());
                Reply::Done
            }
            Command::Reannounce => {
                self.engine.reannounce(monotonic_ns());
                Reply::Done
            }
            // These are answered when the ring has changed hands, and when the guest's last frames
            // are out.
            Command::HandOver | Command::SetRings { .. } => Reply::Done,
        }
    }

    fn set_rings(&mut self, guest: usize, changes: [RingChange; RINGS]) -> RingsDone {
        let changed = [0, 1].map(|ring| !matches!(changes[ring], RingChange::Keep));
        let done = self.engine.set_rings(guest, changes);
        for ring in 0..RINGS {
            if let Some(fd) = done.retired[ring].as_ref().and_then(|vring| vring.kick.pollable()) {
                // It may never have been registered; then there is nothing to remove.
                let _ = self.epoll.ctl(ControlOperation::Delete, fd, EpollEvent::default());
            }
        }
        for ring in (0..RINGS).filter(|ring| changed[*ring]) {
            let Some(fd) = self.engine.ring(guest, ring).and_then(|vring| vring.kick.pollable())
            else {
                continue;
            };
            if self.watch(fd, Token::Kick { guest, ring }).is_err()
                && let Some(vring) = self.engine.ring(guest, ring)
            {
                vring.kick = Kick::none();
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::rig::Rig;

    #[test]
    fn rings_are_stopped_even_if_the_caller_has_given_up_and_never_started() {
        let (rig, _domain) = Rig::new();
        let [rx, tx] = rig.guest.vrings();
        let shared = rig.shared.clone();
        let mut worker = Worker::new(rig.engine, shared.clone()).unwrap();
        // Nobody turns the worker while the callers wait.
        let call = |changes| shared.call(Command::SetRings { guest: 0, changes });
        std::thread::scope(|scope| {
            let start = [RingChange::Start(rx), RingChange::Start(tx)];
            let callers = [start, [RingChange::Keep, RingChange::Stop]];
            let callers = callers.map(|changes| scope.spawn(|| call(changes)));
            assert!(callers.into_iter().all(|caller| caller.join().unwrap().is_err()));
        });
        // A ring that was to start anew is stopped as well.
        while shared.commands.len() > 0 {
            worker.cycle();
        }
        let present = [0, 1].map(|ring| worker.engine.ring(0, ring).is_some());
        assert_eq!(present, [false, false]);
    }

    #[test]
    fn one_command_is_carried_out_between_two_turns() {
        let (rig, _domain) = Rig::new();
        let shared = rig.shared.clone();
        let mut worker = Worker::new(rig.engine, shared.clone()).unwrap();
        let turns = || shared.counters.turns.get();
        std::thread::scope(|scope| {
            let call = || shared.call(Command::EndDrill).unwrap();
            let callers = [0; 3].map(|_| scope.spawn(call));
            while shared.commands.len() < callers.len() {
                std::thread::yield_now();
            }
            let before = turns();
            for left in [2, 1, 0] {
                worker.cycle();
                assert_eq!(shared.commands.len(), left);
            }
            assert_eq!(turns() - before, 3, "and no sleep between them");
        });
    }
}
