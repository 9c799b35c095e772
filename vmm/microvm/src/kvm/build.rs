//! Building a micro-VM: its memory, its memslots, and the state in which the program starts.

use std::sync::OnceLock;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VmFd};

use super::config::{MemSlot, MicroVmConfig, Protection};
use super::error::VmError;
use super::image::SegmentProtection;
use super::registers::{GeneralRegisters, Registers};
use super::system::{SYSTEM_FIXED_BYTES, SystemArea};
use super::tables::{PAGE, PageTables, Rights, TableError};

/// Loads the image and writes the system area; gives the page tables' root.
pub(super) fn build_memory(config: &MicroVmConfig<'_>) -> Result<(u64, SystemArea), TableError> {
    let ram = &*config.ram;
    let end = config.system_base.saturating_add(config.system_bytes);
    // Fails here, and not in the middle, if the area is not in RAM at all.
    ram.slice(config.system_base, config.system_bytes as usize)?;
    let mut tables = PageTables::new(ram, config.system_base + SYSTEM_FIXED_BYTES..end)?;
    let (base, hypercalls) = (config.system_base, config.hypercall_base);
    let system = SystemArea::build(ram, base, hypercalls, &mut tables)?;
    for segment in config.image.segments() {
        let rights = match segment.protection {
            SegmentProtection::ReadExecute => Rights::EXECUTE,
            SegmentProtection::ReadOnly => Rights::READ,
            SegmentProtection::ReadWrite => Rights::WRITE,
        };
        let len = segment.len.next_multiple_of(PAGE);
        tables.map(segment.address, segment.address, len, rights)?;
        ram.clear(segment.address, len as usize)?;
        ram.write(segment.address, &segment.data)?;
    }
    for mapping in config.mappings {
        let rights = match mapping.protection {
            Protection::ReadOnly => Rights::READ,
            Protection::ReadWrite => Rights::WRITE,
        };
        let rights = if mapping.uncached { rights.uncached() } else { rights };
        tables.map(mapping.address, mapping.address, mapping.len, rights)?;
    }
    tables.map(hypercalls, hypercalls, PAGE, Rights::WRITE.uncached())?;
    ram.write(return_address(config), &[0; 8])?;
    Ok((tables.root(), system))
}

/// All CPU features that KVM can give, asked for once: the answer takes as long as making a VM.
pub(super) fn cpu_features(kvm: &Kvm) -> Result<&'static CpuId, VmError> {
    static FEATURES: OnceLock<CpuId> = OnceLock::new();
    if let Some(features) = FEATURES.get() {
        return Ok(features);
    }
    let features = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(VmError::kvm("tell its CPU features"))?;
    Ok(FEATURES.get_or_init(|| features))
}

/// Makes RAM and the other slots memory of the VM.
pub(super) fn add_memory(vm: &VmFd, config: &MicroVmConfig<'_>) -> Result<(), VmError> {
    let ram = &config.ram;
    let ram = MemSlot { guest_address: 0, host_address: ram.host_address(), len: ram.len() };
    for (slot, memory) in (0..).zip(std::iter::once(&ram).chain(config.slots)) {
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: memory.guest_address,
            memory_size: memory.len,
            userspace_addr: memory.host_address,
        };
        // SAFETY: RAM is a mapping that the micro-VM keeps alive, and accessed as atomics or
        // volatile only; for the other slots `MemSlot::new` was given the same promise.
        unsafe { vm.set_user_memory_region(region) }.map_err(VmError::kvm("add a memslot"))?;
    }
    Ok(())
}

/// Where the program finds the zero to which it would return. A stack outside RAM is refused when
/// that is written.
fn return_address(config: &MicroVmConfig<'_>) -> u64 {
    config.stack_top.wrapping_sub(8)
}

/// The registers with which the program starts.
pub(super) fn start_registers(config: &MicroVmConfig<'_>) -> Registers {
    /// Reserved bit 1 is always one; interrupts on, though none exist.
    const START_FLAGS: u64 = 0x202;
    let [rdi, rsi] = config.arguments;
    let general = GeneralRegisters { rdi, rsi, ..Default::default() };
    let (rip, rsp) = (config.image.entry(), return_address(config));
    Registers { rip, rsp, rflags: START_FLAGS, general }
}
