//! One debugger, from its connection to its end.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{GdbStub, SingleThreadStopReason};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::program::Program;
use platform::budget::{DEBUGGER_CONNECT_DEADLINE, DEBUGGER_READ_DEADLINE};
use supervisor::Debugged;

/// Between two checks whether the domain has to serve.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The debugger has disconnected, or the server ends.
    #[error("the debugger has disconnected")]
    Gone,
    /// The domain has to serve, or its life is over.
    #[error("the domain has to serve, or has failed")]
    Over,
    /// The connection broke, or the domain could not be stopped.
    #[error("{0}")]
    Broken(String),
}

type Machine<'a> = GdbStubStateMachine<'a, Program, Line>;

/// Room for a packet, bytes. The debugger is told.
const PACKET_BYTES: usize = 4096;

/// The connection that the protocol writes to.
struct Line(UnixStream);

impl Connection for Line {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits for a debugger and serves it. Then the domain runs again.
pub(super) fn serve(listener: &UnixListener, debugged: Debugged, stop: &EventFd) {
    let domain = debugged.life.id().0;
    let end = match accept(listener, &debugged, stop) {
        Ok(Some(stream)) => {
            let Err(end) = converse(stream, debugged, stop);
            end
        }
        Ok(None) => End::Gone,
        Err(error) => End::Broken(error.to_string()),
    };
    tracing::debug!(domain, %end, "a debugger's session ended");
}

fn watch(fds: &[RawFd]) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    for fd in fds {
        epoll.ctl(ControlOperation::Add, *fd, EpollEvent::new(EventSet::IN, *fd as u64))?;
    }
    Ok(epoll)
}

/// Waits for one check interval at most. Returns a descriptor that is readable, if there is one.
fn ready(epoll: &Epoll) -> io::Result<Option<RawFd>> {
    let mut events = [EpollEvent::default()];
    match epoll.wait(CHECK_INTERVAL.as_millis() as i32, &mut events) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(events[0].data() as RawFd)),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for a debugger to connect. Returns `None` if none does.
fn accept(
    listener: &UnixListener,
    debugged: &Debugged,
    stop: &EventFd,
) -> io::Result<Option<UnixStream>> {
    let epoll = watch(&[listener.as_raw_fd(), stop.as_raw_fd(), debugged.debug.out_fd()])?;
    let end = Instant::now() + DEBUGGER_CONNECT_DEADLINE;
    while Instant::now() < end && !debugged.debug.is_over() {
        match ready(&epoll)? {
            None => {}
            Some(fd) if fd == listener.as_raw_fd() => {
                let (stream, _) = listener.accept()?;
                // A debugger that does not read must not keep a domain stopped for ever.
                stream.set_write_timeout(Some(DEBUGGER_READ_DEADLINE))?;
                return Ok(Some(stream));
            }
            Some(_) => break,
        }
    }
    Ok(None)
}

/// Serves a connected debugger until the session ends.
fn converse(stream: UnixStream, debugged: Debugged, stop: &EventFd) -> Result<Infallible, End> {
    let (conn, stop_fd, out_fd) =
        (stream.as_raw_fd(), debugged.debug.stop_fd(), debugged.debug.out_fd());
    let epoll = watch(&[conn, stop.as_raw_fd(), stop_fd, out_fd]).map_err(broken)?;
    let reader = stream.try_clone().map_err(broken)?;
    let mut program = Program::stopped(debugged).map_err(broken)?;
    let mut packet = [0; PACKET_BYTES];
    let stub = GdbStub::builder(Line(stream)).with_packet_buffer(&mut packet).build();
    let mut machine = stub.map_err(broken)?.run_state_machine(&mut program).map_err(broken)?;
    loop {
        let event = ready(&epoll);
        if program.debugged.debug.is_over() {
            tell_end(machine, &mut program);
            return Err(End::Over);
        }
        machine = match event.map_err(broken)? {
            None => machine,
            Some(fd) if fd == conn => read(machine, &mut program, &reader)?,
            Some(fd) if fd == stop_fd => stopped(machine, &mut program)?,
            Some(_) => return Err(End::Gone),
        };
    }
}

/// Handles what the debugger has sent.
fn read<'a>(
    mut machine: Machine<'a>,
    program: &mut Program,
    mut reader: &UnixStream,
) -> Result<Machine<'a>, End> {
    let mut bytes = [0; 4096];
    let count = match reader.read(&mut bytes) {
        Ok(0) => return Err(End::Gone),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::Interrupted => 0,
        Err(error) => return Err(End::Broken(error.to_string())),
    };
    for byte in &bytes[..count] {
        machine = take(machine, program, *byte)?;
    }
    Ok(machine)
}

fn broken(error: impl std::fmt::Display) -> End {
    End::Broken(error.to_string())
}

fn take<'a>(machine: Machine<'a>, program: &mut Program, byte: u8) -> Result<Machine<'a>, End> {
    let machine = match machine {
        GdbStubStateMachine::Idle(idle) => idle.incoming_data(program, byte).map_err(broken)?,
        GdbStubStateMachine::Running(run) => run.incoming_data(program, byte).map_err(broken)?,
        other => other,
    };
    match machine {
        GdbStubStateMachine::Disconnected(_) => Err(End::Gone),
        GdbStubStateMachine::CtrlCInterrupt(interrupt) => {
            let reason = program.interrupt().map_err(broken)?;
            interrupt.interrupt_handled(program, Some(reason)).map_err(broken)
        }
        other => Ok(other),
    }
}

/// Reports that the domain has reached a breakpoint.
fn stopped<'a>(machine: Machine<'a>, program: &mut Program) -> Result<Machine<'a>, End> {
    match (machine, program.take_stop()) {
        (GdbStubStateMachine::Running(run), Some(reason)) => {
            run.report_stop(program, reason).map_err(broken)
        }
        // It was stopped for another reason at the same moment.
        (machine, _) => Ok(machine),
    }
}

/// Tells a debugger that waits for the domain to stop that it never will.
fn tell_end(machine: Machine<'_>, program: &mut Program) {
    if let GdbStubStateMachine::Running(run) = machine {
        let reason = SingleThreadStopReason::Terminated(Signal::SIGKILL);
        // The debugger may have disconnected as well.
        let _ = run.report_stop(program, reason);
    }
}
