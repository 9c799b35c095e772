//! The supervisor thread: an event loop over everything that is not a crash.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::domain::Domain;
use super::event::Event;
use super::event_sink::EventSink;
use super::failover::Failover;
use super::rules::{Health, Need};
use super::sampling::Sampling;
use super::verdict::Verdict;
use crate::detect::Symptom;
use microvm::domain::DomainId;
use platform::budget::LINK_GRACE;
use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};

/// What an epoll event stands for.
#[derive(Clone, Copy)]
enum Token {
    Stop,
    Violation,
    /// It is time to sample the domains.
    Sample,
    /// An idle domain woke.
    Woken,
    /// Guests have other addresses than before.
    Macs,
    /// Vector 1 of the NIC of the domain with this index.
    Link(usize),
    /// The bus reports an error of that NIC.
    Error(usize),
    /// Somebody wants that NIC back.
    Request(usize),
}

/// First of the tokens of NICs, and how many each has.
const FIRST_NIC: u32 = 5;
const NIC_TOKENS: u32 = 3;

impl Token {
    fn to_data(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Violation => 1,
            Self::Sample => 2,
            Self::Woken => 3,
            Self::Macs => 4,
            Self::Link(index) => FIRST_NIC + NIC_TOKENS * index as u32,
            Self::Error(index) => FIRST_NIC + NIC_TOKENS * index as u32 + 1,
            Self::Request(index) => FIRST_NIC + NIC_TOKENS * index as u32 + 2,
        }
    }

    fn from_data(data: u32) -> Self {
        match data {
            0 => Self::Stop,
            1 => Self::Violation,
            2 => Self::Sample,
            3 => Self::Woken,
            4 => Self::Macs,
            n => {
                let index = ((n - FIRST_NIC) / NIC_TOKENS) as usize;
                match (n - FIRST_NIC) % NIC_TOKENS {
                    0 => Self::Link(index),
                    1 => Self::Error(index),
                    _ => Self::Request(index),
                }
            }
        }
    }
}

struct Supervisor {
    failover: Arc<Failover>,
    event_sink: Arc<EventSink>,
    stop: EventFd,
    stopped: bool,
    events: Sender<Event>,
    /// The link of each domain's NIC, as its vector 1 reported last.
    link_up: Vec<bool>,
    /// Since when the active domain has had no link, `CLOCK_MONOTONIC` nanoseconds.
    unlinked: Option<(DomainId, u64)>,
    sampling: Sampling,
}

/// The running supervisor thread; it ends when this is dropped.
pub(super) struct SupervisorThread {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl SupervisorThread {
    pub(super) fn spawn(
        failover: Arc<Failover>,
        event_sink: Arc<EventSink>,
        events: Sender<Event>,
        sampling: Sampling,
    ) -> std::io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let link_up = failover.domains.iter().map(Domain::link_is_up).collect();
        let supervisor = Supervisor {
            failover,
            event_sink,
            stop: stop.try_clone()?,
            stopped: false,
            events,
            link_up,
            unlinked: None,
            sampling,
        };
        let thread = realtime::spawn("supervisor", Some(Priority::Supervisor), move || {
            if let Err(error) = supervisor.run() {
                tracing::error!(?error, "the supervisor thread has ended");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl SupervisorThread {
    /// Returns true if the thread has ended, which it does only by a defect as long as this lives.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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

impl Supervisor {
    fn run(self) -> Result<(), event_manager::Error> {
        let mut manager = EventManager::new()?;
        let id = manager.add_subscriber(self);
        loop {
            manager.run()?;
            if manager.subscriber_mut(id).is_ok_and(|supervisor| supervisor.stopped) {
                return Ok(());
            }
        }
    }

    fn handle_violations(&self) {
        let _ = self.event_sink.violated.read();
        for domain in &self.failover.domains {
            let id = domain.id();
            let Some(pending) = self.event_sink.take_violation(id) else { continue };
            let entered = || self.failover.life_of(id).filter(|l| l.epoch() == pending.epoch);
            if let Some(life) = entered() {
                self.failover.condemn(&life, Verdict::Protocol(pending.violation));
            } else if self.failover.state(id).1 <= pending.epoch {
                // The life runs already and is not in the table yet. Whoever enters it notifies
                // this thread; if that has just happened, this thread does so itself.
                self.event_sink.keep_violation(id, pending);
                if entered().is_some() {
                    self.event_sink.life_entered(id);
                }
            }
        }
    }

    fn sample(&mut self) {
        self.event_sink.samplings.fetch_add(1, Ordering::Relaxed);
        let outcomes = self.sampling.sample();
        for (index, outcome) in outcomes.into_iter().enumerate().take(self.link_up.len()) {
            if let Some((life, finding)) = outcome.failed {
                self.failover.condemn(&life, Verdict::Detected(finding));
            }
            // A driver that attaches throws away what the NIC had to report before.
            let new = || outcome.is_new.then(|| self.failover.domains[index].link_is_up());
            // And a NIC whose vector 1 is masked reports nothing.
            if let Some(up) = outcome.link_up.or_else(new)
                && self.note_link(index, up)
            {
                self.report_link(index, up);
            }
            if let Some(delayed_us) = outcome.healed_us {
                let (domain, at_ns) = (self.failover.domains[index].id(), monotonic_ns());
                self.report(Event::Healed { domain, delayed_us, at_ns });
            }
        }
        self.follow_links();
    }

    fn handle_link(&mut self, index: usize) {
        let up = self.failover.domains[index].acknowledge_link();
        let changed = self.note_link(index, up);
        self.follow_links();
        if changed {
            self.report_link(index, up);
        }
    }

    /// A NIC has failed on the bus, or somebody takes it away: every domain that has it fails, and
    /// lets go of it at once. Standbys come first: the active one must not hand its ring to another
    /// that has the same NIC.
    fn lose_nic(&mut self, index: usize, symptom: Symptom) {
        let failover = self.failover.clone();
        let lost = &failover.domains[index];
        for event in [lost.error_event(), lost.request_event()].into_iter().flatten() {
            let _ = event.read();
        }
        lost.give_nic_back();
        let active = failover.active();
        let sharing = || failover.domains.iter().filter(|domain| domain.shares_nic(lost));
        let standbys = sharing().filter(|domain| Some(domain.id()) != active);
        let serving = sharing().filter(|domain| Some(domain.id()) == active);
        for domain in standbys.chain(serving) {
            if let Some((life, finding)) = self.sampling.lost_nic(domain, symptom) {
                failover.condemn(&life, Verdict::Detected(finding));
                self.event_sink.give_up_waiting(domain.id(), life.epoch());
            }
            failover.rebuild_now(domain.id());
        }
    }

    /// Notes the link of a NIC for every domain that has that NIC. Returns true if it has changed.
    fn note_link(&mut self, index: usize, up: bool) -> bool {
        let domains = &self.failover.domains;
        let mut changed = false;
        for (domain, link_up) in domains.iter().zip(&mut self.link_up) {
            if domain.shares_nic(&domains[index]) && std::mem::replace(link_up, up) != up {
                self.failover.link_changed(domain.id(), up);
                changed = true;
            }
        }
        changed
    }

    /// Hands over from a domain without a link to one with a link, if there is one: at once to a
    /// healthy one, after a grace to any. If all links are down the active domain stays, and the
    /// first domain whose link returns serves.
    fn follow_links(&mut self) {
        let Some(active) = self.failover.active() else { return };
        if self.failover.shares_nic {
            // There is no other link.
            return;
        }
        if !self.link_up[active.index()] && self.failover.domain(active).link_is_up() {
            // The last report of its vector was from before its driver attached the NIC.
            self.note_link(active.index(), true);
        }
        let Some(need) = self.need_of_link(active) else { return };
        let verdict = match self.failover.successor_health(need) {
            None => return,
            Some(Health::Healthy) => Verdict::Link,
            Some(poor) => Verdict::LinkAtLast(poor),
        };
        if let Some(life) = self.failover.life_of(active) {
            self.failover.condemn(&life, verdict);
        }
    }

    /// What the active domain needs for want of a link; `None` if it has one.
    fn need_of_link(&mut self, active: DomainId) -> Option<Need> {
        if self.link_up[active.index()] {
            self.unlinked = None;
            return None;
        }
        let now_ns = monotonic_ns();
        let known = self.unlinked.filter(|(domain, _)| *domain == active);
        let (_, since_ns) = *self.unlinked.insert(known.unwrap_or((active, now_ns)));
        let grace_ns = LINK_GRACE.as_nanos() as u64;
        let over = now_ns.saturating_sub(since_ns) >= grace_ns;
        Some(if over { Need::NeedsLink } else { Need::CanStay })
    }

    fn report_link(&self, index: usize, up: bool) {
        let nic = self.failover.domains[index].nic_name().to_owned();
        self.report(Event::Link { nic, up });
    }

    fn report(&self, event: Event) {
        // The receiver may be gone.
        let _ = self.events.send(event);
    }
}

impl MutEventSubscriber for Supervisor {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match Token::from_data(events.data()) {
            Token::Stop => self.stopped = true,
            Token::Violation => self.handle_violations(),
            Token::Sample => self.sample(),
            Token::Woken => {
                let _ = self.event_sink.woken.read();
                self.sample();
            }
            Token::Macs => self.failover.follow_macs(),
            Token::Link(index) => self.handle_link(index),
            Token::Error(index) => self.lose_nic(index, Symptom::BusError),
            Token::Request(index) => self.lose_nic(index, Symptom::TakenAway),
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
        add(self.sampling.timer(), Token::Sample);
        add(&self.event_sink.woken, Token::Woken);
        add(self.failover.switchboard.macs_changed(), Token::Macs);
        let domains = &self.failover.domains;
        for (index, domain) in domains.iter().enumerate() {
            // One watch for a NIC, however many domains have it.
            if domains[..index].iter().any(|earlier| earlier.shares_nic(domain)) {
                continue;
            }
            add(domain.link_event(), Token::Link(index));
            if let Some(event) = domain.error_event() {
                add(event, Token::Error(index));
            }
            if let Some(event) = domain.request_event() {
                add(event, Token::Request(index));
            }
        }
    }
}
