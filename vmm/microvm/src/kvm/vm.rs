//! A micro-VM: one vCPU, run until it leaves the guest.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VcpuFd, VmFd};
use shared_ring::hypercall::offset;
use vmm_sys_util::eventfd::EventFd;

use super::build::{add_memory, build_memory, cpu_features, start_registers};
use super::config::MicroVmConfig;
use super::error::{VmError, open_kvm};
use super::exit::{Exit, RawExit};
use super::kicker::Kicker;
use super::registers::{CrashRecord, Registers};
use super::system::{self, SystemArea};
use super::tables::{PAGE, TableError};
use platform::memory::SharedMemory;

/// Bytes of the area that `fxsave` writes.
pub const FXSAVE_BYTES: usize = 512;

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

impl Drop for MicroVm {
    fn drop(&mut self) {
        self.kicker.retire();
    }
}

/// The bytes of the MMIO exit that was just reported.
fn mmio_data(vcpu: &mut VcpuFd, len: usize) -> &mut [u8] {
    // SAFETY: the last exit was an MMIO one, so this is the field of the union that is valid; any
    // bytes are a valid array anyway.
    unsafe { &mut vcpu.get_kvm_run().__bindgen_anon_1.mmio.data[..len] }
}
