//! Test of a process that may not write large files. It is alone in its file, because the limit
//! applies to the whole process.

use std::process::Command;
use std::time::Duration;

use lab::fault::{Cause, Victim};
use supervisor::Event;
use supervisor::topology::DumpSpec;
use warmspare_tests::rig::Rig;

#[test]
fn a_limit_of_file_sizes_costs_the_dump_and_not_the_service() {
    let dumps = std::env::temp_dir().join(format!("warmspare-fsize-{}", std::process::id()));
    let mut rig = Rig::start_with(|topology| topology.dumps = Some(DumpSpec::in_dir(&dumps)));
    // The limit is set only after the start, because the domains' own memory is in files too. It is
    // below the size of a core file and above that of the tests' output.
    let limited = Command::new("prlimit")
        .args(["--fsize=2097152", "--pid", &std::process::id().to_string()])
        .status()
        .expect("prlimit, from util-linux");
    assert!(limited.success());
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    let victim = Victim { slot: rig.slot(failed), life: &life, port: None };
    victim.inject(Cause::Crash, 2).unwrap();

    let reason = rig.wait_event(|event| match event {
        Event::DumpLost { reason, .. } => Some(reason),
        Event::Dumped { folder, .. } => panic!("{} was written", folder.display()),
        _ => None,
    });

    assert!(reason.contains("File too large"), "{reason}");
    assert_eq!(std::fs::read_dir(&dumps).unwrap().count(), 0, "nothing half-done stays");
    drop(life);
    rig.wait_whole();
    rig.run_for(Duration::from_millis(150));
    let end_ns = platform::clock::monotonic_ns();
    let ledger = rig.finish_traffic();
    assert_eq!(ledger.lost_between(end_ns - 150_000_000, end_ns - 110_000_000), 0);
    std::fs::remove_dir_all(&dumps).unwrap();
}
