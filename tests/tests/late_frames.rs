//! What the failed NIC still does after a takeover cannot hurt: its late frames do not keep the
//! guest's address on the wrong port of a learning switch.

use warmspare::fault::{self, Site};
use warmspare::wire::Wire;
use warmspare_tests::rig::Rig;

const FAILOVERS: usize = 6;
/// Ethertype for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// A frame of the guest's to everybody, as the failed NIC may have had in its FIFO.
fn late_frame(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &ETHERTYPE].concat();
    frame.resize(60, 0);
    frame
}

#[test]
fn a_late_frame_of_the_failed_nic_does_not_keep_the_address_on_its_port() {
    let mut rig = Rig::start_with(|topology| {
        // The last ones are for a machine that stands still for seconds.
        topology.announce.again_ms = vec![1, 5, 20, 100, 500, 2_000, 8_000];
    });
    let mac = rig.topology.apps[0].mac.0;
    for n in 0..FAILOVERS {
        let active = rig.active();
        let nic = rig.slot(active).nic.name().to_owned();
        let life = rig.system.failover().life(active).expect("a life");
        fault::corrupt_code(rig.slot(active), life.image(), Site::ALL[n % 3]).expect("a fault");
        drop(life);
        assert_eq!(rig.wait_failover().record.from, active);
        // The guest only answers: what brings its address back is nothing but an announcement.
        rig.wires.port_of(&nic).expect("a switch port").send(&late_frame(mac));
        let served = rig.system.switchboard().counters().rx_frames.get();
        rig.wait("traffic", |rig| {
            rig.system.switchboard().counters().rx_frames.get() > served + 30
        });
        rig.wait_whole();
    }
    let ledger = rig.finish_traffic();
    assert_eq!(ledger.total_corrupted(), 0);
    assert!(ledger.total_echoed() > 30 * FAILOVERS as u64, "{}", ledger.total_echoed());
}
