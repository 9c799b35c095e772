//! The thread of one vhost-user socket. It holds one connection at a time; the next front-end waits
//! in the socket's queue until the connection before has ended.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use platform::realtime::{self, guarded};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::VhostUserError;
use super::message::{ConnectionError, Inbox, reply};
use super::session::Session;
use super::socket::Socket;
use crate::port_handle::PortHandle;

/// What a server is made of.
#[derive(Clone, Debug)]
pub struct VhostUserConfig {
    /// Path of the socket.
    pub socket: PathBuf,
    /// The guest's MAC address, told to front-ends that ask.
    pub mac: [u8; 6],
}

/// A running server. Dropping it ends the connection and removes the socket's file.
pub struct VhostUserServer {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl VhostUserServer {
    /// Listens, and serves front-ends on a thread of normal priority.
    ///
    /// # Errors
    /// The socket cannot be made, or no thread can be had.
    pub fn spawn(config: VhostUserConfig, port: PortHandle) -> Result<Self, VhostUserError> {
        let socket = Socket::bind(&config.socket)?;
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(VhostUserError::Start);
        let stop = event()?;
        let server = Server {
            socket,
            port,
            mac: config.mac,
            stop: stop.try_clone().map_err(VhostUserError::Start)?,
            connection: None,
        };
        let thread =
            realtime::spawn("vhost", None, move || server.run()).map_err(VhostUserError::Start)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl VhostUserServer {
    /// Returns true if the thread has ended, which it does only by a defect as long as this lives.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for VhostUserServer {
    fn drop(&mut self) {
        // Full means readable.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    session: Session,
}

struct Server {
    socket: Socket,
    port: PortHandle,
    mac: [u8; 6],
    stop: EventFd,
    connection: Option<Connection>,
}

impl Server {
    /// Serves until told to stop. A panic ends the connection in which it happened: what it had of
    /// the guest goes with it, and the front-end connects again.
    fn run(mut self) {
        while guarded("vhost", || self.serve()).is_none() {
            self.connection = None;
        }
    }

    fn serve(&mut self) {
        loop {
            let socket = match &self.connection {
                Some(connection) => connection.stream.as_raw_fd(),
                None => self.socket.listener.as_raw_fd(),
            };
            let events = self.port.events().event.as_raw_fd();
            let deadline = self.connection.as_ref().and_then(|it| it.inbox.deadline());
            let woken = wait(self.stop.as_raw_fd(), events, socket, deadline);
            if woken.stop {
                return;
            }
            if woken.damage {
                self.note_damage();
            }
            if woken.socket {
                self.advance();
            }
            self.end_if_late();
        }
    }

    fn advance(&mut self) {
        let Some(connection) = &mut self.connection else { return self.accept() };
        if let Err(error) = connection.receive() {
            self.end(&error);
        }
    }

    /// Ends a connection whose front-end has left a message half sent for too long: the next one
    /// waits for its place.
    fn end_if_late(&mut self) {
        let deadline = self.connection.as_ref().and_then(|it| it.inbox.deadline());
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.end(&ConnectionError::Slow);
        }
    }

    fn accept(&mut self) {
        match self.socket.listener.accept() {
            Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                tracing::info!("a front-end has connected");
                // What was raised before is about rings of a connection that has ended.
                self.port.events().clear();
                let session = Session::new(self.port.clone(), self.mac);
                self.connection = Some(Connection { stream, inbox: Inbox::default(), session });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                // Out of descriptors, most likely: the front-end stays in the queue meanwhile.
                tracing::warn!(%error, "a front-end could not be accepted");
                std::thread::sleep(platform::budget::ACCEPT_RETRY_PAUSE);
            }
        }
    }

    /// Acts on damage to the guest's memory or rings that the switchboard has found.
    fn note_damage(&mut self) {
        let events = self.port.events();
        // Before the flags, so that one raised meanwhile ends the next sleep.
        let _ = events.event.read();
        for (ring, broken) in events.broken.iter().enumerate() {
            if broken.swap(false, Ordering::AcqRel) {
                tracing::warn!(ring, "a virtqueue of the guest is corrupt and was stopped");
            }
        }
        if events.truncated.swap(false, Ordering::AcqRel) {
            self.end(&ConnectionError::Truncated);
        }
    }

    fn end(&mut self, error: &ConnectionError) {
        if self.connection.take().is_none() {
            return;
        }
        match error {
            ConnectionError::Closed => tracing::info!("{error}"),
            _ => {
                tracing::warn!(cause = ?std::error::Error::source(error), "connection ended: {error}")
            }
        }
    }
}

impl Connection {
    /// Carries out the next message, if it is whole. Only one: a front-end that never stops sending
    /// must not keep the thread from hearing of anything else.
    fn receive(&mut self) -> Result<(), ConnectionError> {
        if let Some(message) = self.inbox.receive(&self.stream)? {
            let request = message.request;
            if let Some(body) = self.session.handle(message)? {
                reply(&self.stream, request, &body)?;
            }
        }
        Ok(())
    }
}

/// What ended a sleep.
struct Woken {
    stop: bool,
    damage: bool,
    socket: bool,
}

/// Sleeps until one of the descriptors has something, or the deadline.
fn wait(stop: RawFd, damage: RawFd, socket: RawFd, deadline: Option<Instant>) -> Woken {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = [stop, damage, socket].map(entry);
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Rounded up, so that the deadline is over afterwards.
    let timeout_ms = left.map_or(-1, |left| left.as_millis() as libc::c_int + 1);
    // SAFETY: as many entries as said, which outlive the call.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), 3, timeout_ms) };
    let [stop, damage, socket] = entries.map(|entry| count > 0 && entry.revents != 0);
    Woken { stop, damage, socket }
}
