//! A failed domain leaves a folder that gdb can open; if the disk is full, only the dump is lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::fault::{Cause, Victim};
use supervisor::Event;
use supervisor::topology::DumpSpec;
use warmspare_tests::rig::Rig;

/// A folder for one test; removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file system of a given size, mounted while the value lives.
struct SmallDisk(Folder);

impl SmallDisk {
    fn new(kib: u32) -> Self {
        let folder = Folder::new("disk");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "warmspare-test"])
            .arg(&folder.0)
            .status()
            .expect("mount, from util-linux");
        assert!(mounted.success(), "this test mounts a small file system: run it as root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

fn break_active(rig: &Rig, cause: Cause, variant: usize) {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    let victim = Victim { slot: rig.slot(failed), life: &life, port: None };
    victim.inject(cause, variant).unwrap();
}

fn wait_dump(rig: &Rig) -> Result<PathBuf, String> {
    rig.wait_event(|event| match event {
        Event::Dumped { folder, .. } => Some(Ok(folder)),
        Event::DumpLost { reason, .. } => Some(Err(reason)),
        _ => None,
    })
}

/// Runs gdb with these commands and returns its output.
fn gdb(folder: &Path, commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.args(["domain.elf", "core"]).current_dir(folder);
    let output = gdb.output().expect("gdb is needed: apt-get install gdb");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}

fn failure(folder: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join("failure.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn gdb_shows_where_a_crashed_driver_stood_and_what_it_ran() {
    let dumps = Folder::new("crash");
    let rig = Rig::start_with(|topology| topology.dumps = Some(DumpSpec::in_dir(&dumps.0)));
    break_active(&rig, Cause::Crash, 1);

    let folder = wait_dump(&rig).unwrap();

    let text = gdb(&folder, &["bt", "x/1i $pc", "info registers rip", "info line *$pc"]);
    assert!(text.contains("#0") && text.contains("domain_tx_path"), "{text}");
    assert!(text.contains("domain_loop_turn") && text.contains("domain_main"), "{text}");
    assert!(text.contains("symbols.rs:"), "source lines: {text}");
    assert!(text.contains("SIGILL") && text.contains("ud2"), "what it really ran: {text}");
    assert!(!text.contains("warning"), "{text}");
    let failure = failure(&folder);
    assert_eq!((failure["cause"].as_str(), failure["domain"].as_str()), (Some("crash"), Some("a")));
    assert_eq!(failure["build_id"].as_str().map(str::len), Some(40));
    assert!(failure["location"].as_str().unwrap().starts_with("domain_tx_path"), "{failure}");
    let log = failure["log"].to_string();
    assert!(log.contains("attached by"), "{log}");
    assert!(failure["cursors"]["tx_post"]["published"].as_u64().unwrap() > 0);
}

#[test]
fn gdb_shows_where_a_hung_driver_hung() {
    let dumps = Folder::new("hang");
    let rig = Rig::start_with(|topology| topology.dumps = Some(DumpSpec::in_dir(&dumps.0)));
    break_active(&rig, Cause::Hang, 2);

    let folder = wait_dump(&rig).unwrap();

    assert!(folder.ends_with("000001-a-hang"), "{}", folder.display());
    let text = gdb(&folder, &["bt"]);
    assert!(text.contains("#0") && text.contains("domain_loop_turn"), "{text}");
}

#[test]
fn failures_are_kept_up_to_the_bound() {
    let dumps = Folder::new("bound");
    let spec = DumpSpec { keep: 2, ..DumpSpec::in_dir(&dumps.0) };
    let rig = Rig::start_with(|topology| topology.dumps = Some(spec));
    for _ in 0..4 {
        rig.wait_whole();
        break_active(&rig, Cause::Crash, 2);
        wait_dump(&rig).unwrap();
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&dumps.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["000003-a-crash", "000004-b-crash"]);
}

#[test]
fn a_full_disk_costs_the_dump_and_not_the_service() {
    let disk = SmallDisk::new(256);
    let dumps = disk.0.0.join("dumps");
    let mut rig = Rig::start_with(|topology| topology.dumps = Some(DumpSpec::in_dir(&dumps)));
    for _ in 0..3 {
        rig.wait_whole();
        rig.run_for(Duration::from_millis(30));
        break_active(&rig, Cause::Crash, 2);
        let reason = wait_dump(&rig).unwrap_err();
        assert!(reason.contains("No space left"), "{reason}");
        assert_eq!(std::fs::read_dir(&dumps).unwrap().count(), 0, "nothing half-done stays");
    }
    rig.wait_whole();
    rig.run_for(Duration::from_millis(150));
    let end_ns = platform::clock::monotonic_ns();
    let ledger = rig.finish_traffic();
    assert_eq!(ledger.lost_between(end_ns - 150_000_000, end_ns - 110_000_000), 0);
}

#[test]
fn the_program_of_a_domain_can_be_had() {
    let folder = Folder::new("image");
    for (option, image) in
        [("--driver", guest_images::DRIVER_DOMAIN), ("--spare", guest_images::SPARE_DOMAIN)]
    {
        let out = folder.0.join(option);
        let done = Command::new(warmspare_tests::program())
            .args(["image", option])
            .arg(&out)
            .status()
            .unwrap();
        assert!(done.success());
        let same = std::fs::read(out).unwrap() == image;
        assert!(same, "{option}: not the image of this build; is the program older than the test?");
    }
}
