//! Every frame that was accepted from the guest reaches the wire, whatever happens to drivers.

use std::time::Duration;

use lab::fault::{self, Site};
use warmspare_tests::rig::Rig;

const CRASHES: usize = 45;

/// The application guest counts the datagrams it echoed, and the sender counts the echoes that came
/// back: the difference is the number of frames that were accepted and lost. In this test the guest
/// runs in this process, so that its own count can be read; it is still connected through the
/// socket.
#[test]
fn no_accepted_frame_is_lost_over_many_crashes() {
    let mut rig = Rig::start_with_guest_inside();
    for n in 0..CRASHES {
        let active = rig.active();
        let life = rig.system.failover().life(active).expect("a life");
        fault::corrupt_code(rig.slot(active), life.image(), Site::ALL[n % 3]).expect("a fault");
        rig.wait_failover();
        rig.wait_whole();
        rig.run_for(Duration::from_millis(5));
    }
    let ledger = rig.finish_traffic();
    let report = rig.guest_report();
    let counters = rig.system.switchboard().counters();
    assert_eq!(counters.tx_poisoned.get(), 0);
    assert_eq!(report.datagrams_dropped, 0);
    assert_eq!(ledger.total_corrupted(), 0);
    assert!(report.datagrams_echoed > 500, "{report:?}");
    assert_eq!(ledger.total_echoed(), report.datagrams_echoed, "accepted frames are lost");
}
