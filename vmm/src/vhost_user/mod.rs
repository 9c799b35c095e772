//! The vhost-user back-end: one socket to which one front-end at a time connects.
//!
//! A thread of normal priority holds the connection and carries the control messages out; frames
//! and kicks are the switchboard's. What the thread changes, it changes at a loop boundary of the
//! switchboard, and it replies after that.
//!
//! # Why an own connection layer
//!
//! The requests, message bodies and feature bits are the `vhost` crate's. Its request handler and
//! `vhost-user-backend` are not used, for what they do that a product must not (versions 0.18 and
//! 0.24):
//! - SET_VRING_ENABLE before SET_FEATURES, which QEMU sends, ends the connection, and the handler
//!   offers no place to change that;
//! - a second connection to one daemon fails, and each daemon leaks a descriptor, while here a
//!   front-end may come back any number of times;
//! - an error in a handler ends the worker silently; the worker owns the virtqueue, takes a lock
//!   for each descriptor, and reads kicks in a way that a pipe or a regular file can block;
//! - messages are read with blocking calls: a front-end that stops in the middle of one holds the
//!   thread for ever, and the descriptors that come with it are not close-on-exec.
//!
//! | file | holds |
//! |---|---|
//! | `listener` | the socket and its file |
//! | `channel` | bytes and descriptors to messages, with deadlines |
//! | `message` | what a message says |
//! | `session` | what a front-end has said, and what it changes |

mod channel;
mod listener;
mod message;
mod session;

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use vhost::vhost_user::message::FrontendReq;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

pub use self::listener::SocketError;

use self::channel::{Channel, ChannelError};
use self::listener::Listener;
use self::message::{Header, Message};
use self::session::{Answer, Refusal, Session};
use crate::clock::monotonic_ns;
use crate::realtime;
use crate::switchboard::{PortHandle, SwitchboardError};

/// Why a back-end could not be started.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// The socket path cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The operating system refuses a thread or a descriptor.
    #[error("cannot start the vhost-user back-end")]
    Start(#[source] std::io::Error),
}

/// What a back-end is made of.
#[derive(Clone, Debug)]
pub struct VhostUserConfig {
    /// Name of the application guest, for the thread's name and the log.
    pub name: String,
    /// Where front-ends connect.
    pub socket: PathBuf,
    /// The guest's MAC address, told to front-ends that ask.
    pub mac: [u8; 6],
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("request refused")]
    Refused(#[source] Refusal),
    #[error("the guest's memory was truncated")]
    Truncated,
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
    #[error("the back-end has panicked")]
    Panicked,
    #[error("stopped")]
    Stopped,
    #[error("cannot wait for the front-end")]
    Wait(#[source] std::io::Error),
}

/// A running back-end. Dropping it ends the connection and removes the socket's file.
pub struct VhostUserServer {
    stop: Arc<EventFd>,
    connections: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl VhostUserServer {
    /// Listens on the socket and starts the thread "vhost-NAME".
    ///
    /// # Errors
    /// The path cannot be used, or the operating system refuses.
    pub fn spawn(config: VhostUserConfig, port: PortHandle) -> Result<Self, VhostUserError> {
        let listener = Listener::bind(&config.socket)?;
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(VhostUserError::Start)?;
        let (stop, connections) = (Arc::new(event), Arc::new(AtomicU64::new(0)));
        let name = format!("vhost-{}", config.name);
        let server =
            Server { config, port, listener, stop: stop.clone(), connections: connections.clone() };
        let thread = realtime::spawn(&name, None, move || server.run());
        Ok(Self { stop, connections, thread: Some(thread.map_err(VhostUserError::Start)?) })
    }

    /// Front-ends that have connected so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for VhostUserServer {
    fn drop(&mut self) {
        // Never full: written once.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

struct Server {
    config: VhostUserConfig,
    port: PortHandle,
    listener: Listener,
    stop: Arc<EventFd>,
    connections: Arc<AtomicU64>,
}

impl Server {
    fn run(self) {
        let name = &self.config.name;
        loop {
            let stream = match self.wait_for_connection() {
                Ok(stream) => stream,
                Err(Ended::Stopped) => return,
                Err(error) => {
                    tracing::error!("{name}: {}: no front-end can connect any more", chain(&error));
                    return;
                }
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            tracing::info!("{name}: a front-end has connected");
            match self.serve(stream) {
                Ended::Stopped => return,
                Ended::Channel(ChannelError::Closed) => {
                    tracing::info!("{name}: the front-end has disconnected");
                }
                why => tracing::warn!("{name}: connection ended: {}", chain(&why)),
            }
        }
    }

    fn wait_for_connection(&self) -> Result<UnixStream, Ended> {
        loop {
            let [stop, _] = poll([self.stop.as_raw_fd(), self.listener.as_raw_fd()], None)?;
            if stop {
                return Err(Ended::Stopped);
            }
            match self.listener.accept() {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => {}
                // Out of descriptors or memory, or the other side is gone already: not for ever.
                Err(error) => {
                    tracing::warn!("{}: cannot accept a front-end: {error}", self.config.name);
                    poll([self.stop.as_raw_fd()], Some(ACCEPT_AGAIN_MS))?;
                }
            }
        }
    }

    /// Serves one front-end to its end; nothing of it remains afterwards. A panic costs that
    /// connection, not the back-end.
    fn serve(&self, stream: UnixStream) -> Ended {
        let mut session = Session::new(self.port.clone(), self.config.mac);
        let talk = AssertUnwindSafe(|| self.converse(&mut Channel::new(stream), &mut session));
        let why = catch_unwind(talk).unwrap_or(Ended::Panicked);
        if let Err(error) = session.stop() {
            tracing::warn!("{}: {}", self.config.name, chain(&error));
        }
        self.port.events().clear();
        why
    }

    fn converse(&self, channel: &mut Channel, session: &mut Session) -> Ended {
        let fds =
            [self.stop.as_raw_fd(), self.port.events().event.as_raw_fd(), channel.as_raw_fd()];
        loop {
            match self.next_message(channel, fds) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if let Err(why) = self.answer(channel, session, message) {
                        return why;
                    }
                }
                Err(why) => return why,
            }
        }
    }

    fn next_message(&self, channel: &mut Channel, fds: [i32; 3]) -> Result<Option<Message>, Ended> {
        let left_ms =
            channel.due_ns().map(|due| due.saturating_sub(monotonic_ns()) / 1_000_000 + 1);
        let [stop, event, _] = poll(fds, left_ms.map(|ms| ms as i32))?;
        if stop {
            return Err(Ended::Stopped);
        }
        if event {
            self.hear_events()?;
        }
        Ok(channel.receive()?)
    }

    /// What the switchboard has to say of the guest.
    fn hear_events(&self) -> Result<(), Ended> {
        let events = self.port.events();
        // Non-blocking and our own.
        let _ = events.event.read();
        if events.truncated.load(Ordering::Acquire) {
            return Err(Ended::Truncated);
        }
        for (ring, broken) in events.broken.iter().enumerate() {
            if broken.load(Ordering::Acquire) {
                let name = &self.config.name;
                tracing::warn!("{name}: virtqueue {ring} is corrupt and stands until it is reset");
            }
        }
        Ok(())
    }

    /// Carries a message out and replies. A refusal ends the connection, unless the front-end
    /// asked to be told.
    fn answer(
        &self,
        channel: &mut Channel,
        session: &mut Session,
        mut message: Message,
    ) -> Result<(), Ended> {
        let Header { request, need_reply, .. } = message.header;
        tracing::trace!("{}: request {request}, {:?}", self.config.name, message.request());
        let body = match session.handle(&mut message) {
            Ok(Answer::Reply(body)) => body,
            Ok(Answer::Done) if need_reply && session.acknowledges() => 0u64.to_ne_bytes().to_vec(),
            Ok(Answer::Done) => return Ok(()),
            Err(Refusal::Switchboard(error)) => return Err(error.into()),
            Err(refusal) if need_reply && session.acknowledges() && !has_reply(&message) => {
                tracing::warn!("{}: {}", self.config.name, chain(&refusal));
                1u64.to_ne_bytes().to_vec()
            }
            Err(refusal) => return Err(Ended::Refused(refusal)),
        };
        Ok(channel.send(&Header::reply(request, &body))?)
    }
}

/// How long to wait after accept(2) failed, in milliseconds.
const ACCEPT_AGAIN_MS: i32 = 100;

/// Whether a request has a reply of its own, in which an error cannot be said.
fn has_reply(message: &Message) -> bool {
    matches!(
        message.request(),
        Some(
            FrontendReq::GET_FEATURES
                | FrontendReq::GET_PROTOCOL_FEATURES
                | FrontendReq::GET_VRING_BASE
                | FrontendReq::GET_QUEUE_NUM
                | FrontendReq::GET_CONFIG
                | FrontendReq::GET_INFLIGHT_FD
                | FrontendReq::GET_MAX_MEM_SLOTS
                | FrontendReq::GET_STATUS
                | FrontendReq::GET_SHARED_OBJECT
                | FrontendReq::SET_LOG_BASE
                | FrontendReq::POSTCOPY_ADVISE
                | FrontendReq::SET_DEVICE_STATE_FD
                | FrontendReq::CHECK_DEVICE_STATE
                | FrontendReq::GET_SHMEM_CONFIG
        )
    )
}

/// Waits until one of the descriptors is readable or closed, or so many milliseconds.
fn poll<const N: usize>(fds: [i32; N], timeout_ms: Option<i32>) -> Result<[bool; N], Ended> {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: N pollfds that outlive the call.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), N as u64, timeout_ms.unwrap_or(-1)) };
    let error = std::io::Error::last_os_error();
    if count < 0 && error.kind() != std::io::ErrorKind::Interrupted {
        return Err(Ended::Wait(error));
    }
    Ok(polled.map(|fd| count > 0 && fd.revents != 0))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
