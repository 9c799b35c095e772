//! What things cost here. Not judged: `cargo test --release -p warmspare costs -- --ignored
//! --nocapture --test-threads 1` prints it.

use std::time::{Duration, Instant};

use shared_ring::layout::IMAGE_BASE;

use super::super::testing::{guest, machine};
use super::super::{Exit, MicroVm, Registers};
use super::next_crash;

guest!(exits, "mov rbx, 0xd0000000", "2: mov [rbx + 0x20], edi", "jmp 2b",);
guest!(breakpoints, "2: nop", "int3", "jmp 2b");
guest!(
    touch_pages,
    "mov rbx, 0xd0000000",
    "2: mov ecx, 30",
    "mov esi, 0xe2000",
    "3: mov eax, [rsi]",
    "add esi, 4096",
    "dec ecx",
    "jnz 3b",
    "mov [rbx + 0x20], edi",
    "jmp 2b",
);

pub(crate) fn median_max_us(mut samples: Vec<Duration>) -> String {
    samples.sort();
    let us = |d: &Duration| d.as_nanos() as f64 / 1e3;
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let middle = &samples[samples.len() / 2];
    format!("min {:.1}  median {:.1}  max {:.1} µs", us(first), us(middle), us(last))
}

fn sample(count: usize, mut what: impl FnMut()) -> Vec<Duration> {
    let timed = |()| {
        let start = Instant::now();
        what();
        start.elapsed()
    };
    std::iter::repeat_n((), count).map(timed).collect()
}

fn run_on(vm: &mut MicroVm) {
    vm.run().unwrap();
}

#[test]
#[ignore = "prints figures"]
fn costs_of_a_machine() {
    let mut vms = Vec::new();
    let built = sample(20, || vms.push(machine(breakpoints()).0));
    println!("build                  {}", median_max_us(built));
    let first = vms.iter_mut().map(|vm| sample(1, || run_on(vm))[0]).collect();
    println!("first exception        {}", median_max_us(first));
    let vm = &mut vms[0];
    let (mut set, mut later) = (Vec::new(), Vec::new());
    let mut registers = Default::default();
    for turn in 0..50 {
        if turn > 0 {
            set.extend(sample(1, || vm.set_registers(&registers).unwrap()));
        } else {
            *vm = machine(breakpoints()).0;
            next_crash(vm);
            vm.set_registers(&Registers { rip: IMAGE_BASE, ..registers }).unwrap();
        }
        let start = Instant::now();
        let exit = vm.run().unwrap();
        later.push(start.elapsed());
        let Exit::Exception(record) = exit else { panic!("{exit:?}") };
        registers = record.registers;
    }
    println!("later exception        {}", median_max_us(later));
    println!("set registers          {}", median_max_us(set));
    println!("registers              {}", median_max_us(sample(50, || drop(vm.registers()))));
    let dropped = sample(20, || drop(vms.pop()));
    println!("drop                   {}", median_max_us(dropped));

    let (mut vm, _ram) = machine(exits());
    run_on(&mut vm);
    println!("MMIO exit              {}", median_max_us(sample(500, || run_on(&mut vm))));

    let (mut vm, _ram) = machine(touch_pages());
    let touched = sample(3, || run_on(&mut vm));
    println!("30 stack pages: first {:?}, then {:?} and {:?}", touched[0], touched[1], touched[2]);
}
