//! Damage that a test does from outside to the worker process of a replay.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::campaign::InjectionRecord;
use shared_ring::{ControlPage, StatusPage, layout};
use warmspare_tests::rig::PATIENCE;

use super::super::{replay_command, replayed, wait_worker};

/// How long after redundancy the fault is armed, in microseconds: this leaves enough time to do the
/// damage first.
pub const MOMENT_US: u64 = 3_000_000;
/// Number of frames that the guest sends between the moment at which all drivers have taken buffers
/// and the damage. They take about half a second, after which the campaign has seen that the system
/// is whole.
const SENT: u32 = 500;
/// Limit on the worker's open files. It is below the number that the worker has open already, and
/// above the number that any of its threads waits for at once, because `poll` accepts no more
/// descriptors than this limit.
const FILES: u32 = 32;

/// Offset of a datagram's payload in its frame, and a little further: behind the Ethernet, IPv4 and
/// UDP headers.
const PAYLOAD: usize = 14 + 20 + 8 + 8;

/// The kind of damage.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// A bit of the application guest's memory flips.
    FlipInGuest,
    /// The active domain's role is changed to standby.
    ForgetRole,
    /// No more files can be opened.
    TakeDescriptors,
    /// The process is killed.
    Kill,
    /// The payloads of outgoing frames are overwritten until the process ends.
    ScribbleOnFrames,
}

/// Repeats an injection, and does this damage after the system is up and before the fault is armed.
pub fn replay_with(out: &std::path::Path, id: u64, damage: Damage) -> InjectionRecord {
    let mut command = replay_command(out, id);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let worker = Worker(wait_worker(&child));
    let domain = worker.serving();
    match damage {
        Damage::FlipInGuest => flip(&worker.guest(), app_guest::layout::CANARY_BASE + 40),
        Damage::ForgetRole => flip(&domain, role()),
        Damage::TakeDescriptors => worker.run("prlimit", &[&format!("--nofile={FILES}"), "--pid"]),
        Damage::Kill => worker.run("kill", &["-KILL"]),
        Damage::ScribbleOnFrames => worker.scribble(),
    }
    replayed(&child.wait_with_output().unwrap()).1
}

/// Address of a status field in a domain's memory.
macro_rules! status {
    ($field:ident) => {
        layout::STATUS_BASE + std::mem::offset_of!(StatusPage, $field) as u64
    };
}

struct Worker(u32);

impl Worker {
    /// Returns the memory of the serving domain, once all domains are up and it has sent enough
    /// frames.
    fn serving(&self) -> File {
        let end = Instant::now() + PATIENCE;
        let mut from = None;
        loop {
            assert!(Instant::now() < end, "the system does not come up");
            std::thread::sleep(Duration::from_millis(5));
            let domains = self.memory("warmspare-domain");
            if domains.iter().any(|domain| word(domain, status!(rx_provide_consumed)) == 0) {
                continue;
            }
            let active = shared_ring::Role::Active as u32;
            let serving = domains.into_iter().find(|domain| word(domain, role()) == active);
            let Some(domain) = serving else { continue };
            let sent = word(&domain, status!(tx_done_published));
            if sent.wrapping_sub(*from.get_or_insert(sent)) >= SENT {
                return domain;
            }
        }
    }

    fn guest(&self) -> File {
        self.memory("warmspare-app").pop().expect("the guest has memory")
    }

    /// The memory areas of this name.
    fn memory(&self, name: &str) -> Vec<File> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap();
        let is_named = |file: &PathBuf| {
            let target = std::fs::read_link(file).unwrap_or_default();
            target.to_string_lossy().starts_with(&format!("/memfd:{name} "))
        };
        let files = open.map(|file| file.unwrap().path()).filter(is_named);
        files.filter_map(|file| File::options().read(true).write(true).open(file).ok()).collect()
    }

    /// Writes into the payload of every transmit buffer, over and over, while the process lives.
    fn scribble(&self) {
        let pool = self.memory("warmspare-tx").pop().expect("there is a transmit pool");
        while PathBuf::from(format!("/proc/{}/fd/0", self.0)).exists() {
            for buffer in 0..layout::TX_BUFFERS {
                let payload = buffer * layout::BUFFER_BYTES + PAYLOAD;
                pool.write_all_at(&[0xa5; 4], payload as u64).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs a program with these arguments, followed by the worker's process ID.
    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(self.0.to_string()).status();
        assert!(status.unwrap_or_else(|error| panic!("{program}: {error}")).success());
    }
}

/// Address of the role in a domain's memory; the standby's number differs from the active one's by
/// one bit.
fn role() -> u64 {
    layout::CONTROL_BASE + std::mem::offset_of!(ControlPage, role) as u64
}

fn word(memory: &File, address: u64) -> u32 {
    let mut bytes = [0; 4];
    memory.read_exact_at(&mut bytes, address).unwrap();
    u32::from_ne_bytes(bytes)
}

fn flip(memory: &File, address: u64) {
    let mut byte = [0];
    memory.read_exact_at(&mut byte, address).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], address).unwrap();
}
