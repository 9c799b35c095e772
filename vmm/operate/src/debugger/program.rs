//! A domain as the GDB protocol shows it.

use std::collections::BTreeSet;

use gdbstub::common::Signal;
use gdbstub::stub::SingleThreadStopReason;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, SwBreakpoint, SwBreakpointOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;

use super::{registers, step};
use microvm::domain::{DebugError, Hold};
use supervisor::Debugged;

/// A domain that is debugged.
pub(super) struct Program {
    pub(super) debugged: Debugged,
    /// Keeps the domain stopped; `None` while it runs.
    hold: Option<Hold>,
    /// Breakpoints that the debugger has set.
    breakpoints: BTreeSet<u64>,
    /// Addresses that the single step under way can lead to.
    steps: Vec<u64>,
}

/// Registers or memory cannot be had: the protocol has an error number for that.
fn refused<T>(error: DebugError) -> TargetError<T> {
    tracing::debug!(%error, "a request of the debugger cannot be fulfilled");
    TargetError::NonFatal
}

impl Program {
    /// Stops a domain for its debugger.
    ///
    /// # Errors
    /// The domain has to serve, or does not stop.
    pub(super) fn stopped(debugged: Debugged) -> Result<Self, DebugError> {
        let hold = debugged.debug.hold();
        hold.wait_until_held()?;
        Ok(Self { debugged, hold: Some(hold), breakpoints: BTreeSet::new(), steps: Vec::new() })
    }

    fn hold(&self) -> Result<&Hold, DebugError> {
        self.hold.as_ref().ok_or(DebugError::Hold(microvm::domain::HoldError::TimedOut))
    }

    /// Stops the domain because the debugger interrupts it.
    ///
    /// # Errors
    /// The domain has to serve, or does not stop.
    pub(super) fn interrupt(&mut self) -> Result<SingleThreadStopReason<u64>, DebugError> {
        let hold = self.debugged.debug.hold();
        hold.wait_until_held()?;
        self.end_step();
        // It may have reached a breakpoint at that moment; one hold is enough.
        drop(self.debugged.debug.take_stop());
        self.hold = Some(hold);
        Ok(SingleThreadStopReason::Signal(Signal::SIGINT))
    }

    /// Why the domain has stopped by itself, if it has.
    pub(super) fn take_stop(&mut self) -> Option<SingleThreadStopReason<u64>> {
        let (address, hold) = self.debugged.debug.take_stop()?;
        self.hold = Some(hold);
        let stepped = !self.steps.is_empty();
        self.end_step();
        Some(match stepped && !self.breakpoints.contains(&address) {
            true => SingleThreadStopReason::DoneStep,
            false => SingleThreadStopReason::SwBreak(()),
        })
    }

    fn end_step(&mut self) {
        for address in std::mem::take(&mut self.steps) {
            if !self.breakpoints.contains(&address) {
                self.debugged.debug.remove_breakpoint(address);
            }
        }
    }

    /// Sets breakpoints wherever the next instruction can lead.
    fn begin_step(&mut self) -> Result<(), DebugError> {
        let registers = self.hold()?.registers()?.general;
        let debug = &self.debugged.debug;
        let mut code = [0; step::MAX_INSTRUCTION_BYTES];
        debug.read(registers.rip, &mut code)?;
        let read = |address| {
            let mut word = [0; 8];
            debug.read(address, &mut word).ok().map(|()| u64::from_le_bytes(word))
        };
        for address in step::successors(&code, &registers, read) {
            // An address where no breakpoint can be set faults, and that is reported then.
            if debug.set_breakpoint(address).is_ok() {
                self.steps.push(address);
            }
        }
        Ok(())
    }
}

impl Target for Program {
    type Arch = X86_64_SSE;
    type Error = DebugError;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::SingleThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadBase for Program {
    fn read_registers(&mut self, regs: &mut X86_64CoreRegs) -> TargetResult<(), Self> {
        let all = self.hold().and_then(Hold::registers).map_err(refused)?;
        *regs = registers::shown(&all);
        Ok(())
    }

    fn write_registers(&mut self, regs: &X86_64CoreRegs) -> TargetResult<(), Self> {
        let wanted = registers::wanted(regs);
        self.hold().and_then(|hold| hold.set_registers(wanted)).map_err(refused)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8]) -> TargetResult<usize, Self> {
        self.debugged.debug.read(address, data).map_err(refused)?;
        Ok(data.len())
    }

    fn write_addrs(&mut self, address: u64, data: &[u8]) -> TargetResult<(), Self> {
        self.debugged.debug.write(address, data).map_err(refused)
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadResume for Program {
    fn resume(&mut self, _: Option<Signal>) -> Result<(), DebugError> {
        self.hold = None;
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }
}

impl SingleThreadSingleStep for Program {
    fn step(&mut self, _: Option<Signal>) -> Result<(), DebugError> {
        self.begin_step()?;
        self.hold = None;
        Ok(())
    }
}

impl Breakpoints for Program {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Program {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.debugged.debug.set_breakpoint(address).map_err(refused)?;
        self.breakpoints.insert(address);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        self.debugged.debug.remove_breakpoint(address);
        Ok(self.breakpoints.remove(&address))
    }
}
