//! How lives end.

use std::sync::atomic::Ordering;
use std::time::Instant;

use shared_ring::Role;
use shared_ring::hypercall::PanicCode;
use shared_ring::layout::{HYPERCALL_BASE, IMAGE_BASE, STATUS_BASE};

use super::super::{Fault, InjectionError, VcpuState};
use super::{Event, PATIENCE, QUIET, Stage, eventually};
use crate::kvm::testing::guest;
use platform::clock::monotonic_ns;

guest!(crash, "mov r12, 0x77", "mov eax, [0x8]");

#[test]
fn a_crash_is_reported_once_and_recorded() {
    let stage = Stage::new();
    let before_ns = monotonic_ns();
    let life = stage.start(crash(), 4, Role::Active);

    let Event::Failed(4, Fault::Exception(record), entered_ns) = stage.hear() else {
        panic!("not the crash of this life")
    };

    assert!(life.is_out() && life.is_stopped());
    assert_eq!((record.vector, record.registers.rip), (14, IMAGE_BASE + 7));
    assert!((before_ns..monotonic_ns()).contains(&entered_ns));
    eventually("the record is completed", || life.outcome().is_some());
    let Some(Fault::Exception(record)) = life.outcome().unwrap().fault else { panic!() };
    assert_eq!((record.cr2, record.registers.general.r12), (8, 0x77));
    life.force_out();
    drop(life);
    assert!(stage.heard.try_recv().is_err(), "nothing more is heard of it");
}

guest!(
    give_up,
    "mov rax, 0x21657962646f6f67",
    "mov [0x110180], rax",
    "mov dword ptr [0x110024], 8",
    "mov rbx, 0xd0000000",
    "mov dword ptr [rbx + 0x18], 1",
    "2: jmp 2b",
);

#[test]
fn last_words_are_kept() {
    let stage = Stage::new();
    let life = stage.start(give_up(), 1, Role::Active);

    let fault = stage.hear_fault();

    assert_eq!(fault, Fault::Panic { code: PanicCode::Panic as u32 });
    eventually("the outcome is there", || life.outcome().is_some());
    assert_eq!(life.outcome().unwrap().panic_text.as_deref(), Some("goodbye!"));
}

guest!(read_hypercall, "mov rbx, 0xd0000000", "mov eax, [rbx + 4]");
guest!(wide_call, "mov rbx, 0xd0000000", "mov [rbx], rbx");
guest!(no_such_call, "mov rbx, 0xd0000000", "mov dword ptr [rbx + 0x80], 9");
guest!(forged_exception, "mov rbx, 0xd0000000", "mov dword ptr [rbx + 0x28], 6");
guest!(narrow_register, "mov rbx, 0xe0000000", "mov al, [rbx + 9]");
guest!(odd_register, "mov rbx, 0xe0000000", "mov [rbx + 2], eax");
guest!(statistics, "mov rbx, 0xe0004000", "mov eax, [rbx + 0x80]");
guest!(flash, "mov rbx, 0xe0012000", "mov [rbx + 0x10], eax");
guest!(past_the_bar, "mov rbx, 0xe0020000", "mov eax, [rbx]");

#[test]
fn what_no_domain_may_do_ends_it() {
    let outside = |address, write| Fault::OutsideMap { address, write };
    let register = |offset, bytes, write| Fault::RegisterAccess { offset, bytes, write };
    let cases: [(&[u8], Fault); 6] = [
        (read_hypercall(), outside(HYPERCALL_BASE + 4, false)),
        (wide_call(), outside(HYPERCALL_BASE, true)),
        (no_such_call(), Fault::Hypercall { offset: 0x80, value: 9 }),
        (forged_exception(), Fault::Hypercall { offset: 0x28, value: 6 }),
        (narrow_register(), register(9, 1, false)),
        (odd_register(), register(2, 4, true)),
    ];
    let stage = Stage::new();
    for (epoch, (code, expected)) in (1..).zip(cases) {
        let _life = stage.start(code, epoch, Role::Active);
        assert_eq!(stage.hear_fault(), expected);
    }
    for (epoch, code) in (50..).zip([statistics(), flash(), past_the_bar()]) {
        let _life = stage.start(code, epoch, Role::Active);
        let fault = stage.hear_fault();
        assert!(matches!(fault, Fault::Exception(r) if r.vector == 14), "{fault}");
    }
    assert!(stage.nic.stores.lock().unwrap().is_empty());
}

guest!(
    doorbells,
    "mov rbx, 0xe0000000",
    "mov eax, [rbx + 0x08]",
    "2: mov [rbx + 0x18], eax",
    "inc eax",
    "jmp 2b",
);

#[test]
fn registers_reach_the_nic_until_the_verdict_and_not_after() {
    let stage = Stage::new();
    let life = stage.start(doorbells(), 1, Role::Active);
    let stores = || stage.nic.stores.lock().unwrap().len();
    eventually("doorbells ring", || stores() > 20);

    life.force_out();
    assert!(life.wait_until_out(Instant::now() + PATIENCE));

    let rung = stores();
    std::thread::sleep(QUIET);
    assert_eq!(stores(), rung);
    let expected: Vec<_> = (0x09..).map(|value| (0x18, value)).take(rung).collect();
    assert_eq!(*stage.nic.stores.lock().unwrap(), expected);
    assert!(stage.heard.try_recv().is_err(), "who is expelled does not report itself");
    assert_eq!(life.outcome().and_then(|o| o.fault), None);
}

#[test]
fn a_panic_in_the_vmm_fails_the_domain_and_not_the_process() {
    let stage = Stage::new();
    stage.nic.panics.store(true, Ordering::SeqCst);
    let life = stage.start(doorbells(), 1, Role::Active);

    assert_eq!(stage.hear_fault(), Fault::VcpuThread);
    assert!(life.is_out());
}

guest!(
    rounds,
    "mov ebp, 0x99",
    "2: inc dword ptr [0x110000]",
    "mov r13d, [0x110000]",
    "nop",
    "nop",
    "jmp 2b",
);

#[test]
fn faulty_code_runs_when_it_is_reached_and_not_before() {
    let stage = Stage::new();
    let life = stage.start(rounds(), 1, Role::Active);
    eventually("it runs", || stage.word(STATUS_BASE) > 1000);
    let nops = IMAGE_BASE + rounds().len() as u64 - 4;
    assert_eq!(life.inject(nops, &[]), Err(InjectionError::Place { address: nops, len: 0 }));
    let outside = InjectionError::Place { address: STATUS_BASE, len: 1 };
    assert_eq!(life.inject(STATUS_BASE, &[0x90]), Err(outside));

    let before_ns = monotonic_ns();
    life.inject(nops, &[0x0f, 0x0b]).unwrap();

    let Event::Failed(1, Fault::Exception(record), entered_ns) = stage.hear() else { panic!() };
    assert_eq!((record.vector, record.registers.rip), (6, nops));
    assert!(entered_ns > before_ns, "the faulty code was entered after it was put in");
    eventually("the record is completed", || life.outcome().is_some());
    let Some(Fault::Exception(record)) = life.outcome().unwrap().fault else { panic!() };
    let general = record.registers.general;
    assert_eq!((general.rbp, general.r13 as u32), (0x99, stage.word(STATUS_BASE)));
}

#[test]
fn one_trap_at_a_time_and_harmless_code_does_no_harm() {
    let stage = Stage::new();
    let life = stage.start(rounds(), 1, Role::Active);
    let nops = IMAGE_BASE + rounds().len() as u64 - 4;
    let end = IMAGE_BASE + rounds().len() as u64 + 8;

    life.inject(end, &[0x90]).unwrap();
    assert_eq!(life.inject(nops, &[0x90]), Err(InjectionError::Pending { address: end }));
    drop(life);

    let life = stage.start(rounds(), 2, Role::Active);
    life.inject(nops, &[0x90]).unwrap();
    eventually("the trap is met", || stage.word(nops) & 0xff == 0x90);
    let rounds = stage.word(STATUS_BASE);
    eventually("it runs on", || stage.word(STATUS_BASE) > rounds + 1000);
    assert!(!life.is_stopped());
}

guest!(run_wild, "2: jmp 2b");

#[test]
fn a_spinning_domain_is_expelled() {
    let stage = Stage::new();
    let life = stage.start(run_wild(), 1, Role::Active);
    eventually("it runs", || life.state() == VcpuState::InGuest);
    let used_ns = life.cpu_clock().now_ns().unwrap();
    eventually("it uses CPU", || life.cpu_clock().now_ns().unwrap() > used_ns);

    life.force_out();

    assert!(life.wait_until_out(Instant::now() + PATIENCE));
    eventually("the outcome is there", || life.outcome().is_some());
    assert_eq!(life.outcome().unwrap().registers.unwrap().rip, IMAGE_BASE);
}
