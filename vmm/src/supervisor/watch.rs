//! The supervisor thread: an event loop over what is not a crash.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Instant;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::event::Event;
use super::failover::{Failover, Verdict};
use super::hub::Hub;
use crate::budget::PAUSE_DEADLINE;
use crate::domain::DomainSlot;
use crate::realtime::{self, Priority};

/// What an epoll event stands for.
#[derive(Clone, Copy)]
enum Token {
    Stop,
    Violation,
    /// Vector 1 of the NIC of the domain with this index.
    Link(usize),
}

impl Token {
    fn to_data(self) -> u32 {
        match self {
            Self::Stop => 0,
            Self::Violation => 1,
            Self::Link(index) => 2 + index as u32,
        }
    }

    fn from_data(data: u32) -> Self {
        match data {
            0 => Self::Stop,
            1 => Self::Violation,
            n => Self::Link(n as usize - 2),
        }
    }
}

struct Watch {
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
    hub: Arc<Hub>,
    stop: EventFd,
    stopped: bool,
    events: Sender<Event>,
    link_up: Vec<bool>,
}

/// The running supervisor thread; ends when dropped.
pub(super) struct WatchThread {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl WatchThread {
    pub(super) fn spawn(
        slots: Vec<Arc<DomainSlot>>,
        failover: Arc<Failover>,
        hub: Arc<Hub>,
        events: Sender<Event>,
    ) -> std::io::Result<Self> {
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let link_up = slots.iter().map(|slot| slot.nic.link_up()).collect();
        let watch = Watch {
            slots,
            failover,
            hub,
            stop: stop.try_clone()?,
            stopped: false,
            events,
            link_up,
        };
        let thread = realtime::spawn("supervisor", Some(Priority::Supervisor), move || {
            if let Err(error) = watch.run() {
                tracing::error!(?error, "the supervisor thread has ended");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for WatchThread {
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
        let _ = self.hub.violated.read();
        for slot in &self.slots {
            let Some(pending) = self.hub.take_violation(slot.id) else { continue };
            let Some(life) = self.failover.life(slot.id) else { continue };
            if life.epoch() != pending.epoch {
                continue;
            }
            let entered_ns = life.last_entry_ns();
            life.expel();
            if !life.wait_out(Instant::now() + PAUSE_DEADLINE) {
                tracing::warn!(domain = slot.name, "the vCPU does not come out of the guest");
            }
            let verdict = Verdict::Protocol(pending.violation);
            self.failover.verdict(slot.id, pending.epoch, verdict, entered_ns);
        }
    }

    fn handle_link(&mut self, index: usize) {
        let nic = &self.slots[index].nic;
        let _ = nic.link_event().read();
        let up = nic.acknowledge_link();
        if std::mem::replace(&mut self.link_up[index], up) != up {
            let event = Event::Link { nic: nic.name().to_owned(), up };
            let _ = self.events.send(event);
        }
    }
}

impl MutEventSubscriber for Watch {
    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        match Token::from_data(events.data()) {
            Token::Stop => self.stopped = true,
            Token::Violation => self.handle_violations(),
            Token::Link(index) => self.handle_link(index),
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut add = |fd: &EventFd, token: Token| {
            let events = Events::with_data(fd, token.to_data(), EventSet::IN);
            if let Err(error) = ops.add(events) {
                tracing::error!(?error, "the supervisor cannot watch an event");
            }
        };
        add(&self.stop, Token::Stop);
        add(&self.hub.violated, Token::Violation);
        for (index, slot) in self.slots.iter().enumerate() {
            add(slot.nic.link_event(), Token::Link(index));
        }
    }
}
