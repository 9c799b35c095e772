//! Building and running a micro-VM.

use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuExit, VcpuFd, VmFd};
use shared_ring::hypercall::offset;
use vmm_sys_util::eventfd::EventFd;

use super::error::{VmError, open_kvm};
use super::image::{Image, SegmentProtection};
use super::kicker::Kicker;
use super::registers::{CrashRecord, GeneralRegisters, Registers};
use super::system::{self, SYSTEM_FIXED_BYTES, SystemArea};
use super::tables::{PAGE, PageTables, Rights, TableError};
use platform::memory::SharedMemory;

/// Whether a mapping may be written by the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// R--.
    ReadOnly,
    /// RW-.
    ReadWrite,
}

/// Pages that the program sees, never executable, at the same virtual as physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte; page-aligned.
    pub address: u64,
    /// Bytes; whole pages.
    pub len: u64,
    /// Rights.
    pub protection: Protection,
    /// Registers rather than memory: not cached. An address with nothing behind it traps.
    pub uncached: bool,
}

/// Memory of the VMM's, outside the guest's RAM, that is to appear at a guest-physical address:
/// pages of a real BAR. The program sees it where a [`Mapping`] lies over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemSlot {
    guest_address: u64,
    host_address: u64,
    len: u64,
}

impl MemSlot {
    /// A slot; all three page-aligned, the length in bytes.
    ///
    /// # Safety
    /// The host memory must stay mapped and not be used by Rust references as long as any
    /// [`MicroVm`] that is given the slot lives.
    pub unsafe fn new(guest_address: u64, host_address: u64, len: u64) -> Self {
        Self { guest_address, host_address, len }
    }
}

/// What a micro-VM is made of.
#[derive(Clone, Debug)]
pub struct MicroVmConfig<'a> {
    /// All its RAM, from guest-physical 0.
    pub ram: Arc<SharedMemory>,
    /// Where in RAM page tables, descriptor tables and stub go; page-aligned, out of the way of all
    /// else.
    pub system_base: u64,
    /// Bytes of the system area: [`SYSTEM_FIXED_BYTES`], one page of page tables for each 2 MiB of
    /// the address space that is in use, one for each GiB of that, and two.
    pub system_bytes: u64,
    /// The program; its segments get the rights that stand in the ELF file.
    pub image: &'a Image,
    /// What the program sees beside its image: stack, shared memory, registers.
    pub mappings: &'a [Mapping],
    /// Memory other than RAM.
    pub slots: &'a [MemSlot],
    /// First address above the stack, 16-byte aligned. The program starts as if it had been called
    /// from address 0: RSP is 8 below, where a zero stands for a return address.
    pub stack_top: u64,
    /// The page whose stores are hypercalls; the program sees it.
    pub hypercall_base: u64,
    /// RDI and RSI at the entry point.
    pub arguments: [u64; 2],
}

/// Why the guest was left.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// A 32-bit store to the hypercall page.
    Hypercall {
        /// Offset in the page, bytes.
        offset: u64,
        /// What was stored.
        value: u32,
    },
    /// A load from an address with no memory. Fill in `data` before running again.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a mut [u8],
    },
    /// A store to an address with no memory.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// 1 to 8 bytes.
        data: &'a [u8],
    },
    /// A CPU exception, known from the stub's frame alone: [`MicroVm::complete_record`] adds what only KVM
    /// can tell. The vCPU stands in the stub; only [`MicroVm::set_registers`] makes it run on.
    Exception(CrashRecord),
    /// Triple fault: registers are gone, the vCPU must not run again and refuses to.
    Shutdown,
    /// An exit that a sound guest does not cause; the vCPU refuses to run again.
    Unexpected {
        /// Number of the exit in the KVM API.
        reason: u32,
    },
    /// Kicked, or a signal came. May be spurious.
    Interrupted,
}

/// One vCPU and its memory.
///
/// Built on one thread, it may be moved to another and be run there.
#[derive(Debug)]
pub struct MicroVm {
    // Dropped in this order: the vCPU before its VM, both before the memory.
    vcpu: VcpuFd,
    vm: VmFd,
    kicker: Kicker,
    ram: Arc<SharedMemory>,
    pub(super) system: SystemArea,
    hypercall_base: u64,
    dead: bool,
}

impl MicroVm {
    /// Loads the image into RAM (all of its segments, bss zeroed), builds the system area and makes
    /// the VM. RAM elsewhere is left as it is.
    ///
    /// # Errors
    /// No KVM, a map that overlaps or does not fit, or a KVM call that fails.
    pub fn new(config: &MicroVmConfig<'_>) -> Result<Self, VmError> {
        let (root, system) = build_memory(config).map_err(|error| match error {
            TableError::Map(error) => VmError::Map(error),
            TableError::Memory(error) => VmError::Memory(error),
        })?;
        let kvm = open_kvm()?;
        let vm = kvm.create_vm().map_err(VmError::kvm("create a VM"))?;
        add_memory(&vm, config)?;
        let vcpu = vm.create_vcpu(0).map_err(VmError::kvm("create a vCPU"))?;
        vcpu.set_cpuid2(cpu_features(&kvm)?).map_err(VmError::kvm("set CPU features"))?;
        let mut sregs = vcpu.get_sregs().map_err(VmError::kvm("read system registers"))?;
        system.start_state(root, &mut sregs);
        vcpu.set_sregs(&sregs).map_err(VmError::kvm("set system registers"))?;
        let kicker = Kicker::new(vcpu.as_raw_fd(), vm.run_size())?;
        let (ram, hypercall_base) = (config.ram.clone(), config.hypercall_base);
        let mut vm = Self { vcpu, vm, kicker, ram, system, hypercall_base, dead: false };
        let start = start_registers(config);
        vm.rehearse_exception(&start)?;
        vm.set_registers(&start)?;
        Ok(vm)
    }

    /// Has the program fault once, by starting it on its stack, which is not executable. The first
    /// exception of a machine costs several times what later ones do, since nothing of the system
    /// area is in the page tables that KVM keeps yet: better now than at a crash. It also proves
    /// that crashes are reported at all.
    fn rehearse_exception(&mut self, start: &Registers) -> Result<(), VmError> {
        const ATTEMPTS: usize = 16;
        self.set_registers(&Registers { rip: start.rsp, ..*start })?;
        for _ in 0..ATTEMPTS {
            match self.run()? {
                Exit::Interrupted => {}
                Exit::Exception(record) if record.registers.rip == start.rsp => {
                    // The thread that builds is not the one that will run.
                    self.kicker.retire();
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(VmError::NoExceptions)
    }

    /// Makes stores to `address` signal `event` instead of leaving the guest; with `datamatch`,
    /// only 32-bit stores of that value.
    ///
    /// # Errors
    /// KVM refuses, for example because the address has one already.
    pub fn ioeventfd(
        &self,
        address: u64,
        event: &EventFd,
        datamatch: Option<u32>,
    ) -> Result<(), VmError> {
        let address = IoEventAddress::Mmio(address);
        match datamatch {
            Some(value) => self.vm.register_ioevent(event, &address, value),
            None => self.vm.register_ioevent(event, &address, NoDatamatch),
        }
        .map_err(VmError::kvm("register an ioeventfd"))
    }

    /// Runs the guest until it leaves. Always on the same thread.
    ///
    /// # Errors
    /// KVM refuses to run the vCPU; it will not run again.
    pub fn run(&mut self) -> Result<Exit<'_>, VmError> {
        if self.dead {
            return Err(VmError::Dead);
        }
        self.kicker.enter();
        let exit = RawExit::of(self.vcpu.run());
        Ok(match exit {
            RawExit::Read { address, len } => {
                Exit::MmioRead { address, data: mmio_data(&mut self.vcpu, len) }
            }
            RawExit::Write { address, len } => return Ok(self.store(address, len)),
            RawExit::Shutdown => {
                self.dead = true;
                Exit::Shutdown
            }
            RawExit::Unexpected => {
                self.dead = true;
                Exit::Unexpected { reason: self.vcpu.get_kvm_run().exit_reason }
            }
            RawExit::Interrupted => {
                self.kicker.acknowledge();
                Exit::Interrupted
            }
            RawExit::Failed(error) => {
                self.dead = true;
                return Err(VmError::kvm("run the vCPU")(error));
            }
        })
    }

    fn store(&mut self, address: u64, len: usize) -> Exit<'_> {
        let data = mmio_data(&mut self.vcpu, len);
        let word = <[u8; 4]>::try_from(&*data).ok().map(u32::from_le_bytes);
        let offset = address.wrapping_sub(self.hypercall_base);
        match word {
            Some(vector) if offset == offset::EXCEPTION => {
                match self.system.frame(&self.ram, vector) {
                    Some(record) => Exit::Exception(record),
                    None => Exit::Hypercall { offset, value: vector },
                }
            }
            Some(value) if offset < PAGE => Exit::Hypercall { offset, value },
            _ => Exit::MmioWrite { address, data: mmio_data(&mut self.vcpu, len) },
        }
    }

    /// Adds general purpose registers and CR2 to the record of the exception that was just
    /// reported. Two calls into KVM, 5 µs each where this was measured: who is in a hurry reacts
    /// first and does this afterwards.
    ///
    /// # Errors
    /// KVM refuses.
    pub fn complete_record(&self, record: &mut CrashRecord) -> Result<(), VmError> {
        record.registers.general = self.registers()?.general;
        record.cr2 = self.vcpu.get_sregs().map_err(VmError::kvm("read system registers"))?.cr2;
        Ok(())
    }

    /// For other threads: makes the vCPU leave the guest.
    pub fn kicker(&self) -> Kicker {
        self.kicker.clone()
    }

    /// The registers as they are now. In the stub, after [`Exit::Exception`], these are ring 0's.
    ///
    /// # Errors
    /// KVM refuses.
    pub fn registers(&self) -> Result<Registers, VmError> {
        let regs = self.vcpu.get_regs().map_err(VmError::kvm("read registers"))?;
        Ok((&regs).into())
    }

    /// The x87 and SSE registers as `fxsave` stores them.
    ///
    /// # Errors
    /// KVM refuses.
    pub fn vector_registers(&self) -> Result<[u8; FXSAVE_BYTES], VmError> {
        let fpu = self.vcpu.get_fpu().map_err(VmError::kvm("read vector registers"))?;
        let mut out = [0; FXSAVE_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &fpu.fcw.to_le_bytes());
        put(2, &fpu.fsw.to_le_bytes());
        put(4, &[fpu.ftwx]);
        put(6, &fpu.last_opcode.to_le_bytes());
        put(8, &fpu.last_ip.to_le_bytes());
        put(16, &fpu.last_dp.to_le_bytes());
        put(24, &fpu.mxcsr.to_le_bytes());
        put(32, fpu.fpr.as_flattened());
        put(160, fpu.xmm.as_flattened());
        Ok(out)
    }

    /// Puts the program, at CPL 3, where `registers` say; the next [`Self::run`] goes on there. An
    /// exit that is still pending is completed first, a load with whatever its data is.
    ///
    /// # Errors
    /// KVM refuses, or the vCPU is dead.
    pub fn set_registers(&mut self, registers: &Registers) -> Result<(), VmError> {
        // The completion may itself report another part of the same access; it is of no interest.
        self.complete_exit()?;
        self.system.clear_frames(&self.ram)?;
        let mut sregs = self.vcpu.get_sregs().map_err(VmError::kvm("read system registers"))?;
        system::user_segments(&mut sregs);
        sregs.cr2 = 0;
        self.vcpu.set_sregs(&sregs).map_err(VmError::kvm("set system registers"))?;
        self.vcpu.set_regs(&registers.into()).map_err(VmError::kvm("set registers"))
    }

    /// Completes what the last exit left pending, a load with whatever its data is, and enters
    /// nothing: from here on the registers are those between two instructions.
    ///
    /// # Errors
    /// The vCPU is dead.
    pub fn complete_exit(&mut self) -> Result<(), VmError> {
        if self.dead {
            return Err(VmError::Dead);
        }
        let kicker = self.kicker.clone();
        kicker.without_entering(|| drop(self.vcpu.run()));
        Ok(())
    }

    /// Frequency of the guest's time stamp counter in kHz; `None` where the host's is not constant.
    pub fn tsc_khz(&self) -> Option<u32> {
        self.vcpu.get_tsc_khz().ok().filter(|&khz| khz != 0)
    }
}

/// Bytes of the area that `fxsave` writes.
pub const FXSAVE_BYTES: usize = 512;

impl Drop for MicroVm {
    fn drop(&mut self) {
        self.kicker.retire();
    }
}

/// What `KVM_RUN` said, without its borrow.
enum RawExit {
    Read { address: u64, len: usize },
    Write { address: u64, len: usize },
    Shutdown,
    Unexpected,
    Interrupted,
    Failed(kvm_ioctls::Error),
}

impl RawExit {
    fn of(result: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Self {
        match result {
            Ok(VcpuExit::MmioRead(address, data)) => Self::Read { address, len: data.len() },
            Ok(VcpuExit::MmioWrite(address, data)) => Self::Write { address, len: data.len() },
            Ok(VcpuExit::Shutdown) => Self::Shutdown,
            Ok(VcpuExit::Intr) => Self::Interrupted,
            Ok(_) => Self::Unexpected,
            Err(error) if error.errno() == libc::EINTR => Self::Interrupted,
            Err(error) => Self::Failed(error),
        }
    }
}

/// The bytes of the MMIO exit that was just reported.
fn mmio_data(vcpu: &mut VcpuFd, len: usize) -> &mut [u8] {
    // SAFETY: the last exit was an MMIO one, so this is the field of the union that is valid; any
    // bytes are a valid array anyway.
    unsafe { &mut vcpu.get_kvm_run().__bindgen_anon_1.mmio.data[..len] }
}

/// Loads the image and writes the system area; gives the page tables' root.
fn build_memory(config: &MicroVmConfig<'_>) -> Result<(u64, SystemArea), TableError> {
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
fn cpu_features(kvm: &Kvm) -> Result<&'static CpuId, VmError> {
    static FEATURES: OnceLock<CpuId> = OnceLock::new();
    if let Some(features) = FEATURES.get() {
        return Ok(features);
    }
    let features = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(VmError::kvm("tell its CPU features"))?;
    Ok(FEATURES.get_or_init(|| features))
}

fn add_memory(vm: &VmFd, config: &MicroVmConfig<'_>) -> Result<(), VmError> {
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

fn start_registers(config: &MicroVmConfig<'_>) -> Registers {
    /// Reserved bit 1 is always one; interrupts on, though none exist.
    const START_FLAGS: u64 = 0x202;
    let [rdi, rsi] = config.arguments;
    let general = GeneralRegisters { rdi, rsi, ..Default::default() };
    let (rip, rsp) = (config.image.entry(), return_address(config));
    Registers { rip, rsp, rflags: START_FLAGS, general }
}
