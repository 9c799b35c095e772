//! Where frames could be, for finding out why none arrives. The state is sampled twice, which shows
//! what moves and what stands still.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nic::Nic;
use nic::registers::{self as reg, queue};
use supervisor::System;

/// Time between the two samples: enough for many datagrams and every repetition of an announcement.
const APART: Duration = Duration::from_millis(500);

/// Registers that show if frames can pass a NIC; reading them changes none.
const REGISTERS: [(&str, u32); 15] = [
    ("CTRL", reg::CTRL),
    ("STATUS", reg::STATUS),
    ("RCTL", reg::RCTL),
    ("TCTL", reg::TCTL),
    ("IMS", reg::IMS),
    ("GPIE", reg::GPIE),
    ("EIMS", reg::EIMS),
    ("RXDCTL", reg::RXDCTL),
    ("TXDCTL", reg::TXDCTL),
    ("RDH", reg::RX_QUEUE + queue::HEAD),
    ("RDT", reg::RX_QUEUE + queue::TAIL),
    ("TDH", reg::TX_QUEUE + queue::HEAD),
    ("TDT", reg::TX_QUEUE + queue::TAIL),
    ("RAL0", reg::RAL0),
    ("RAH0", reg::RAH0),
];

/// Samples something twice, [`APART`] apart, and returns both samples as text.
pub fn twice(look: impl Fn() -> String) -> String {
    let first = look();
    std::thread::sleep(APART);
    format!("{first}; {} ms later: {}", APART.as_millis(), look())
}

/// Describes everything between the NICs and the guest's rings.
pub fn look(system: &System) -> String {
    let switchboard = system.switchboard();
    let counters: Vec<_> = switchboard.counters().each().filter(|(_, n)| *n > 0).collect();
    let domains = system.slots().iter().map(|slot| {
        let vcpu =
            system.failover().state_and_life(slot.id).map(|(_, life)| (life.state(), life.exits()));
        let role = slot.control().role();
        let asleep = slot.control().switchboard_asleep.0.load(Ordering::Relaxed);
        let (nic, status) = (nic(&*slot.nic), slot.status());
        format!("{}: {role:?} {vcpu:?} {nic} switchboard asleep {asleep} {status:?}", slot.name)
    });
    let domains: Vec<_> = domains.collect();
    let (takeover, running) = (switchboard.report(), switchboard.is_running());
    let (views, domains) = (system.failover().views(), domains.join("; "));
    format!("{views:?}; {takeover:?}; switchboard runs: {running} {counters:?}; {domains}")
}

fn nic(nic: &dyn Nic) -> String {
    let registers = REGISTERS.iter().map(|(name, at)| format!("{name} {:x}", nic.peek(*at)));
    registers.collect::<Vec<_>>().join(" ")
}
