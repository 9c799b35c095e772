//! The thread of one vhost-user socket. It serves one connection at a time; the next front-end waits
//! until the connection before has ended, and is told of meanwhile.

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

use super::error::VhostUserError;
use super::message::{ConnectionError, Inbox, reply};
use super::session::Session;
use super::socket::{Socket, SocketRights};
use super::sources::Sources;
use super::waiting::Waiting;
use crate::port_handle::PortHandle;

/// What a server is made of.
#[derive(Clone, Debug)]
pub struct VhostUserConfig {
    /// Path of the socket.
    pub socket: PathBuf,
    /// The guest's MAC address, told to front-ends that ask.
    pub mac: [u8; 6],
    /// Who may connect.
    pub rights: SocketRights,
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
        let socket = Socket::bind(&config.socket, config.rights)?;
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(VhostUserError::Start);
        let stop = event()?;
        let server = Server {
            socket,
            path: config.socket,
            port,
            mac: config.mac,
            waiting: Waiting::default(),
            accept_again: None,
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
    path: PathBuf,
    port: PortHandle,
    mac: [u8; 6],
    stop: EventFd,
    connection: Option<Connection>,
    waiting: Waiting,
    /// Where one could not be accepted: when to try again.
    accept_again: Option<Instant>,
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
            let late = self.connection.as_ref().and_then(|it| it.inbox.deadline());
            let again = self.accept_again.filter(|at| *at > Instant::now());
            let deadline = [late, again].into_iter().flatten().min();
            let woken = self.sources().wait(deadline);
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
            if self.connection.is_none()
                && let Some(stream) = self.waiting.next()
            {
                self.serve(stream);
            }
            if woken.listener {
                self.accept(woken.hung_up);
            }
            self.port.events().show_front_ends(self.connection.is_some(), self.waiting.len());
        }
    }

    /// What to sleep on now.
    fn sources(&self) -> Sources {
        let connection = self.connection.as_ref().map(|it| it.stream.as_raw_fd());
        let accepts = self.accept_again.is_none_or(|at| at <= Instant::now());
        let has_room = accepts && self.waiting.has_room();
        let listener = has_room.then(|| self.socket.listener.as_raw_fd());
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

    /// Takes the next front-end. If the one that is served has gone (`hung_up`), it is its successor,
    /// and not one too many.
    fn accept(&mut self, hung_up: bool) {
        match self.socket.listener.accept() {
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
        tracing::info!("a front-end has connected");
        // What was raised before is about rings of a connection that has ended.
        self.port.events().clear();
        let session = Session::new(self.port.clone(), self.mac);
        self.connection = Some(Connection { stream, inbox: Inbox::default(), session });
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
