//! A link that comes back: what the machine sees of its back-end.
//!
//! ```text
//!            connect                    socket closed, request failed
//!   (start) ────────► up ◄───────────┐ ───────────────► down, next try in 1, 2, 4 .. 100 ms
//!                                     └──── connected and, if the driver runs, rings attached ────┘
//! ```

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::link::{Attachment, Link, LinkError, Ring, RingEvents};
use super::mmio::QUEUES;
use platform::budget::{RECONNECT_FIRST, RECONNECT_LONGEST};
use platform::memory::SharedMemory;

/// What the driver of the guest has started.
#[derive(Clone, Copy, Debug)]
struct Running {
    features: u64,
    rings: [Ring; QUEUES],
}

/// Since when a back-end is gone, and when to look for it again.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    next_try: Instant,
    pause: Duration,
    /// The kind of trouble has been reported.
    reported: bool,
}

/// The way to the back-end.
pub(super) struct Line {
    path: PathBuf,
    stop: Arc<EventFd>,
    ram: Arc<SharedMemory>,
    events: [RingEvents; QUEUES],
    link: Option<Link>,
    running: Option<Running>,
    outage: Option<Outage>,
}

impl Line {
    /// Over a link that is up.
    pub(super) fn new(
        path: PathBuf,
        link: Link,
        stop: Arc<EventFd>,
        ram: Arc<SharedMemory>,
        events: [RingEvents; QUEUES],
    ) -> Self {
        Self { path, stop, ram, events, link: Some(link), running: None, outage: None }
    }

    /// The eventfds of the rings.
    pub(super) fn events(&self) -> &[RingEvents; QUEUES] {
        &self.events
    }

    /// The connection, to be watched; -1 while there is none.
    pub(super) fn socket(&self) -> RawFd {
        self.link.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// When [`Self::try_again`] is due, if the back-end is gone.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.outage.map(|outage| outage.next_try)
    }

    /// The driver is ready.
    pub(super) fn start(&mut self, features: u64, rings: [Ring; QUEUES]) {
        self.running = Some(Running { features, rings });
        if let Err(error) = self.attach() {
            self.lost(&error);
        }
    }

    /// The driver has reset the device.
    pub(super) fn reset(&mut self) {
        if self.running.take().is_none() {
            return;
        }
        if let Some(link) = &mut self.link
            && let Err(error) = link.detach(&self.stop)
        {
            self.lost(&error);
        }
    }

    fn attach(&mut self) -> Result<(), LinkError> {
        let (Some(running), Some(link)) = (&self.running, &mut self.link) else {
            return Ok(());
        };
        let features = running.features;
        let (ram, events) = (&*self.ram, &self.events);
        let to = Attachment { ram, features, rings: &running.rings, events };
        link.attach(&to, &self.stop)
    }

    /// The back-end closed the connection.
    pub(super) fn hung_up(&mut self) {
        self.drop_link();
        tracing::warn!("{}: the back-end went away; trying again", self.path.display());
    }

    fn lost(&mut self, error: &LinkError) {
        self.drop_link();
        tracing::warn!("{}: {error}; trying again", self.path.display());
    }

    fn drop_link(&mut self) {
        self.link = None;
        let now = Instant::now();
        let next_try = now + RECONNECT_FIRST;
        self.outage.get_or_insert(Outage {
            since: now,
            next_try,
            pause: RECONNECT_FIRST,
            reported: false,
        });
    }

    /// Looks for the back-end, if that is due. True if it is back, with the rings running where the
    /// guest's used indices say that they stand.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(mut outage) = self.outage.filter(|outage| outage.next_try <= Instant::now())
        else {
            return false;
        };
        let result = Link::connect(&self.path, &self.stop).and_then(|link| {
            self.link = Some(link);
            self.attach()
        });
        match result {
            Ok(()) => {
                let away_ms = outage.since.elapsed().as_millis();
                tracing::info!("{}: the back-end is back after {away_ms} ms", self.path.display());
                self.outage = None;
                true
            }
            Err(error) => {
                self.link = None;
                let expected = matches!(error, LinkError::Connect(_));
                if !expected && !outage.reported {
                    tracing::warn!("{}: {error}; trying on", self.path.display());
                    outage.reported = true;
                }
                outage.pause = (outage.pause * 2).min(RECONNECT_LONGEST);
                outage.next_try = Instant::now() + outage.pause;
                self.outage = Some(outage);
                false
            }
        }
    }
}
