//! The micro-VM of the application guest and the thread that runs it.
//!
//! The guest has no interrupt controller: WAIT *is* the interrupt. The vCPU thread sleeps in
//! `ppoll` on the call eventfds of both rings, the stop event and the back-end's socket, and goes
//! back into the guest when there is something to look at.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use app_guest::layout::{self, DEVICE_BASE, DEVICE_BYTES, PAGE_BYTES};
use app_guest::pages::{self, WAIT_FOREVER};
use shared_ring::hypercall::offset;
use vmm_sys_util::eventfd::EventFd;

use super::config::AppConfig;
use super::connection::Ring;
use super::error::AppError;
use super::guest_pages::{Control, Status};
use super::integrity::write_canary;
use super::mmio::{Change, QUEUE_NOTIFY, QUEUES, QueueRegisters, Registers};
use super::reconnect::BackendLink;
use crate::poll::wait_readable;
use microvm::kvm::{Exit, Image, Kicker, Mapping, MicroVm, MicroVmConfig, Protection};
use platform::memory::SharedMemory;

/// Frequency that the guest is told where KVM knows none: only its pauses between ARP requests
/// depend on it.
const ASSUMED_TSC_KHZ: u32 = 2_000_000;

/// How often the guest was left, by reason.
#[derive(Debug, Default)]
pub(super) struct ExitCounters {
    /// WAIT calls.
    pub(super) waits: AtomicU64,
    /// Other hypercalls.
    pub(super) other_calls: AtomicU64,
    /// Loads and stores of device registers.
    pub(super) registers: AtomicU64,
}

/// What the vCPU thread shares with the thread that started it.
#[derive(Debug)]
pub(super) struct Shared {
    /// The guest's RAM.
    pub(super) ram: Arc<SharedMemory>,
    /// Signalled once and never read: every wait includes it.
    pub(super) stop: Arc<EventFd>,
    /// Set before `stop` is signalled.
    pub(super) stopping: AtomicBool,
    /// Whether the guest has called READY.
    pub(super) ready: AtomicBool,
    /// Why the guest was left.
    pub(super) exits: ExitCounters,
}

/// The micro-VM and its device.
pub(super) struct Machine {
    vm: MicroVm,
    device: Registers,
    backend: BackendLink,
    shared: Arc<Shared>,
    built: Instant,
}

impl Machine {
    /// Loads the guest into `shared.ram`, which is zeroed.
    ///
    /// # Errors
    /// The image is damaged, or KVM refuses.
    pub(super) fn new(
        shared: Arc<Shared>,
        image: &[u8],
        device: Registers,
        backend: BackendLink,
        settings: &AppConfig,
    ) -> Result<Self, AppError> {
        let built = Instant::now();
        let image = Image::parse(image)?;
        let vm = MicroVm::new(&MicroVmConfig {
            ram: shared.ram.clone(),
            system_base: layout::SYSTEM_BASE,
            system_bytes: layout::SYSTEM_BYTES,
            image: &image,
            mappings: &mappings(),
            slots: &[],
            stack_top: layout::STACK_TOP,
            hypercall_base: layout::HYPERCALL_BASE,
            arguments: [0; 2],
        })?;
        for (queue, events) in (0..).zip(backend.events()) {
            vm.ioeventfd(DEVICE_BASE + QUEUE_NOTIFY, &events.kick, Some(queue))?;
        }
        write_canary(&shared.ram)?;
        shared.ram.shape::<Control>(layout::CONTROL_BASE)?.0.write(&pages::Settings {
            tsc_khz: vm.tsc_khz().unwrap_or(ASSUMED_TSC_KHZ).into(),
            ipv4: settings.address.address.octets(),
            prefix_len: settings.address.prefix_len,
            udp_port: settings.udp_port,
        });
        Ok(Self { vm, device, backend, shared, built })
    }

    /// Interrupts the guest from another thread.
    pub(super) fn kicker(&self) -> Kicker {
        self.vm.kicker()
    }

    /// Runs the guest until it is to stop.
    ///
    /// # Errors
    /// The guest failed.
    pub(super) fn run(&mut self) -> Result<(), AppError> {
        while !self.shared.stopping.load(Ordering::Acquire) {
            let exits = &self.shared.exits;
            match self.vm.run()? {
                Exit::Hypercall { offset: offset::WAIT, value } => {
                    count(&exits.waits);
                    self.park(value)?;
                }
                Exit::Hypercall { offset, value } => {
                    count(&exits.other_calls);
                    self.call(offset, value)?;
                }
                Exit::MmioRead { address, data } => {
                    count(&exits.registers);
                    match register(address) {
                        Some(offset) => self.device.read(offset, data),
                        None => return Err(AppError::OutsideMap { address }),
                    }
                }
                Exit::MmioWrite { address, data } => {
                    count(&exits.registers);
                    let Some(offset) = register(address) else {
                        return Err(AppError::OutsideMap { address });
                    };
                    let change = self.device.write(offset, data);
                    self.carry_out(change)?;
                }
                Exit::Exception(record) => return Err(AppError::Crashed(Box::new(record))),
                Exit::Shutdown => return Err(AppError::Shutdown),
                Exit::Unexpected { reason } => return Err(AppError::UnexpectedExit { reason }),
                Exit::Interrupted => {}
            }
        }
        Ok(())
    }

    fn call(&mut self, call: u64, value: u32) -> Result<(), AppError> {
        match call {
            offset::READY => {
                self.shared.ready.store(true, Ordering::Release);
                let took_ms = self.built.elapsed().as_secs_f64() * 1e3;
                tracing::info!("the guest is up after {took_ms:.1} ms");
                Ok(())
            }
            offset::LOG => {
                tracing::info!("guest: {}", self.text());
                Ok(())
            }
            offset::PANIC => Err(AppError::GuestPanicked { code: value, text: self.text() }),
            _ => Err(AppError::UnknownCall { call }),
        }
    }

    fn text(&self) -> String {
        match self.shared.ram.shape::<Status>(layout::STATUS_BASE) {
            Ok(status) => {
                let (text, len) = status.0.text();
                String::from_utf8_lossy(&text[..len]).into_owned()
            }
            Err(_) => String::new(),
        }
    }

    fn carry_out(&mut self, change: Change) -> Result<(), AppError> {
        match change {
            Change::None => {}
            Change::Reset => self.backend.reset(),
            Change::Start => {
                let [receive, transmit] = self.device.queues();
                let ram = self.shared.ram.len();
                let rings = [checked(0, receive, ram)?, checked(1, transmit, ram)?];
                self.backend.start(self.device.accepted(), rings);
            }
            Change::Notify(queue) => {
                if let Some(events) = self.backend.events().get(queue as usize) {
                    // Fails only where the counter is full: then the kick is pending anyway.
                    let _ = events.kick.write(1);
                }
            }
        }
        Ok(())
    }

    /// Sleeps until the back-end calls, the guest's deadline, or the stop.
    fn park(&mut self, timeout_us: u32) -> Result<(), AppError> {
        let end = (timeout_us != WAIT_FOREVER)
            .then(|| Instant::now() + Duration::from_micros(timeout_us.into()));
        loop {
            let until = end.into_iter().chain(self.backend.next_try()).min();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let [receive, transmit] = self.backend.events();
            let (stop, socket) = (self.shared.stop.as_raw_fd(), self.backend.socket());
            let fds = [receive.call.as_raw_fd(), transmit.call.as_raw_fd(), stop, socket];
            let readable = wait_readable(fds, left).map_err(AppError::Wait)?;
            let mut wakes = readable.has(stop);
            for call in [&receive.call, &transmit.call] {
                if readable.has(call.as_raw_fd()) {
                    wakes = true;
                    // Non-blocking; whatever it returns, the guest looks at both rings.
                    let _ = call.read();
                }
            }
            if readable.has(socket) {
                self.backend.hung_up();
            }
            if wakes {
                return Ok(());
            }
            if self.backend.try_again() || end.is_some_and(|end| end <= Instant::now()) {
                return Ok(());
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Offset of an address in the device's registers.
fn register(address: u64) -> Option<u64> {
    address.checked_sub(DEVICE_BASE).filter(|&offset| offset < DEVICE_BYTES)
}

/// What is mapped into the guest beside its image.
fn mappings() -> [Mapping; 6] {
    let map = |address, len, protection, uncached| Mapping { address, len, protection, uncached };
    let memory = |address, end| map(address, end - address, Protection::ReadWrite, false);
    [
        map(layout::CONTROL_BASE, PAGE_BYTES, Protection::ReadOnly, false),
        memory(layout::STATUS_BASE, layout::STATUS_BASE + PAGE_BYTES),
        memory(layout::CANARY_BASE, layout::CANARY_BASE + layout::CANARY_BYTES),
        memory(layout::STACK_BASE, layout::STACK_TOP),
        memory(layout::QUEUES_BASE, layout::RAM_BYTES),
        map(DEVICE_BASE, DEVICE_BYTES, Protection::ReadWrite, true),
    ]
}

/// Checks that a queue lies wholly in RAM and is aligned (virtio 1.3 §2.7).
fn checked(queue: usize, registers: &QueueRegisters, ram: u64) -> Result<Ring, AppError> {
    let &QueueRegisters { ready, entries, descriptors, driver_area, device_area } = registers;
    let inside = |address: u64, bytes: u64, align: u64| {
        address.is_multiple_of(align) && address.checked_add(bytes).is_some_and(|end| end <= ram)
    };
    let size = u64::from(entries);
    let possible = ready
        && entries.is_power_of_two()
        && size <= layout::QUEUE_ENTRIES as u64
        && inside(descriptors, 16 * size, 16)
        && inside(driver_area, 6 + 2 * size, 2)
        && inside(device_area, 6 + 8 * size, 4);
    if !possible {
        return Err(AppError::Queue { queue });
    }
    let entries = entries as u16;
    Ok(Ring { entries, descriptors, available: driver_area, used: device_area })
}

const _: () = assert!(QUEUES == 2);

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> QueueRegisters {
        QueueRegisters {
            ready: true,
            entries: 256,
            descriptors: 0x20_0000,
            driver_area: 0x20_1000,
            device_area: 0x20_2000,
        }
    }

    #[test]
    fn a_sound_queue_is_accepted() {
        let ring = checked(0, &queue(), layout::RAM_BYTES).unwrap();
        assert_eq!((ring.entries, ring.used), (256, 0x20_2000));
    }

    #[test]
    fn impossible_queues_are_refused() {
        type Spoil = fn(&mut QueueRegisters);
        let spoils: [Spoil; 9] = [
            |q| q.ready = false,
            |q| q.entries = 0,
            |q| q.entries = 255,
            |q| q.entries = 1 << 16,
            |q| q.descriptors = 8,
            |q| q.descriptors = layout::RAM_BYTES,
            |q| q.driver_area = u64::MAX - 1,
            |q| q.device_area = layout::RAM_BYTES - 4,
            |q| q.device_area += 2,
        ];
        for spoil in spoils {
            let mut queue = queue();
            spoil(&mut queue);
            let result = checked(1, &queue, layout::RAM_BYTES);
            assert!(matches!(result, Err(AppError::Queue { queue: 1 })), "{queue:?}");
        }
    }
}
