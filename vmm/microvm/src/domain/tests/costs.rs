//! What things cost here. Not judged: `cargo test --release -p warmspare costs -- --ignored
//! --nocapture --test-threads 1` prints it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared_ring::Role;
use shared_ring::layout::{IMAGE_BASE, STATUS_BASE};

use super::super::{DomainEvents, DomainId, Fault, Life, VcpuState};
use super::{PATIENCE, Stage, domain_image, eventually};
use crate::domain::eventfd::wait_until_set;
use crate::kvm::testing::guest;
use crate::kvm::tests::costs::median_max_us;
use platform::clock::monotonic_ns;

// Notifies on every wake.
guest!(
    echo,
    "mov rbx, 0xd0000000",
    "2: mov dword ptr [rbx + 0x08], 0",
    "inc dword ptr [0x110000]",
    "mov dword ptr [rbx + 0x10], 0",
    "jmp 2b",
);
guest!(rounds_for_costs, "2: inc dword ptr [0x110000]", "jmp 2b");

/// Notes when it hears of a fault.
#[derive(Default)]
struct Stamp {
    failed_ns: AtomicU64,
    entered_ns: AtomicU64,
}

impl DomainEvents for Stamp {
    fn ready(&self, _: DomainId, _: u32) {}

    fn failed(&self, _: DomainId, _: u32, _: &Fault, entered_ns: u64) {
        self.entered_ns.store(entered_ns, Ordering::SeqCst);
        self.failed_ns.store(monotonic_ns(), Ordering::SeqCst);
    }
}

fn start(stage: &Stage, code: &[u8], epoch: u32, events: &Arc<Stamp>) -> Life {
    stage.prepare(epoch, Role::Active);
    let image = Arc::new(domain_image(code));
    Life::start(stage.slot.clone(), image, epoch, events.clone()).unwrap()
}

fn fault_latency(stage: &Stage, epoch: u32) -> Duration {
    let stamp = Arc::new(Stamp::default());
    let life = start(stage, rounds_for_costs(), epoch, &stamp);
    eventually("it runs", || stage.word(STATUS_BASE) > 1000);
    life.inject(IMAGE_BASE, &[0x0f, 0x0b]).unwrap();
    eventually("it fails", || stamp.failed_ns.load(Ordering::SeqCst) != 0);
    let entered_ns = stamp.entered_ns.load(Ordering::SeqCst);
    Duration::from_nanos(stamp.failed_ns.load(Ordering::SeqCst) - entered_ns)
}

fn pause_latency(stage: &Stage, epoch: u32) -> Duration {
    let life = start(stage, rounds_for_costs(), epoch, &Arc::default());
    eventually("it runs", || stage.word(STATUS_BASE) > 1000);
    let start = Instant::now();
    life.force_out();
    assert!(life.wait_until_out(start + PATIENCE));
    start.elapsed()
}

fn wake_latency(stage: &Stage, life: &Life) -> Duration {
    eventually("it parks", || life.state() == VcpuState::Parked);
    std::thread::sleep(Duration::from_millis(2));
    let start = Instant::now();
    stage.slot.kick.write(1).unwrap();
    assert!(wait_until_set(&stage.slot.notify, monotonic_ns() + PATIENCE.as_nanos() as u64));
    let taken = start.elapsed();
    stage.slot.notify.read().unwrap();
    taken
}

#[test]
#[ignore = "prints figures"]
fn costs_of_a_life() {
    let stage = Stage::new();
    let faults = (1..=50).map(|epoch| fault_latency(&stage, epoch)).collect();
    println!("entry into faulty code to failed()  {}", median_max_us(faults));
    let pauses = (51..=100).map(|epoch| pause_latency(&stage, epoch)).collect();
    println!("force_out() to out of the guest     {}", median_max_us(pauses));
    let life = start(&stage, echo(), 101, &Arc::default());
    let wakes = (0..100).map(|_| wake_latency(&stage, &life)).collect();
    println!("kick to the domain's NOTIFY         {}", median_max_us(wakes));
    drop(life);
    let mut lives = Vec::new();
    let start_and_drop = (102..130).map(|epoch| {
        stage.prepare(epoch, Role::Active);
        lives.clear();
        let begin = Instant::now();
        let image = Arc::new(domain_image(echo()));
        let events = Arc::new(Stamp::default());
        lives.push(Life::start(stage.slot.clone(), image, epoch, events).unwrap());
        begin.elapsed()
    });
    println!("Life::start()                       {}", median_max_us(start_and_drop.collect()));
}
