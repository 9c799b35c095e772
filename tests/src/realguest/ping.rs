//! A UDP ping from the host of the LAN: sends numbered datagrams to the guest's echo port, and
//! records the echoes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::traffic::Ledger;
use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};
use vmm_sys_util::timerfd::TimerFd;
use warmspare_linux_guest::ECHO_PORT;

use super::lan::Namespace;

/// Size of a datagram's payload: its number, and pseudo-random bytes derived from the number.
const DATAGRAM_BYTES: usize = 64;
/// How long the ping waits for echoes after its last datagram.
const LINGER: Duration = Duration::from_millis(200);
/// How many datagrams the ledger has room for.
const DATAGRAMS: usize = 200_000;

/// State that the ping's thread shares with its owner.
#[derive(Default)]
struct Shown {
    stop: AtomicBool,
    last_echo_ns: AtomicU64,
    echoes: AtomicU64,
    sent: AtomicU64,
}

/// The running ping.
pub(crate) struct Ping {
    shown: Arc<Shown>,
    thread: JoinHandle<io::Result<Ledger>>,
}

impl Ping {
    /// Starts sending a datagram every `period` from inside `namespace`.
    ///
    /// # Errors
    /// A socket, a timer or a thread cannot be created.
    pub(crate) fn start(namespace: &Namespace, guest: Ipv4Addr, period: Duration) -> Result<Self> {
        let shown = Arc::new(Shown::default());
        let theirs = shown.clone();
        let thread = namespace.run(move || -> io::Result<_> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(SocketAddr::from((guest, ECHO_PORT)))?;
            socket.set_nonblocking(true)?;
            let mut timer = TimerFd::new()?;
            timer.reset(period, Some(period))?;
            std::thread::Builder::new().name("ping".into()).spawn(move || {
                realtime::enter(Priority::Nic);
                run(&socket, timer, &theirs)
            })
        })??;
        Ok(Self { shown, thread })
    }

    /// Waits for ten more echoes. Returns how long they took.
    ///
    /// # Errors
    /// The echoes do not come in time.
    pub(crate) fn wait_answers(&self, patience: Duration) -> Result<Duration> {
        let start = Instant::now();
        let before = self.shown.echoes.load(Ordering::Acquire);
        while self.shown.echoes.load(Ordering::Acquire) < before + 10 {
            if start.elapsed() > patience {
                bail!("the guest does not answer within {} s", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(start.elapsed())
    }

    /// Datagrams sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.shown.sent.load(Ordering::Acquire)
    }

    /// When the last echo came.
    pub(crate) fn last_echo_ns(&self) -> u64 {
        self.shown.last_echo_ns.load(Ordering::Acquire)
    }

    /// Stops the ping and returns its ledger.
    ///
    /// # Errors
    /// The socket has failed, or the thread has panicked.
    pub(crate) fn finish(self) -> Result<Ledger> {
        self.shown.stop.store(true, Ordering::Release);
        let done = self.thread.join().ok().context("the ping has panicked")?;
        done.context("the ping's socket has failed")
    }
}

fn run(socket: &UdpSocket, mut timer: TimerFd, shown: &Shown) -> io::Result<Ledger> {
    let mut ledger = Ledger::with_capacity(DATAGRAMS);
    let mut end_ns = None;
    loop {
        if end_ns.is_none() && shown.stop.load(Ordering::Acquire) {
            end_ns = Some(monotonic_ns() + LINGER.as_nanos() as u64);
        }
        if end_ns.is_some_and(|end_ns| monotonic_ns() > end_ns) {
            return Ok(ledger);
        }
        if wait(socket, &timer)? {
            // Periods missed while the machine stood still are not made up for.
            let _ = timer.wait();
            if end_ns.is_none() {
                let number = ledger.next_number();
                ledger.sent(monotonic_ns());
                shown.sent.store(number + 1, Ordering::Release);
                // Sending may fail if the guest has no listener or its ARP entry is being looked
                // up. The error is ignored, because the missing echo is counted as lost anyway.
                let _ = socket.send(&datagram(number));
            }
        }
        receive(socket, &mut ledger, shown);
    }
}

fn wait(socket: &UdpSocket, timer: &TimerFd) -> io::Result<bool> {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds = [entry(timer.as_raw_fd()), entry(socket.as_raw_fd())];
    // SAFETY: `fds` has as many entries as the call is told, and outlives it.
    let done = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 100) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(fds[0].revents != 0) }
}

fn receive(socket: &UdpSocket, ledger: &mut Ledger, shown: &Shown) {
    let mut bytes = [0; 2 * DATAGRAM_BYTES];
    loop {
        let len = match socket.recv(&mut bytes) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // The socket reports each ICMP error here once.
            Err(_) => continue,
        };
        let now_ns = monotonic_ns();
        let number = bytes.first_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number));
        if len == DATAGRAM_BYTES && bytes[..len] == datagram(number) {
            ledger.echoed(number, now_ns);
            shown.last_echo_ns.store(now_ns, Ordering::Release);
            shown.echoes.fetch_add(1, Ordering::AcqRel);
        } else {
            ledger.corrupted();
        }
    }
}

fn datagram(number: u64) -> [u8; DATAGRAM_BYTES] {
    let mut bytes = [0; DATAGRAM_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let mut noise = number ^ 0x9e37_79b9_7f4a_7c15;
    for byte in &mut bytes[8..] {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (noise >> 56) as u8;
    }
    bytes
}
