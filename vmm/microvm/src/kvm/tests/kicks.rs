//! Getting a vCPU out of the guest.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::super::Exit;
use super::super::testing::{guest, machine};
use super::{Said, next};

guest!(spin, "2: pause", "jmp 2b");
guest!(chatter, "mov rbx, 0xd0000000", "2: mov [rbx + 0x20], edi", "jmp 2b",);

#[test]
fn a_spinning_guest_is_kicked_out() {
    let (mut vm, _ram) = machine(spin());
    let kicker = vm.kicker();

    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            kicker.kick();
        });
        assert_eq!(vm.run().unwrap(), Exit::Interrupted);
    });
}

#[test]
fn a_kick_before_the_first_entry_counts() {
    let (mut vm, _ram) = machine(spin());

    vm.kicker().kick();

    assert_eq!(vm.run().unwrap(), Exit::Interrupted);
}

#[test]
fn a_kick_after_the_machine_is_gone_does_nothing() {
    let (mut vm, _ram) = machine(chatter());
    next(&mut vm);
    let kicker = vm.kicker();
    drop(vm);

    kicker.kick();
}

#[test]
fn setting_registers_does_not_swallow_a_kick() {
    let (mut vm, _ram) = machine(chatter());
    next(&mut vm);
    vm.kicker().kick();

    let registers = vm.registers().unwrap();
    vm.set_registers(&registers).unwrap();

    assert_eq!(vm.run().unwrap(), Exit::Interrupted);
}

#[test]
fn no_kick_is_lost_however_it_meets_the_entry() {
    const KICKS: u32 = 300;
    // Leaves the guest all the time, so that kicks meet every moment of entry and exit.
    let (mut vm, _ram) = machine(chatter());
    let kicker = vm.kicker();
    let (asked, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            for kick in 1..=KICKS {
                asked.store(kick, Ordering::SeqCst);
                kicker.kick();
                while seen.load(Ordering::SeqCst) < kick {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
            done.store(true, Ordering::SeqCst);
            kicker.kick();
        });
        while !done.load(Ordering::SeqCst) {
            if vm.run().unwrap() == Exit::Interrupted {
                seen.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
    });

    assert_eq!(seen.load(Ordering::SeqCst), KICKS);
    assert!(matches!(next(&mut vm), Said::Call { value: 11, .. }));
}
