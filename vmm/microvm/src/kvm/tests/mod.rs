//! Tiny guests on real KVM.

pub(crate) mod costs;
mod exceptions;
mod exits;
mod isolation;
mod kicks;

use super::testing::machine;
use super::{CrashRecord, Exit, MicroVm};

/// An exit of the next kind that is not a mere interruption, without its borrow.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Call { offset: u64, value: u32 },
    Load { address: u64, bytes: usize },
    Store { address: u64, data: Vec<u8> },
    Exception(CrashRecord),
    Shutdown,
    Unexpected(u32),
}

/// Runs until the guest says something. A load is answered with `answer`.
fn next_with(vm: &mut MicroVm, answer: u8) -> Said {
    loop {
        return match vm.run().expect("the guest runs") {
            Exit::Interrupted => continue,
            Exit::Hypercall { offset, value } => Said::Call { offset, value },
            Exit::Exception(record) => Said::Exception(record),
            Exit::Shutdown => Said::Shutdown,
            Exit::Unexpected { reason } => Said::Unexpected(reason),
            Exit::MmioRead { address, data } => {
                data.fill(answer);
                Said::Load { address, bytes: data.len() }
            }
            Exit::MmioWrite { address, data } => Said::Store { address, data: data.to_vec() },
        };
    }
}

fn next(vm: &mut MicroVm) -> Said {
    next_with(vm, 0)
}

/// Runs until an exception, and completes its record.
fn next_crash(vm: &mut MicroVm) -> CrashRecord {
    match next(vm) {
        Said::Exception(mut record) => {
            vm.complete_record(&mut record).unwrap();
            record
        }
        other => panic!("{other:x?} instead of an exception"),
    }
}

/// The first exception of a guest.
fn crash(code: &[u8]) -> CrashRecord {
    let (mut vm, _ram) = machine(code);
    next_crash(&mut vm)
}
