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
use app_guest::pages::WAIT_FOREVER;
use app_guest::{canary, pages};
use shared_ring::hypercall::offset;
use vmm_sys_util::eventfd::EventFd;

use super::AppError;
use super::line::Line;
use super::link::Ring;
use super::mmio::{Change, QUEUE_NOTIFY, QUEUES, QueueRegisters, Registers};
use super::shapes::{Control, Status};
use super::wait::{self, Waited};
use microvm::kvm::{
    Exit, Image, Kicker, Mapping, MicroVm, MicroVmConfig, Protection, SegmentProtection,
};
use platform::memory::SharedMemory;

/// Frequency that the guest is told where KVM knows none: only its pauses between ARP requests
/// depend on it.
const ASSUMED_TSC_KHZ: u32 = 2_000_000;

/// How often the guest was left, by reason. Running.
#[derive(Debug, Default)]
pub(super) struct ExitCounters {
    /// WAIT calls.
    pub(super) waits: AtomicU64,
    /// Other hypercalls.
    pub(super) other_calls: AtomicU64,
    /// Loads and stores of device registers.
    pub(super) registers: AtomicU64,
}

/// What the vCPU thread and the one that started it share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The guest's RAM.
    pub(super) ram: Arc<SharedMemory>,
    /// Rung once, never read: everything that waits looks at it.
    pub(super) stop: Arc<EventFd>,
    /// Set before `stop` is rung.
    pub(super) stopping: AtomicBool,
    /// The guest has called READY.
    pub(super) ready: AtomicBool,
    /// Exits.
    pub(super) exits: ExitCounters,
}

/// The machine.
pub(super) struct Machine {
    vm: MicroVm,
    device: Registers,
    line: Line,
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
        line: Line,
        settings: &super::AppConfig,
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
        for (queue, events) in (0..).zip(line.events()) {
            vm.ioeventfd(DEVICE_BASE + QUEUE_NOTIFY, &events.kick, Some(queue))?;
        }
        write_canary(&shared.ram)?;
        shared.ram.shape::<Control>(layout::CONTROL_BASE)?.0.write(&pages::Settings {
            tsc_khz: vm.tsc_khz().unwrap_or(ASSUMED_TSC_KHZ).into(),
            ipv4: settings.address.address.octets(),
            prefix_len: settings.address.prefix_len,
            udp_port: settings.udp_port,
        });
        Ok(Self { vm, device, line, shared, built })
    }

    /// For stopping it from another thread.
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
            Change::Reset => self.line.reset(),
            Change::Start => {
                let [receive, transmit] = self.device.queues();
                let ram = self.shared.ram.len();
                let rings = [checked(0, receive, ram)?, checked(1, transmit, ram)?];
                self.line.start(self.device.accepted(), rings);
            }
            Change::Notify(queue) => {
                if let Some(events) = self.line.events().get(queue as usize) {
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
            let until = end.into_iter().chain(self.line.next_try()).min();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let [receive, transmit] = self.line.events();
            let (calls, stop) = ([&receive.call, &transmit.call], &self.shared.stop);
            let [receive, transmit] = calls.map(AsRawFd::as_raw_fd);
            let fds = [receive, transmit, stop.as_raw_fd(), self.line.socket()];
            match wait::readable(fds, left).map_err(AppError::Wait)? {
                Waited::Ready([receive, transmit, stop, socket]) => {
                    for (call, rung) in calls.into_iter().zip([receive, transmit]) {
                        if rung {
                            // Non-blocking; whatever it says, the guest looks at both rings.
                            let _ = call.read();
                        }
                    }
                    if socket {
                        self.line.hung_up();
                    }
                    if receive || transmit || stop {
                        return Ok(());
                    }
                }
                Waited::TimedOut => {}
            }
            if self.line.try_again() || end.is_some_and(|end| end <= Instant::now()) {
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

/// What the guest sees beside its image.
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

/// A queue as the back-end may be told of it: wholly in RAM and aligned (virtio 1.3 §2.7).
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

fn write_canary(ram: &SharedMemory) -> Result<(), AppError> {
    for index in 0..canary::WORDS {
        let address = layout::CANARY_BASE + 8 * index as u64;
        ram.write(address, &canary::word(index).to_ne_bytes())?;
    }
    Ok(())
}

/// The first word of the canary area that is not as it was written.
pub(super) fn damaged_canary(ram: &SharedMemory) -> Result<Option<usize>, AppError> {
    for index in 0..canary::WORDS {
        let mut word = [0; 8];
        ram.read(layout::CANARY_BASE + 8 * index as u64, &mut word)?;
        if u64::from_ne_bytes(word) != canary::word(index) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The first address of the image's text or constants, or of memory that nobody uses, that is not
/// as it was when the guest started.
pub(super) fn damaged_memory(ram: &SharedMemory, image: &Image) -> Result<Option<u64>, AppError> {
    let mut end = layout::IMAGE_BASE;
    for segment in image.segments() {
        if segment.protection != SegmentProtection::ReadWrite
            && let Some(at) = differs(ram, segment.address, &segment.data)?
        {
            return Ok(Some(at));
        }
        end = end.max((segment.address + segment.len).next_multiple_of(PAGE_BYTES));
    }
    let canary_end = layout::CANARY_BASE + layout::CANARY_BYTES;
    let unused = [
        (0, layout::SYSTEM_BASE),
        (layout::STATUS_BASE + PAGE_BYTES, layout::CANARY_BASE),
        (canary_end, layout::STACK_BASE),
        (layout::STACK_TOP, layout::IMAGE_BASE),
        (end, layout::QUEUES_BASE),
    ];
    for (from, to) in unused {
        let zeros = vec![0; to.saturating_sub(from) as usize];
        if let Some(at) = differs(ram, from, &zeros)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn differs(ram: &SharedMemory, address: u64, expected: &[u8]) -> Result<Option<u64>, AppError> {
    let mut found = vec![0; expected.len()];
    ram.read(address, &mut found)?;
    let place = found.iter().zip(expected).position(|(found, expected)| found != expected);
    Ok(place.map(|place| address + place as u64))
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

    #[test]
    fn a_changed_canary_is_found() {
        let ram = SharedMemory::new(c"test", layout::RAM_BYTES).unwrap();
        write_canary(&ram).unwrap();
        assert_eq!(damaged_canary(&ram).unwrap(), None);
        ram.write(layout::CANARY_BASE + 803, &[0]).unwrap();
        assert_eq!(damaged_canary(&ram).unwrap(), Some(100));
    }

    #[test]
    fn a_store_to_text_or_unused_memory_is_found() {
        let ram = SharedMemory::new(c"test", layout::RAM_BYTES).unwrap();
        let image = Image::parse(guest_images::APP_GUEST).unwrap();
        for segment in image.segments() {
            ram.write(segment.address, &segment.data).unwrap();
        }
        assert_eq!(damaged_memory(&ram, &image).unwrap(), None);
        for address in [layout::IMAGE_BASE + 77, layout::STACK_TOP, layout::QUEUES_BASE - 1, 5] {
            let mut byte = [0];
            ram.read(address, &mut byte).unwrap();
            ram.write(address, &[byte[0] ^ 1]).unwrap();
            assert_eq!(damaged_memory(&ram, &image).unwrap(), Some(address));
            ram.write(address, &byte).unwrap();
        }
    }
}
