//! GDB servers: one for each domain that is debugged, each on a Unix socket of its own.
//!
//! ```text
//!  gdb ── Unix socket ─▶ session ─▶ program: registers, memory, breakpoints ─▶ domain::DebugAccess
//!                           │             └─ step: one instruction, by breakpoints after it
//!                           └─ ends with gdb, with the life, or when the domain has to serve
//! ```
//! A socket serves one debugger and is removed then. The file beside it is the program, for gdb to
//! read.

mod program;
mod registers;
mod session;
mod step;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use platform::realtime;
use platform::socket_file::SocketFile;
use supervisor::Debugged;

/// Why a GDB server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DebuggerError {
    /// Its socket cannot be created.
    #[error("{}: a GDB server cannot listen there", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program cannot be written.
    #[error("{}: the program cannot be written there", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refuses a thread or a descriptor.
    #[error("a GDB server cannot be started")]
    System(#[from] io::Error),
}

/// All servers that were opened. They end when it is dropped.
#[derive(Default)]
pub(crate) struct Debuggers {
    servers: Mutex<Vec<Server>>,
}

/// One server. It ends when it is dropped.
struct Server {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

/// Files of a server. They are removed when it is dropped.
struct Files {
    _socket: SocketFile,
    program: PathBuf,
}

impl Debuggers {
    /// Opens a server on this socket, which must not exist yet. Returns the program's file.
    ///
    /// # Errors
    /// See [`DebuggerError`].
    pub(crate) fn open(&self, debugged: Debugged, socket: &Path) -> Result<PathBuf, DebuggerError> {
        let failed = |source| DebuggerError::Socket { path: socket.to_owned(), source };
        let listener = UnixListener::bind(socket).map_err(failed)?;
        let own = SocketFile::bound_at(socket).map_err(failed)?;
        let mut files = Files { _socket: own, program: PathBuf::new() };
        std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        let mut program = socket.as_os_str().to_owned();
        program.push(".elf");
        let program = PathBuf::from(program);
        write_new(&program, debugged.life.image().file())
            .map_err(|source| DebuggerError::Program { path: program.clone(), source })?;
        files.program = program.clone();
        let stop = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let name = format!("gdb-{}", debugged.life.id().0);
        let thread = realtime::spawn(&name, None, move || {
            session::serve(&listener, debugged, &stopped);
            drop(files);
        })?;
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| server.thread.as_ref().is_some_and(|t| !t.is_finished()));
        servers.push(Server { stop, thread: Some(thread) });
        Ok(program)
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // The thread checks the event at least ten times a second.
            let _ = thread.join();
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // An error means that somebody has removed it already.
        if self.program != PathBuf::new() {
            let _ = std::fs::remove_file(&self.program);
        }
    }
}
