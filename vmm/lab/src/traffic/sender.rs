//! The sender: a host outside of the system that sends a datagram every period, and counts.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use smoltcp::wire::EthernetAddress;
use vmm_sys_util::timerfd::TimerFd;

use super::frame::{ARP_BYTES, Addresses, FRAME_BYTES, Received};
use super::ledger::Ledger;
use crate::poll::wait_readable;
use nic::wire::{MAX_FRAME_BYTES, Wire};
use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};

/// How long the sender listens after its last datagram.
const LINGER: Duration = Duration::from_millis(100);
/// Between two ARP requests while the guest does not answer.
const ASK_AGAIN_NS: u64 = 2_000_000;
/// How long the sender sleeps at most before it checks whether it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// What the sender's thread shows while it runs.
#[derive(Default)]
struct Shown {
    stop: AtomicBool,
    linger_ns: AtomicU64,
    /// Whether to stop listening as soon as the newest datagram has come back.
    hurry: AtomicBool,
    first_echo_ns: AtomicU64,
    last_echo_ns: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// The running sender.
pub struct Sender {
    shown: Arc<Shown>,
    thread: JoinHandle<()>,
}

impl Sender {
    /// Starts sending as soon as the guest answers ARP. The ledger has room for so many datagrams
    /// before it grows.
    ///
    /// # Errors
    /// No thread or timer can be had.
    pub fn spawn(
        port: Arc<dyn Wire>,
        addresses: Addresses,
        period: Duration,
        datagrams: usize,
    ) -> std::io::Result<Self> {
        let shown = Arc::new(Shown::default());
        let mut timer = TimerFd::new()?;
        timer.reset(period, Some(period))?;
        let station = Station {
            port,
            addresses,
            guest: None,
            asked_ns: 0,
            ledger: Ledger::with_capacity(datagrams),
            received: vec![0; MAX_FRAME_BYTES],
            shown: shown.clone(),
        };
        // The sender must not be late itself, and must not delay what it measures.
        let thread = realtime::spawn("sender", Some(Priority::Nic), move || station.run(timer))?;
        Ok(Self { shown, thread })
    }

    /// When the first echo came back.
    pub fn first_echo_ns(&self) -> Option<u64> {
        let at = self.shown.first_echo_ns.load(Ordering::Acquire);
        (at != 0).then_some(at)
    }

    /// When the last echo came back.
    pub fn last_echo_ns(&self) -> Option<u64> {
        let at = self.shown.last_echo_ns.load(Ordering::Acquire);
        (at != 0).then_some(at)
    }

    /// Like [`Self::finish`], but stops listening when the newest datagram has come back.
    pub fn finish_soon(self) -> Ledger {
        self.shown.hurry.store(true, Ordering::Release);
        self.finish()
    }

    /// Stops sending, waits for the last echoes, and returns the ledger.
    pub fn finish(self) -> Ledger {
        self.finish_after(LINGER)
    }

    /// Like [`Self::finish`], with another wait for the last echoes, for a machine that may stand still
    /// for longer.
    pub fn finish_after(self, linger: Duration) -> Ledger {
        self.shown.linger_ns.store(linger.as_nanos() as u64, Ordering::Relaxed);
        self.shown.stop.store(true, Ordering::Release);
        // A sender that panicked has left an empty ledger, with which no test passes.
        let _ = self.thread.join();
        std::mem::take(&mut *self.shown.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Station {
    port: Arc<dyn Wire>,
    addresses: Addresses,
    guest: Option<EthernetAddress>,
    asked_ns: u64,
    ledger: Ledger,
    received: Vec<u8>,
    shown: Arc<Shown>,
}

impl Station {
    fn run(mut self, mut timer: TimerFd) {
        while !self.shown.stop.load(Ordering::Acquire) {
            if self.wait(&timer) {
                // Periods missed while the machine stood still are not made up for.
                let _ = timer.wait();
                self.send();
            }
            self.receive();
        }
        let until_ns = monotonic_ns() + self.shown.linger_ns.load(Ordering::Relaxed);
        let hurry = self.shown.hurry.load(Ordering::Acquire);
        while monotonic_ns() < until_ns && !(hurry && self.ledger.is_settled()) {
            if self.wait(&timer) {
                let _ = timer.wait();
            }
            self.receive();
        }
        let mut ledger = self.shown.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        *ledger = self.ledger;
    }

    /// Sleeps until the timer or the wire is readable. Returns true if it is the timer.
    fn wait(&self, timer: &TimerFd) -> bool {
        let timer = timer.as_raw_fd();
        let wire = self.port.readable().map_or(-1, |fd| fd.as_raw_fd());
        wait_readable([timer, wire], Some(LONGEST_WAIT)).is_ok_and(|readable| readable.has(timer))
    }

    fn send(&mut self) {
        let now_ns = monotonic_ns();
        let Some(guest) = self.guest else {
            if now_ns - self.asked_ns >= ASK_AGAIN_NS {
                self.asked_ns = now_ns;
                let mut frame = [0; ARP_BYTES];
                self.addresses.ask(&mut frame);
                self.port.send(&frame);
            }
            return;
        };
        let mut frame = [0; FRAME_BYTES];
        self.addresses.datagram(guest, self.ledger.next_number(), &mut frame);
        self.ledger.sent(now_ns);
        self.port.send(&frame);
    }

    fn receive(&mut self) {
        self.port.begin_receive();
        while let Some(len) = self.port.receive(&mut self.received) {
            match self.addresses.read(&self.received[..len]) {
                Received::GuestIs(mac) => self.guest = Some(mac),
                Received::WhoAreYou { asker_mac, asker_ip } => {
                    let mut frame = [0; ARP_BYTES];
                    self.addresses.answer(asker_mac, asker_ip, &mut frame);
                    self.port.send(&frame);
                }
                Received::Echo { number } => self.note_echo(number),
                Received::Damaged => self.ledger.damaged(),
                Received::Corrupted => self.ledger.corrupted(),
                Received::Other => {}
            }
        }
    }

    fn note_echo(&mut self, number: u64) {
        let now_ns = monotonic_ns();
        self.ledger.echoed(number, now_ns);
        self.shown.last_echo_ns.store(now_ns, Ordering::Release);
        if self.shown.first_echo_ns.load(Ordering::Relaxed) == 0 {
            self.shown.first_echo_ns.store(now_ns, Ordering::Release);
        }
    }
}
