//! The supervisor thread: an event loop over what is not a crash.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::detect::Sampler;
use super::event::Event;
use super::event_sink::EventSink;
use super::failover::Failover;
use super::sampling::Sampling;
use super::verdict::Verdict;
use crate::topology::Thresholds;
use microvm::domain::{DomainSlot, Life};
use platform::budget::PAUSE_DEADLINE;
use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};

/// What an epoll event stands for.
#[derive(Clone, Copy)]
enum Token {
    Stop,
    Violation,
    /// Time to look at the domains.
    Look,
    /// An idle domain woke.
    Rung,
    /// Vector 1 of the NIC of the domain with this index.
    Link(usize),
    /// The bus reports an error of that NIC.
    Error(usize),
}

/// First of the tokens of NICs, two for each; even.
const FIRST_NIC: u32 = 4;

impl Token {
    fn to_data(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Violation => 1,
            Self::Look => 2,
            Self::Rung => 3,
            Self::Link(index) => FIRST_NIC + 2 * index as u32,
            Self::Error(index) => FIRST_NIC + 2 * index as u32 + 1,
        }
    }

    fn from_data(data: u32) -> Self {
        match data {
            0 => Self::Stop,
            1 => Self::Violation,
            2 => Self::Look,
            3 => Self::Rung,
            n if n.is_multiple_of(2) => Self::Link((n - FIRST_NIC) as usize / 2),
            n => Self::Error((n - FIRST_NIC) as usize / 2),
        }
    }
}

struct Watch {
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
    event_sink: Arc<EventSink>,
    stop: EventFd,
    stopped: bool,
    events: Sender<Event>,
    /// As vector 1 told last.
    link_up: Vec<bool>,
    sampling: Sampling,
}

/// The running supervisor thread; ends when dropped.
pub(super) struct SupervisorThread {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl SupervisorThread {
    pub(super) fn spawn(
        slots: Vec<Arc<DomainSlot>>,
        failover: Arc<Failover>,
        event_sink: Arc<EventSink>,
        events: Sender<Event>,
        (sampler, thresholds): (Sampler, Thresholds),
    ) -> std::io::Result<Self> {
        let sampling = Sampling::new(sampler, thresholds, failover.clone(), event_sink.clone())?;
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let link_up = slots.iter().map(|slot| slot.nic.link_up()).collect();
        let watch = Watch {
            slots,
            failover,
            event_sink,
            stop: stop.try_clone()?,
            stopped: false,
            events,
            link_up,
            sampling,
        };
        let thread = realtime::spawn("supervisor", Some(Priority::Supervisor), move || {
            if let Err(error) = watch.run() {
                tracing::error!(?error, "the supervisor thread has ended");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for SupervisorThread {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(self) -> Result<(), event_manager::Error> {
        let mut manager = EventManager::new()?;
        let id = manager.add_subscriber(self);
        loop {
            manager.run()?;
            if manager.subscriber_mut(id).is_ok_and(|watch| watch.stopped) {
                return Ok(());
            }
        }
    }

    fn handle_violations(&self) {
        let _ = self.event_sink.violated.read();
        for slot in &self.slots {
            let Some(pending) = self.event_sink.take_violation(slot.id) else { continue };
            let seated = || self.failover.life(slot.id).filter(|l| l.epoch() == pending.epoch);
            if let Some(life) = seated() {
                self.fail(&life, Verdict::Protocol(pending.violation));
            } else if self.failover.state(slot.id).1 <= pending.epoch {
                // It runs already and has no entry yet. Who table it rings; and if that was just now,
                // here.
                self.event_sink.keep_violation(slot.id, pending);
                if seated().is_some() {
                    self.event_sink.life_entered(slot.id);
                }
            }
        }
    }

    /// A verdict: the vCPU out of the guest for good, then the failover. Trapped register accesses
    /// of a life that was expelled are not carried out, should its vCPU stay in the guest.
    fn fail(&self, life: &Life, verdict: Verdict) {
        let entered_ns = life.last_entry_ns();
        life.expel();
        let out = life.wait_out(Instant::now() + PAUSE_DEADLINE);
        self.failover.verdict(life.id(), life.epoch(), verdict, entered_ns);
        if !out {
            let domain = &self.slots[life.id().index()].name;
            tracing::warn!(domain, "the vCPU does not come out of the guest");
        }
    }

    fn look(&mut self) {
        self.event_sink.samplings.fetch_add(1, Ordering::Relaxed);
        let outcomes = self.sampling.look(&self.slots);
        for (index, outcome) in outcomes.into_iter().enumerate().take(self.slots.len()) {
            if let Some((life, finding)) = outcome.failed {
                self.fail(&life, Verdict::Detected(finding));
            }
            if outcome.is_new {
                // A driver that attaches throws away what the NIC had to report before.
                let up = self.slots[index].nic.link_up();
                if self.note_link(index, up) {
                    self.tell_link(index, up);
                }
            }
            if let Some(delayed_us) = outcome.healed_us {
                let (domain, at_ns) = (self.slots[index].id, monotonic_ns());
                self.tell(Event::Healed { domain, delayed_us, at_ns });
            }
        }
        self.follow_links();
    }

    fn handle_link(&mut self, index: usize) {
        let nic = &self.slots[index].nic;
        let _ = nic.link_event().read();
        let up = nic.acknowledge_link();
        let changed = self.note_link(index, up);
        self.follow_links();
        if changed {
            self.tell_link(index, up);
        }
    }

    fn handle_error(&mut self, index: usize) {
        let mut slot = &self.slots[index];
        // Of those that share it, the one that serves has it.
        if let Some(active) = self.failover.active()
            && self.slots[active.index()].shares_nic(slot)
        {
            slot = &self.slots[active.index()];
        }
        if let Some(event) = slot.nic.error_event() {
            let _ = event.read();
        }
        if let Some((life, finding)) = self.sampling.bus_error(slot) {
            self.fail(&life, Verdict::Detected(finding));
        }
    }

    /// Remembers a NIC's link for every domain that has it; whether it is news.
    fn note_link(&mut self, index: usize, up: bool) -> bool {
        let mut changed = false;
        for (slot, link_up) in self.slots.iter().zip(&mut self.link_up) {
            if slot.shares_nic(&self.slots[index]) && std::mem::replace(link_up, up) != up {
                self.failover.link_changed(slot.id, up);
                changed = true;
            }
        }
        changed
    }

    /// Hands over from a domain without a link to one with, if there is one. Both down: stay, the
    /// first that returns serves.
    fn follow_links(&mut self) {
        let Some(active) = self.failover.active() else { return };
        if self.failover.shares_nic {
            // There is no other link.
            return;
        }
        if self.link_up[active.index()] || !self.failover.has_spare() {
            return;
        }
        if self.slots[active.index()].nic.link_up() {
            // What its vector told last was of a time before its driver had it.
            self.note_link(active.index(), true);
            return;
        }
        if let Some(life) = self.failover.life(active) {
            self.fail(&life, Verdict::Link);
        }
    }

    fn tell_link(&self, index: usize, up: bool) {
        self.tell(Event::Link { nic: self.slots[index].nic.name().to_owned(), up });
    }

    fn tell(&self, event: Event) {
        // Nobody may listen.
        let _ = self.events.send(event);
    }
}

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match Token::from_data(events.data()) {
            Token::Stop => self.stopped = true,
            Token::Violation => self.handle_violations(),
            Token::Look => self.look(),
            Token::Rung => {
                let _ = self.event_sink.rung.read();
                self.look();
            }
            Token::Link(index) => self.handle_link(index),
            Token::Error(index) => self.handle_error(index),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut add = |fd: &dyn AsRawFd, token: Token| {
            let events = Events::with_data_raw(fd.as_raw_fd(), token.to_data(), EventSet::IN);
            if let Err(error) = ops.add(events) {
                tracing::error!(?error, "the supervisor cannot watch an event");
            }
        };
        add(&self.stop, Token::Stop);
        add(&self.event_sink.violated, Token::Violation);
        add(self.sampling.timer(), Token::Look);
        add(&self.event_sink.rung, Token::Rung);
        for (index, slot) in self.slots.iter().enumerate() {
            // One watch for a NIC, however many domains have it.
            if self.slots[..index].iter().any(|earlier| earlier.shares_nic(slot)) {
                continue;
            }
            add(slot.nic.link_event(), Token::Link(index));
            if let Some(event) = slot.nic.error_event() {
                add(event, Token::Error(index));
            }
        }
    }
}
