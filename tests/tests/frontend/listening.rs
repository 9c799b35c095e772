//! VMMs that listen, and are connected to.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use warmspare_tests::frontend::{RawFrontend, TestGuest, wait};

use crate::Bench;

/// The VMM's socket, which goes with it.
struct Vmm {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Vmm {
    fn start(bench: &Bench) -> Self {
        let path = bench.rig.socket().to_owned();
        Self { listener: UnixListener::bind(&path).unwrap(), path }
    }

    fn accept(&self) -> RawFrontend {
        RawFrontend::over(self.listener.accept().unwrap().0)
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bench() -> Bench {
    Bench::with(|topology| topology.apps[0].socket.connects = true)
}

#[test]
fn a_vmm_that_listens_is_served_whenever_it_starts_and_however_often() {
    let mut bench = bench();
    let connected = |bench: &Bench| bench.rig.system.switchboard().front_ends()[0].connected;
    assert!(!bench.rig.socket().exists(), "the socket is not made by us");
    for _ in 0..3 {
        assert!(!connected(&bench));
        // Meanwhile the service is redundant.
        bench.rig.run_for(Duration::from_millis(50));
        let vmm = Vmm::start(&bench);
        let start = Instant::now();
        let mut guest = TestGuest::new();
        let raw = vmm.accept().negotiated().started(&guest);
        println!("connected after {:?}", start.elapsed());
        bench.exchange(&mut guest);
        assert!(connected(&bench));
        drop((raw, vmm));
        wait("the end to be seen", || !connected(&bench));
    }
}

#[test]
fn a_connection_that_ends_is_made_again_and_not_in_a_busy_loop() {
    let mut bench = bench();
    let vmm = Vmm::start(&bench);
    let start = Instant::now();
    let attempts = 20;
    (0..attempts).for_each(|_| drop(vmm.accept()));
    let least = Duration::from_millis(10) * (attempts - 2);
    assert!(start.elapsed() >= least, "{attempts} attempts in {:?}", start.elapsed());
    let mut guest = TestGuest::new();
    let _raw = vmm.accept().negotiated().started(&guest);
    bench.exchange(&mut guest);
}
