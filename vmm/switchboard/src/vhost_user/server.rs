//! The thread of one vhost-user socket. It serves one connection at a time; the next front-end waits
//! until the connection before has ended, and is told of meanwhile. Where the VMM listens, it connects
//! when no connection is left.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use platform::budget::ACCEPT_RETRY_PAUSE;
use platform::realtime::{self, guarded};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::dialer::Dialer;
use super::error::VhostUserError;
use super::message::{ConnectionError, Inbox, reply};
use super::pace::Pace;
use super::session::Session;
use super::socket::{Socket, SocketRights};
use super::sources::Sources;
use super::waiting::Waiting;
use crate::port::Closer;
use crate::port_handle::PortHandle;

/// Most descriptors that may wait for their close. Beyond, the front-end's file system hangs, and
/// its guest is not served until that answers: descriptors are what all guests share.
const MAX_UNCLOSED: usize = 32;

/// What a server is made of.
#[derive(Clone, Debug)]
pub struct VhostUserConfig {
    /// The socket, and who makes it.
    pub socket: SocketConfig,
    /// The guest's MAC address, told to front-ends that ask.
    pub mac: [u8; 6],
}

/// A socket, and which side makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketConfig {
    /// Front-ends connect to this path.
    Listen {
        /// Where.
        path: PathBuf,
        /// Who may connect.
        rights: SocketRights,
    },
    /// The VMM listens at this path.
    Connect(PathBuf),
}

/// A running server. Dropping it ends the connection and removes the socket's file.
pub struct VhostUserServer {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl VhostUserServer {
    /// Listens, or connects again and again, and serves front-ends on a thread of normal priority.
    ///
    /// # Errors
    /// The socket cannot be made, or no thread can be had.
    pub fn spawn(config: VhostUserConfig, port: PortHandle) -> Result<Self, VhostUserError> {
        let (origin, path) = match config.socket {
            SocketConfig::Listen { path, rights } => {
                (Origin::Socket(Socket::bind(&path, rights)?), path)
            }
            SocketConfig::Connect(path) => (Origin::Dialer(Dialer::new(path.clone())), path),
        };
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(VhostUserError::Start);
        let stop = event()?;
        let server = Server {
            origin,
            path,
            port,
            mac: config.mac,
            waiting: Waiting::default(),
            accept_again: None,
            closer: Closer::default(),
            pace: Pace::new(),
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

/// Where front-ends come from.
enum Origin {
    Socket(Socket),
    Dialer(Dialer),
}

struct Server {
    origin: Origin,
    path: PathBuf,
    port: PortHandle,
    mac: [u8; 6],
    stop: EventFd,
    connection: Option<Connection>,
    waiting: Waiting,
    /// Where one could not be accepted: when to try again.
    accept_again: Option<Instant>,
    /// Closes what front-ends passed.
    closer: Closer,
    /// Of lines about connections that begin and end.
    pace: Pace,
}

impl Server {
    /// Serves until told to stop. A panic ends the connection in which it happened: what it had of
    /// the guest goes with it, and the front-end connects again.
    fn run(mut self) {
        while guarded("vhost", || self.handle_events()).is_none() {
            self.connection = None;
        }
    }

    fn handle_events(&mut self) {
        loop {
            let woken = self.sources().wait(self.deadline());
            if woken.stop {
                return;
            }
            if woken.damage {
                self.note_damage();
            }
            self.waiting.forget(&woken.gone);
            if woken.connection {
                self.advance();
            }
            self.end_if_late();
            self.end_if_unclosed();
            self.serve_next();
            if woken.listener {
                self.accept(woken.hung_up);
            }
            self.port.events().show_front_ends(self.connection.is_some(), self.waiting.len());
        }
    }

    /// When to wake without an event.
    fn deadline(&self) -> Option<Instant> {
        let late = self.connection.as_ref().and_then(|it| it.inbox.deadline());
        let again = self.accept_again.filter(|at| *at > Instant::now());
        if self.hangs() {
            let look = Instant::now() + ACCEPT_RETRY_PAUSE;
            return Some(late.map_or(look, |late| late.min(look)));
        }
        let dial = match &self.origin {
            Origin::Dialer(dialer) if self.connection.is_none() => Some(dialer.due()),
            Origin::Dialer(_) | Origin::Socket(_) => None,
        };
        [late, again, dial].into_iter().flatten().min()
    }

    /// Returns true while too much of what front-ends passed cannot be closed.
    fn hangs(&self) -> bool {
        self.closer.waiting() > MAX_UNCLOSED
    }

    /// Serves another front-end, if there is none and one can be had.
    fn serve_next(&mut self) {
        if self.connection.is_some() || self.hangs() {
            return;
        }
        let next = match &mut self.origin {
            Origin::Socket(_) => self.waiting.next(),
            Origin::Dialer(dialer) => dialer.dial(),
        };
        if let Some(stream) = next {
            self.serve(stream);
        }
    }

    /// What to sleep on now.
    fn sources(&self) -> Sources {
        let connection = self.connection.as_ref().map(|it| it.stream.as_raw_fd());
        let accepts = self.accept_again.is_none_or(|at| at <= Instant::now());
        let has_room = accepts && self.waiting.has_room() && !self.hangs();
        let listener = match &self.origin {
            Origin::Socket(socket) if has_room => Some(socket.listener.as_raw_fd()),
            Origin::Socket(_) | Origin::Dialer(_) => None,
        };
        let damage = self.port.events().event.as_raw_fd();
        let mut sources = Sources::new(self.stop.as_raw_fd(), damage, connection, listener);
        self.waiting.descriptors().for_each(|fd| sources.add_waiting(fd));
        sources
    }

    fn advance(&mut self) {
        let Some(connection) = &mut self.connection else { return };
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

    /// Ends a connection that has passed too much of what cannot be closed.
    fn end_if_unclosed(&mut self) {
        if self.hangs() {
            self.end(&ConnectionError::Unclosed);
        }
    }

    /// Takes the next front-end. If the one that is served has gone (`hung_up`), it is its successor,
    /// and not one too many.
    fn accept(&mut self, hung_up: bool) {
        let Origin::Socket(socket) = &self.origin else { return };
        match socket.listener.accept() {
            Ok((stream, _)) if stream.set_nonblocking(true).is_ok() => {
                self.accept_again = None;
                match &self.connection {
                    None => self.serve(stream),
                    Some(_) if hung_up => self.waiting.add(stream),
                    Some(served) => {
                        self.waiting.tell(&stream, &served.stream, &self.path);
                        self.waiting.add(stream);
                    }
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                // Out of descriptors, most likely: the front-end stays in the queue meanwhile.
                if self.accept_again.is_none() {
                    tracing::warn!(%error, "a front-end could not be accepted");
                }
                self.accept_again = Some(Instant::now() + ACCEPT_RETRY_PAUSE);
            }
        }
    }

    fn serve(&mut self, stream: UnixStream) {
        if let Some(untold) = self.pace.ask(Instant::now()) {
            tracing::info!(untold, "a front-end has connected");
        }
        // What was raised before is about rings of a connection that has ended.
        self.port.events().clear();
        let session = Session::new(self.port.clone(), self.mac);
        self.connection =
            Some(Connection { stream, inbox: Inbox::new(self.closer.clone()), session });
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
        let Some(untold) = self.pace.ask(Instant::now()) else { return };
        match error {
            ConnectionError::Closed => tracing::info!(untold, "{error}"),
            _ => {
                let cause = std::error::Error::source(error);
                tracing::warn!(?cause, untold, "connection ended: {error}");
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
