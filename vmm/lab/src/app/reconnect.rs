//! A connection that comes back: what the machine sees of its back-end.
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

use super::connection::{Attachment, Connection, Ring, RingEvents};
use super::error::ConnectionError;
use super::mmio::QUEUES;
use platform::budget::{RECONNECT_FIRST, RECONNECT_LONGEST};
use platform::memory::SharedMemory;

/// What the driver of the guest has started.
#[derive(Clone, Copy, Debug)]
struct Running {
    features: u64,
    rings: [Ring; QUEUES],
}

/// Since when the back-end is gone, and when to try to connect again.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    next_try: Instant,
    pause: Duration,
    /// Whether the kind of trouble has been reported.
    reported: bool,
}

/// The machine's end of a back-end that may go away and come back.
pub(super) struct BackendLink {
    path: PathBuf,
    stop: Arc<EventFd>,
    ram: Arc<SharedMemory>,
    events: [RingEvents; QUEUES],
    connection: Option<Connection>,
    running: Option<Running>,
    outage: Option<Outage>,
}

impl BackendLink {
    /// Takes over an open connection.
    pub(super) fn new(
        path: PathBuf,
        connection: Connection,
        stop: Arc<EventFd>,
        ram: Arc<SharedMemory>,
        events: [RingEvents; QUEUES],
    ) -> Self {
        Self { path, stop, ram, events, connection: Some(connection), running: None, outage: None }
    }

    /// The eventfds of the rings.
    pub(super) fn events(&self) -> &[RingEvents; QUEUES] {
        &self.events
    }

    /// The connection, to be watched; -1 while there is none.
    pub(super) fn socket(&self) -> RawFd {
        self.connection.as_ref().map_or(-1, AsRawFd::as_raw_fd)
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
        if let Some(connection) = &mut self.connection
            && let Err(error) = connection.detach(&self.stop)
        {
            self.lost(&error);
        }
    }

    fn attach(&mut self) -> Result<(), ConnectionError> {
        let (Some(running), Some(connection)) = (&self.running, &mut self.connection) else {
            return Ok(());
        };
        let features = running.features;
        let (ram, events) = (&*self.ram, &self.events);
        let to = Attachment { ram, features, rings: &running.rings, events };
        connection.attach(&to, &self.stop)
    }

    /// The back-end closed the connection.
    pub(super) fn hung_up(&mut self) {
        self.disconnect();
        tracing::warn!("{}: the back-end went away; trying again", self.path.display());
    }

    fn lost(&mut self, error: &ConnectionError) {
        self.disconnect();
        tracing::warn!("{}: {error}; trying again", self.path.display());
    }

    fn disconnect(&mut self) {
        self.connection = None;
        let now = Instant::now();
        let next_try = now + RECONNECT_FIRST;
        self.outage.get_or_insert(Outage {
            since: now,
            next_try,
            pause: RECONNECT_FIRST,
            reported: false,
        });
    }

    /// Tries to connect, if that is due. Returns true if the back-end is back, with the rings running
    /// from where the guest's used indices say.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(mut outage) = self.outage.filter(|outage| outage.next_try <= Instant::now())
        else {
            return false;
        };
        let result = Connection::open(&self.path, &self.stop).and_then(|connection| {
            self.connection = Some(connection);
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
                self.connection = None;
                let expected = matches!(error, ConnectionError::Connect(_));
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
