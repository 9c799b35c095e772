//! A real NIC (or QEMU's `igb`) through the kernel's VFIO.
//!
//! One container per NIC: the IOMMU lets it reach exactly the areas of [`Nic::map_dma`]. Where two
//! domains share one NIC, both call it, and the container holds the areas of both; isolation
//! between those two then rests on only one of them running.
//!
//! The device may be absent at the start and go at any time (unbound, pulled out, failed on the bus):
//! it is let go of when its domain is out of the guest, and opened again, by address, when it is
//! back. What others hold of the NIC stays as it is: eventfds, addresses of registers.
//!
//! ```text
//! /dev/vfio/vfio   container: DMA mappings     raw ioctls, for read-only mappings
//! /dev/vfio/GROUP  group
//!   device         BAR 0: mapped whole for the VMM, in part for the domain
//!                  configuration space: read and written by file, always read back
//!                  MSI-X: vector 0 queues, vector 1 link; set once
//! ```

mod bar;
mod config;
mod dma;
mod error;
mod quiesce;
mod totals;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::bar::Bar;
use self::config::ConfigSpace;
use self::dma::DmaMappings;
use self::totals::RegisterTotals;
use crate::added::{Added, AddedAddresses};
use crate::discovery::Host;
use crate::error::NicError;
use crate::interface::{BarAccess, BarPages, BarRegisters, DmaArea, Nic};
use crate::obstacle::Obstacle;
use crate::pci::{Model, PciAddress};
use crate::pristine::Pristine;
use crate::registers::{
    ALL_ONES, EICR, EIMS, ICR, PROBE_ENTRY, RAH_AV, RAH0, RAL0, RCTL, STATUS, TCTL, VECTOR_OTHER,
    guest_entries, icr, rctl, receive_address, status, tctl,
};
use crate::totals::NicCounters;
use platform::one_line::one_line;

pub use error::VfioError;

/// A NIC behind VFIO. It stays where its device goes: without one its registers read as all ones and
/// it reaches no memory.
pub struct VfioNic {
    address: PciAddress,
    name: String,
    bar: Bar,
    domain_pages: Vec<BarPages>,
    totals: RegisterTotals,
    added: Added,
    device: Mutex<Option<OpenDevice>>,
    present: AtomicBool,
    /// The bus wants the device back, or reports an error of it: it is let go of when its domain is
    /// out of the guest.
    leaves: AtomicBool,
    /// Why there is no device, in one line.
    absence: Mutex<Option<String>>,
    /// What the device may reach, in the order of the calls.
    areas: Mutex<Vec<DmaArea>>,
    queue_event: EventFd,
    link_event: EventFd,
    error_event: EventFd,
    request_event: EventFd,
}

/// What is open of a device.
struct OpenDevice {
    model: Model,
    // The order matters when a device is let go of: the kernel lets a group go only after every
    // descriptor and mapping of its device, and unmaps DMA when the container goes.
    config: ConfigSpace,
    device: VfioDevice,
    mappings: DmaMappings,
    /// What a reset left in registers that no driver writes.
    pristine: Pristine,
}

impl VfioNic {
    /// Opens a NIC that is bound to vfio-pci. The kernel resets it; its link is down after that
    /// until a driver brings it up.
    ///
    /// # Errors
    /// What is missing, or which step the kernel refused; see [`VfioError`].
    pub fn open(address: PciAddress) -> Result<Arc<Self>, VfioError> {
        let nic = Self::without_device(address)?;
        nic.open_device()?;
        Ok(Arc::new(nic))
    }

    /// Does the same, except that a NIC that cannot be opened now is one without a device:
    /// [`Nic::reopen`] tries it again.
    ///
    /// # Errors
    /// No NIC that the driver can drive will ever be opened there.
    pub fn open_or_await(address: PciAddress) -> Result<Arc<Self>, VfioError> {
        let nic = Self::without_device(address)?;
        match nic.open_device() {
            Err(error) if error.is_final() => Err(error),
            Ok(()) | Err(_) => Ok(Arc::new(nic)),
        }
    }

    fn without_device(address: PciAddress) -> Result<Self, VfioError> {
        let name = address.to_string();
        let event = |what| {
            EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| VfioError::System {
                name: address.to_string(),
                what,
                source,
            })
        };
        let bar = Bar::empty(&name)?;
        let added = Added::new().map_err(|source| VfioError::System {
            name: address.to_string(),
            what: "make a lock",
            source,
        })?;
        Ok(Self {
            address,
            domain_pages: bar.domain_pages(),
            bar,
            totals: RegisterTotals::new(),
            added,
            device: Mutex::new(None),
            present: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            absence: Mutex::new(None),
            areas: Mutex::new(Vec::new()),
            queue_event: event("create the event of its queues")?,
            link_event: event("create the event of its link")?,
            error_event: event("create the event of its errors")?,
            request_event: event("create the event of requests")?,
            name,
        })
    }

    fn device(&self) -> MutexGuard<'_, Option<OpenDevice>> {
        // Each change is one assignment.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the device if it is not open.
    fn open_device(&self) -> Result<(), VfioError> {
        let mut device = self.device();
        if device.is_some() {
            return Ok(());
        }
        let opened = self.open_now();
        *self.absence.lock().unwrap_or_else(PoisonError::into_inner) =
            opened.as_ref().err().map(|error| one_line(error));
        *device = Some(opened?);
        self.leaves.store(false, Ordering::Release);
        self.present.store(true, Ordering::Release);
        Ok(())
    }

    fn open_now(&self) -> Result<OpenDevice, VfioError> {
        let (host, address) = (Host::default(), self.address);
        let model = host.model(address)?;
        // Another NIC in the group is in the way only if it was opened before.
        let is_in_the_way = |obstacle: &Obstacle| match obstacle {
            Obstacle::GroupShared { group, .. } => host.has_open(*group),
            _ => true,
        };
        if let Some(obstacle) = host.info(address)?.missing.into_iter().find(is_in_the_way) {
            return Err(obstacle.into());
        }
        let refused = |source| VfioError::refused(address, host.group(address), source);
        let container = Arc::new(VfioContainer::new(None).map_err(refused)?);
        let sysfs = format!("/sys/bus/pci/devices/{address}");
        let ops: Arc<dyn VfioOps> = container.clone();
        // Made before the device, so that it goes after the device if a later step fails.
        let mappings = DmaMappings::new(&self.name, container, host.memlock_limit_kib());
        let device = VfioDevice::new(Path::new(&sysfs), ops, false).map_err(refused)?;
        let config = ConfigSpace::new(&self.name, &device)?;
        for area in self.areas().iter() {
            mappings.add(area)?;
        }
        self.forget_events();
        self.bar.attach(&self.name, &device)?;
        self.mask_interrupts();
        if let Err(error) = self.route_interrupts(&device, refused) {
            self.bar.detach(&self.name)?;
            return Err(error);
        }
        let pristine = Pristine::of(&self.bar);
        Ok(OpenDevice { model, config, device, mappings, pristine })
    }

    /// Lets go of the device, if one is open: from here on it is no business of this process.
    fn close_device(&self) -> Result<(), VfioError> {
        let mut device = self.device();
        if device.is_none() {
            return Ok(());
        }
        self.present.store(false, Ordering::Release);
        self.bar.detach(&self.name)?;
        *device = None;
        *self.absence.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(format!("{}: it was taken away, or failed on the bus", self.name));
        Ok(())
    }

    fn areas(&self) -> MutexGuard<'_, Vec<DmaArea>> {
        self.areas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the events say is of the device that was here before.
    fn forget_events(&self) {
        for event in [&self.link_event, &self.error_event, &self.request_event] {
            let _ = event.read();
        }
    }

    /// Both vectors at once, for as long as the device is open: kernels before 6.5 cannot add one
    /// later.
    fn route_interrupts(
        &self,
        device: &VfioDevice,
        refused: impl Fn(vfio_ioctls::VfioError) -> VfioError,
    ) -> Result<(), VfioError> {
        device.enable_msix(vec![&self.queue_event, &self.link_event]).map_err(&refused)?;
        let others = [
            (VFIO_PCI_ERR_IRQ_INDEX, &self.error_event),
            (VFIO_PCI_REQ_IRQ_INDEX, &self.request_event),
        ];
        for (index, event) in others {
            if device.get_irq_info(index).is_some_and(|irq| irq.count > 0) {
                device.enable_irq(index, vec![event]).map_err(&refused)?;
            }
        }
        Ok(())
    }

    /// All its registers, for tests and tools that drive a NIC without a domain.
    pub fn registers(&self) -> &dyn BarRegisters {
        &self.bar
    }

    /// Returns true if it may read and write memory of its own accord (PCI command, bus master
    /// enable).
    ///
    /// # Errors
    /// The configuration space cannot be read.
    pub fn is_bus_master(&self) -> Result<bool, VfioError> {
        self.device().as_ref().map_or(Ok(false), |device| device.config.is_bus_master())
    }
}

impl Nic for VfioNic {
    fn name(&self) -> &str {
        &self.name
    }

    fn shut_units(&self) {
        self.added.forget_open();
        // Whole values, not read and written back: a read would wait for a NIC that may be ill, and
        // what else stood in them is programmed anew before the units are switched on again.
        self.bar.write(RCTL, 0);
        self.bar.write(TCTL, tctl::RESET);
    }

    fn open_filters(&self) {
        self.bar.write(RAH0, self.bar.read(RAH0) | RAH_AV);
        for entry in guest_entries().skip(1).map(|entry| 8 * entry as u32) {
            let high = self.bar.read(RAH0 + entry);
            // The first that is empty is the last: reads of hardware take their time.
            if high == 0 && self.bar.read(RAL0 + entry) == 0 {
                break;
            }
            self.bar.write(RAH0 + entry, high | RAH_AV);
        }
        self.bar.write(RCTL, self.bar.read(RCTL) | rctl::BAM | rctl::MPE);
        self.added.open(&self.bar);
    }

    fn set_added(&self, added: &AddedAddresses) {
        self.added.set(&self.bar, added);
    }

    fn driver_opened(&self) {
        self.added.open(&self.bar);
    }

    fn is_promiscuous(&self) -> bool {
        self.added.is_promiscuous()
    }

    fn spoilt_address(&self, number: usize) -> Option<(u32, u32, u32)> {
        self.added.compare(&self.bar, number)
    }

    fn take_sent(&self) -> u32 {
        self.totals.take_sent(&self.bar)
    }

    fn link_up(&self) -> bool {
        let value = self.bar.read(STATUS);
        // All ones: there is no device, or it does not answer any more.
        value != ALL_ONES && value & status::LU != 0
    }

    fn shut_filters(&self) {
        self.added.shut(&self.bar);
        for entry in guest_entries().map(|entry| 8 * entry as u32) {
            self.bar.write(RAH0 + entry, self.bar.read(RAH0 + entry) & !RAH_AV);
        }
        self.bar.write(RAH0 + 8 * PROBE_ENTRY as u32, 0);
        self.bar.write(RCTL, self.bar.read(RCTL) & !(rctl::BAM | rctl::MPE | rctl::UPE));
    }

    fn accept_probes(&self, to: Option<[u8; 6]>) {
        const ENTRY: u32 = 8 * PROBE_ENTRY as u32;
        let (low, high) = to.map_or((0, 0), receive_address);
        let valid = if to.is_some() { RAH_AV } else { 0 };
        // Invalid while it changes: no address of old and new halves passes.
        self.bar.write(RAH0 + ENTRY, 0);
        self.bar.write(RAL0 + ENTRY, low);
        self.bar.write(RAH0 + ENTRY, high | valid);
    }

    fn take_received(&self) -> u32 {
        self.totals.take_received(&self.bar)
    }

    fn counters(&self) -> NicCounters {
        self.totals.counters(&self.bar)
    }

    fn queue_event(&self) -> &EventFd {
        &self.queue_event
    }

    fn link_event(&self) -> &EventFd {
        &self.link_event
    }

    fn acknowledge_link(&self) -> bool {
        self.bar.write(ICR, icr::LSC);
        self.bar.write(EICR, VECTOR_OTHER);
        self.bar.write(EIMS, VECTOR_OTHER);
        self.link_up()
    }

    fn map_dma(&self, areas: &[DmaArea]) -> Result<(), NicError> {
        let device = self.device();
        for area in areas {
            if let Some(device) = &*device {
                device.mappings.add(area)?;
            }
            self.areas().push(area.clone());
        }
        Ok(())
    }

    fn quiesce(&self) -> Result<(), NicError> {
        let silenced = self.with_device(OpenDevice::silence);
        // A device that is not there reaches nothing, nor does one that is let go of: its mappings
        // go, and the kernel takes it from the bus and resets it.
        match silenced {
            None => Ok(()),
            Some(Ok(())) if !self.leaves.load(Ordering::Acquire) => Ok(()),
            Some(Ok(()) | Err(VfioError::Gone { .. })) => Ok(self.close_device()?),
            Some(Err(_)) if self.leaves.load(Ordering::Acquire) => Ok(self.close_device()?),
            Some(Err(error)) => Err(error.into()),
        }
    }

    fn enable_bus_master(&self) -> Result<(), NicError> {
        Ok(self.with_present_device(OpenDevice::let_master)?)
    }

    fn reset(&self) -> Result<(), NicError> {
        Ok(self.with_present_device(OpenDevice::reset_function)?)
    }

    fn reopen(&self) -> Result<(), NicError> {
        Ok(self.open_device()?)
    }

    fn leave(&self) {
        self.leaves.store(true, Ordering::Release);
    }

    fn is_present(&self) -> bool {
        self.present.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<String> {
        self.absence.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn request_event(&self) -> Option<&EventFd> {
        Some(&self.request_event)
    }

    fn bar(&self) -> BarAccess<'_> {
        BarAccess::Mapped(&self.domain_pages)
    }

    fn arm_first_sent(&self) {}

    fn first_sent_ns(&self) -> Option<u64> {
        None
    }

    fn spoilt_register(&self, number: usize) -> Option<(u32, u32, u32)> {
        // Whoever opens or closes the device holds the lock for long.
        let device = self.device.try_lock().ok()?;
        device.as_ref()?.pristine.compare(&self.bar, number)
    }

    fn progress(&self) -> u64 {
        0
    }

    fn peek(&self, register: u32) -> u32 {
        self.bar.read(register)
    }

    fn poke(&self, register: u32, value: u32) {
        self.bar.write(register, value);
    }

    fn error_event(&self) -> Option<&EventFd> {
        Some(&self.error_event)
    }
}

impl From<VfioError> for NicError {
    fn from(error: VfioError) -> Self {
        match error {
            VfioError::Obstacle(obstacle) => Self::Obstacle(obstacle),
            error => Self::Vfio(Box::new(error)),
        }
    }
}

impl From<Obstacle> for VfioError {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle(obstacle)
    }
}
