//! Where frames could be, for whoever has to find out why none comes: two looks, so that what moves
//! and what stands still can be told apart.

use std::fs;
use std::time::Duration;

use warmspare::app::App;
use warmspare::nic::Nic;
use warmspare::nic::registers::{self as reg, queue};
use warmspare::supervisor::System;

use crate::link::interface_of;

/// Between the two looks: many datagrams, and every repetition of an announcement.
const APART: Duration = Duration::from_millis(500);

/// Registers that say whether frames can pass a NIC; none of them changes by being read.
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

/// Counters of the sender host's interface.
const STATISTICS: [&str; 6] =
    ["tx_packets", "tx_errors", "tx_dropped", "rx_packets", "rx_errors", "rx_dropped"];

/// Everything between the sender's interface and the guest, twice.
pub(super) fn describe(system: &System, app: &App) -> String {
    let first = look(system, app);
    std::thread::sleep(APART);
    format!("{first}; {} ms later: {}", APART.as_millis(), look(system, app))
}

fn look(system: &System, app: &App) -> String {
    let switchboard = system.switchboard();
    let counters: Vec<_> = switchboard.counters().each().filter(|(_, n)| *n > 0).collect();
    let domains = system.slots().iter().map(|slot| {
        let vcpu = system.failover().seated(slot.id).map(|(_, life)| (life.state(), life.exits()));
        let role = slot.control().role();
        let asleep = slot.control().switchboard_asleep.0.load(std::sync::atomic::Ordering::Relaxed);
        let (nic, status) = (nic(&*slot.nic), slot.status());
        format!("{}: {role:?} {vcpu:?} {nic} switchboard asleep {asleep} {status:?}", slot.name)
    });
    let domains: Vec<_> = domains.collect();
    let (takeover, running) = (switchboard.report(), switchboard.is_running());
    format!(
        "{takeover:?}; switchboard runs: {running} {counters:?}; {}; guest {:?}; sender {}",
        domains.join("; "),
        app.report(),
        interface()
    )
}

fn nic(nic: &dyn Nic) -> String {
    let registers = REGISTERS.iter().map(|(name, at)| format!("{name} {:x}", nic.peek(*at)));
    registers.collect::<Vec<_>>().join(" ")
}

fn interface() -> String {
    let Ok(name) = interface_of("virtio_net") else { return "has no interface".to_owned() };
    let count = |file: &str| {
        let path = format!("/sys/class/net/{name}/statistics/{file}");
        let text = fs::read_to_string(path).unwrap_or_default();
        format!("{file} {}", text.trim())
    };
    STATISTICS.map(count).join(" ")
}
