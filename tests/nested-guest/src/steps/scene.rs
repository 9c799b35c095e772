//! Describes the state that [`warmspare_tests::scene`] shows, and both ends of the path: the
//! sender's interface and the guest.

use std::fs;

use lab::app::App;
use supervisor::System;
use warmspare_tests::scene;

use crate::link::interface_of;

/// Counters of the sender host's interface.
const STATISTICS: [&str; 6] =
    ["tx_packets", "tx_errors", "tx_dropped", "rx_packets", "rx_errors", "rx_dropped"];

/// Describes everything between the sender's interface and the guest, in two samples.
pub(super) fn describe(system: &System, app: &App) -> String {
    scene::twice(|| {
        format!("{}; guest {:?}; sender {}", scene::look(system), app.report(), interface())
    })
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
