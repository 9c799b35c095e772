//! The image of the application guest: bare metal at CPL 3, one loop.
//!
//! ```text
//! look at the receive queue, answer, send ──> one QueueNotify if the device asked for one
//!   │ nothing to do
//!   ▼
//! arm the queues' notifications ── look once more ── WAIT (the VMM parks the vCPU) ── disarm
//! ```

#![no_std]
#![no_main]

mod device;
mod runtime;
mod transport;

use core::sync::atomic::{AtomicU64, Ordering};

use app_guest::canary;
use app_guest::echo::{EchoStack, Storage};
use app_guest::layout;
use app_guest::pages::{CONTROL_MAGIC, Settings, WAIT_FOREVER};
use shared_ring::hypercall::offset;
use smoltcp::time::Instant;

use device::{NetDevice, TxState};
use runtime::{control, hypercall, memory, now_us, status};

/// Shortest time to park when something is due: what is due at once has been tried just before, so
/// trying it again at once would only spin.
const SHORTEST_PARK_US: u64 = 1_000;

/// Called by `_start` on the stack of the memory map.
extern "C" fn guest_main() -> ! {
    let Some(settings) = control().read() else {
        panic!("the control page at {:#x} is not {CONTROL_MAGIC:#x}", layout::CONTROL_BASE);
    };
    let mut device = match NetDevice::attach() {
        Ok(device) => device,
        Err(error) => panic!("no network device: {error}"),
    };
    status().features.store(device.features(), Ordering::Relaxed);
    let mut storage = Storage::new(
        memory::take(layout::SOCKET_RX_BASE, layout::SOCKET_RX_BYTES),
        memory::take(layout::SOCKET_TX_BASE, layout::SOCKET_TX_BYTES),
    );
    let now = instant(&settings);
    let mac = device.mac();
    let mut stack = match EchoStack::new(&mut storage, &mut device, mac, &settings, now) {
        Ok(stack) => stack,
        Err(error) => panic!("{}", error.0),
    };
    hypercall(offset::READY, 0);
    let mut watch = CanaryWatch { next: 0 };
    loop {
        watch.check();
        let turn = stack.turn(&mut device, instant(&settings));
        count(&status().counters.datagrams_echoed, turn.echoed);
        count(&status().counters.datagrams_dropped, turn.dropped);
        device.flush();
        if !turn.progress {
            park(&mut device, || stack.next_turn_us(instant(&settings)));
        }
    }
}

/// Parks until the device has something, or something of the stack's is due.
fn park(device: &mut NetDevice, due_us: impl FnOnce() -> Option<u64>) {
    let Some(state) = device.arm() else {
        device.disarm();
        return;
    };
    let wait_us = match (state, due_us()) {
        // Only a transmit buffer helps, and the queue is armed for it.
        (TxState::Full, _) | (TxState::Room, None) => WAIT_FOREVER,
        (TxState::Room, Some(us)) => us.clamp(SHORTEST_PARK_US, u32::MAX.into()) as u32,
    };
    count(&status().counters.parks, 1);
    hypercall(offset::WAIT, wait_us);
    device.disarm();
}

/// Looks at one line of the canary area a turn.
struct CanaryWatch {
    next: usize,
}

impl CanaryWatch {
    fn check(&mut self) {
        for index in self.next..self.next + canary::WORDS_PER_CHECK {
            let found = memory::canary_word(index);
            assert!(found == canary::word(index), "canary word {index} is {found:#x}");
        }
        self.next = (self.next + canary::WORDS_PER_CHECK) % canary::WORDS;
    }
}

fn instant(settings: &Settings) -> Instant {
    Instant::from_micros(now_us(settings.tsc_khz) as i64)
}

fn count(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}
