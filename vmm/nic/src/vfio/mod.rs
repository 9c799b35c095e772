//! A real NIC (or QEMU's `igb`) through the kernel's VFIO.
//!
//! One container per NIC: the IOMMU lets it reach exactly the areas of [`Nic::map_dma`]. Where two
//! domains share one NIC, both call it, and the container holds the areas of both; isolation
//! between those two then rests on only one of them running.
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
use std::sync::Arc;

use vfio_bindings::bindings::vfio::VFIO_PCI_ERR_IRQ_INDEX;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioOps};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::bar::Bar;
use self::config::ConfigSpace;
use self::dma::DmaMappings;
use self::totals::RegisterTotals;
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

pub use error::VfioError;

/// A NIC behind VFIO.
pub struct VfioNic {
    name: String,
    model: Model,
    // The order matters when a NIC is dropped: the kernel lets a group go only after every
    // descriptor and mapping of its device, and unmaps DMA when the container goes.
    config: ConfigSpace,
    bar: Bar,
    pristine: Pristine,
    domain_pages: Vec<BarPages>,
    device: VfioDevice,
    mappings: DmaMappings,
    totals: RegisterTotals,
    queue_event: EventFd,
    link_event: EventFd,
    error_event: EventFd,
}

impl VfioNic {
    /// Opens a NIC that is bound to vfio-pci. The kernel resets it; its link is down after that
    /// until a driver brings it up.
    ///
    /// # Errors
    /// What is missing, or which step the kernel refused; see [`VfioError`].
    pub fn open(address: PciAddress) -> Result<Arc<Self>, VfioError> {
        let host = Host::default();
        let model = host.model(address)?;
        // Another NIC in the group is in the way only if it was opened before.
        let is_in_the_way = |obstacle: &Obstacle| match obstacle {
            Obstacle::GroupShared { group, .. } => host.has_open(*group),
            _ => true,
        };
        if let Some(obstacle) = host.info(address)?.missing.into_iter().find(is_in_the_way) {
            return Err(obstacle.into());
        }
        Self::open_ready(&host, address, model)
    }

    fn open_ready(host: &Host, address: PciAddress, model: Model) -> Result<Arc<Self>, VfioError> {
        let refused = |source| VfioError::refused(address, host.group(address), source);
        let container = Arc::new(VfioContainer::new(None).map_err(refused)?);
        let sysfs = format!("/sys/bus/pci/devices/{address}");
        let ops: Arc<dyn VfioOps> = container.clone();
        let device = VfioDevice::new(Path::new(&sysfs), ops, false).map_err(refused)?;
        let name = address.to_string();
        let event = |what| {
            EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| VfioError::System {
                name: address.to_string(),
                what,
                source,
            })
        };
        let bar = Bar::map(&name, &device)?;
        let nic = Self {
            config: ConfigSpace::new(&name, &device)?,
            domain_pages: bar.domain_pages(),
            pristine: Pristine::of(&bar),
            bar,
            mappings: DmaMappings::new(&name, container, host.memlock_limit_kib()),
            totals: RegisterTotals::new(),
            queue_event: event("create the event of its queues")?,
            link_event: event("create the event of its link")?,
            error_event: event("create the event of its errors")?,
            name,
            model,
            device,
        };
        nic.mask_interrupts();
        nic.route_interrupts(refused)?;
        Ok(Arc::new(nic))
    }

    /// Both vectors at once, for the whole life: kernels before 6.5 cannot add one later.
    fn route_interrupts(
        &self,
        refused: impl Fn(vfio_ioctls::VfioError) -> VfioError,
    ) -> Result<(), VfioError> {
        let vectors = vec![&self.queue_event, &self.link_event];
        self.device.enable_msix(vectors).map_err(&refused)?;
        if self.device.get_irq_info(VFIO_PCI_ERR_IRQ_INDEX).is_some_and(|irq| irq.count > 0) {
            self.device
                .enable_irq(VFIO_PCI_ERR_IRQ_INDEX, vec![&self.error_event])
                .map_err(refused)?;
        }
        Ok(())
    }

    /// What it is.
    pub fn model(&self) -> Model {
        self.model
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
        self.config.is_bus_master()
    }
}

impl Nic for VfioNic {
    fn name(&self) -> &str {
        &self.name
    }

    fn shut_units(&self) {
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
    }

    fn take_sent(&self) -> u32 {
        self.totals.take_sent(&self.bar)
    }

    fn link_up(&self) -> bool {
        let value = self.bar.read(STATUS);
        // All ones: it does not answer any more.
        value != ALL_ONES && value & status::LU != 0
    }

    fn shut_filters(&self) {
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
        areas.iter().try_for_each(|area| self.mappings.add(area)).map_err(NicError::from)
    }

    fn quiesce(&self) -> Result<(), NicError> {
        self.silence().map_err(NicError::from)
    }

    fn enable_bus_master(&self) -> Result<(), NicError> {
        self.let_master().map_err(NicError::from)
    }

    fn reset(&self) -> Result<(), NicError> {
        self.reset_function().map_err(NicError::from)
    }

    fn bar(&self) -> BarAccess<'_> {
        BarAccess::Mapped(&self.domain_pages)
    }

    fn arm_first_sent(&self) {}

    fn first_sent_ns(&self) -> Option<u64> {
        None
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
