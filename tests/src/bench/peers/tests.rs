//! Tests of the peers: one that does not work would flatter warmspare. They need root, but no QEMU.

use std::time::Duration;

use lab::traffic::{Addresses, AppProcess};
use supervisor::topology::Topology;

use super::*;
use crate::realguest::example;
use crate::realguest::guest::GUEST;
use crate::realguest::lan::TAPS;
use crate::realguest::ping::Ping;

const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that a back-end serves the built-in guest behind a real bridge, is killed, and serves
/// again.
fn serves_in_each_of_two_lives(place: &Place<'_>, topology: &Topology) {
    for _ in 0..2 {
        let _running = place.start_afresh().unwrap();
        let (socket, mac) = (&place.socket, topology.apps[0].mac);
        let net = Addresses::DEFAULT_GUEST_NET;
        let _app = AppProcess::spawn(&crate::program(), socket, mac, net).unwrap();
        let ping = Ping::start(place.lan.host(), GUEST, Duration::from_millis(1)).unwrap();
        ping.wait_answers(PATIENCE).unwrap();
        assert_eq!(ping.finish().unwrap().total_corrupted(), 0);
        let port = place.lan.port_of(&place.mac).unwrap();
        assert_eq!(port.as_deref(), Some(place.tap()));
    }
}

#[test]
fn the_plain_back_end_and_one_without_a_spare_serve_again_after_they_were_killed() {
    let folder = std::env::temp_dir().join(format!("ws-{}-peers", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (topology, file) = example("tap", &folder).unwrap();
    std::fs::write(&file, serde_json::to_string(&ours::alone(&topology)).unwrap()).unwrap();
    let lan = Lan::new().unwrap();
    for backend in [Backend::Plain, Backend::Warmspare(file)] {
        let (socket, mac) =
            (topology.apps[0].socket.path.clone(), topology.apps[0].mac.to_string());
        let place = Place { backend, lan: &lan, socket, mac };
        assert_eq!(place.tap(), TAPS[0]);
        serves_in_each_of_two_lives(&place, &topology);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
