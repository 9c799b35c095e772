//! Tells a guest that the network is gone, where its topology asks for that: while no NIC has a link,
//! the link of the guest's own NIC is set down through its VMM's monitor, so that redundancy inside
//! the guest can act. It comes up again with the first link.
//!
//! One thread for each such guest, and nobody waits for it: a monitor that does not answer holds up
//! no failover, no other guest and no shutdown.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use switchboard::Switchboard;

use super::failover::Failover;
use super::qmp::{self, QmpError};
use super::rules::{DomainView, Link};
use platform::realtime::{self, guarded};

/// Between two looks at the links.
const LOOK: Duration = Duration::from_millis(20);
/// How long all links must be gone: longer than a rebuild takes, or a plug that is changed by a
/// failover.
const GONE: Duration = Duration::from_millis(250);
/// After a monitor that did not do it.
const RETRY: Duration = Duration::from_secs(1);

/// What is to become of a guest's link. Pure.
#[derive(Debug, Default)]
struct Wish {
    gone_since: Option<Instant>,
    is_down: bool,
}

impl Wish {
    /// Looks at the links; returns whether the guest's is to be down.
    fn look(&mut self, views: &[DomainView], now: Instant) -> bool {
        let has = |link| views.iter().any(|view| view.link == link);
        if has(Link::Up) {
            *self = Self::default();
        } else if has(Link::Down) {
            let since = *self.gone_since.get_or_insert(now);
            self.is_down |= now.duration_since(since) >= GONE;
        }
        self.is_down
    }
}

/// What a guest's thread works with.
struct GuestLink {
    guest: usize,
    socket: PathBuf,
    name: String,
    /// Weak, so that a monitor that hangs does not keep a system alive that has ended.
    failover: Weak<Failover>,
    switchboard: Weak<Switchboard>,
    wish: Wish,
    /// What the VMM was told last; `None` if it is to be told whatever it is: a VMM that was
    /// started anew knows nothing of a link that is down, nor does a new warmspare.
    told: Option<bool>,
    was_connected: bool,
    /// When to try again.
    retry: Option<Instant>,
    /// The last attempt failed, which was logged.
    has_failed: bool,
}

/// Ends the thread when it is dropped, without waiting for it.
pub(super) struct GuestLinkThread {
    _stop: SyncSender<()>,
}

impl GuestLinkThread {
    /// Starts the thread of a guest, which has this monitor and network backend.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn spawn(
        guest: usize,
        (socket, name): (PathBuf, String),
        failover: &Arc<Failover>,
        switchboard: &Arc<Switchboard>,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let link = GuestLink {
            guest,
            socket,
            name,
            failover: Arc::downgrade(failover),
            switchboard: Arc::downgrade(switchboard),
            wish: Wish::default(),
            told: None,
            was_connected: false,
            retry: None,
            has_failed: false,
        };
        realtime::spawn("guest-link", None, move || link.run(&stopped))?;
        Ok(Self { _stop: stop })
    }
}

impl GuestLink {
    fn run(mut self, stopped: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
            // Each look begins anew, so a panic in one does not concern the next.
            guarded("guest-link", || self.look(Instant::now()));
        }
    }

    fn look(&mut self, now: Instant) {
        let Some(views) = self.failover.upgrade().map(|it| it.views()) else { return };
        let Some(front_ends) = self.switchboard.upgrade().map(|it| it.front_ends()) else { return };
        let down = self.wish.look(&views, now);
        let connected = front_ends.get(self.guest).is_some_and(|it| it.connected);
        let was_connected = std::mem::replace(&mut self.was_connected, connected);
        if connected && !was_connected && down {
            self.told = None;
        }
        // Without a front-end there is nobody to tell.
        if self.told == Some(down) || !connected || self.retry.is_some_and(|at| now < at) {
            return;
        }
        let outcome = qmp::set_link(&self.socket, &self.name, !down);
        self.note(down, outcome);
    }

    fn note(&mut self, down: bool, outcome: Result<(), QmpError>) {
        let guest = self.guest;
        match outcome {
            Ok(()) => {
                let before = self.told.replace(down);
                (self.retry, self.has_failed) = (None, false);
                match (before, down) {
                    (_, true) => {
                        tracing::warn!(guest, "no NIC has a link: the guest's was set down")
                    }
                    (Some(true), false) => {
                        tracing::warn!(guest, "the guest's link was set up again")
                    }
                    (_, false) => {}
                }
            }
            Err(error) => {
                self.retry = Some(Instant::now() + RETRY);
                if !std::mem::replace(&mut self.has_failed, true) {
                    let socket = self.socket.display();
                    tracing::warn!(guest, %socket, "the guest's link cannot be set: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(links: [Link; 2]) -> [DomainView; 2] {
        links.map(|link| DomainView { link, ..DomainView::NOBODY })
    }

    #[test]
    fn the_link_goes_with_the_last_of_the_nics_and_comes_with_the_first() {
        let mut wish = Wish::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!wish.look(&views([Link::Down, Link::Up]), after(0)));
        assert!(!wish.look(&views([Link::Down, Link::Down]), after(1000)));
        assert!(!wish.look(&views([Link::Down, Link::Down]), after(1249)));
        assert!(wish.look(&views([Link::Down, Link::Down]), after(1250)));
        assert!(wish.look(&views([Link::Unknown, Link::Unknown]), after(1300)), "nothing new");
        assert!(!wish.look(&views([Link::Unknown, Link::Up]), after(1400)));
        assert!(!wish.look(&views([Link::Down, Link::Down]), after(1500)), "from the beginning");
    }

    #[test]
    fn domains_that_are_rebuilt_have_no_say() {
        let mut wish = Wish::default();
        let start = Instant::now();
        for ms in [0, 500, 5000] {
            let now = start + Duration::from_millis(ms);
            assert!(!wish.look(&views([Link::Unknown, Link::Unknown]), now));
        }
    }
}
