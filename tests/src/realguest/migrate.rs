//! A step with two machines: the guest migrates to another QEMU, behind another warmspare, and
//! back.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::fault::Cause;
use lab::traffic::Ledger;
use platform::clock::monotonic_ns;
use serde_json::{Value, json};
use warmspare_linux_guest::groups::FrameSocket;

use super::lan::{HOST_INTERFACE, Lan, OTHER_TAPS, TAPS, Watch};
use super::ping::Ping;
use super::service::Program;
use super::steps::{Bench, PATIENCE, SETTLE, traffic_figures};
use super::{elsewhere, scratch};

/// EtherTypes of the guest's announcements: reverse ARP (RFC 903) if warmspare has not yet seen the
/// guest's address, ARP if it has.
const ANNOUNCED_BY: [u16; 2] = [0x8035, 0x0806];

/// One migration, and what QEMU reported about it.
struct Move {
    from_ns: u64,
    to_ns: u64,
    said: Value,
    announcements: [u64; 2],
    /// Ports behind which the bridge learned the guest in this time.
    learned: Vec<String>,
}

impl Move {
    fn report(&self, ledger: &Ledger) -> Value {
        let gap = ledger.longest_gap(self.from_ns, self.to_ns);
        let lost = ledger.lost_between(self.from_ns, self.to_ns);
        json!({
            "interruption_ms": gap.map(|gap| gap.length_ns() as f64 / 1e6),
            "lost": lost,
            "qemu_downtime_ms": self.said["downtime"],
            "qemu_total_ms": self.said["total-time"],
            "memory_passes": self.said["ram"]["dirty-sync-count"],
            "bridge_learned": self.learned,
            "announced": { "reverse_arp": self.announcements[0], "arp": self.announcements[1] },
        })
    }
}

/// A failover on the machine that the guest has left.
struct Behind {
    from_ns: u64,
    to_ns: u64,
    /// Ports behind which the bridge learned the guest in this time.
    learned: Vec<String>,
    /// Datagrams that reached the guest but were lost there, because a socket was full.
    full_sockets: u64,
}

impl Behind {
    fn report(&self, ledger: &Ledger) -> Value {
        let gap = ledger.longest_gap(self.from_ns, self.to_ns);
        json!({
            "lost": ledger.lost_between(self.from_ns, self.to_ns),
            "lost_to_full_sockets_of_the_guest": self.full_sockets,
            "longest_silence_ms": gap.map(|gap| gap.length_ns() as f64 / 1e6),
            "bridge_learned": self.learned,
        })
    }
}

impl Bench<'_> {
    /// The guest migrates while it is pinged: to a second QEMU on a second `warmspare run`, and
    /// back to a third QEMU on the first warmspare. The guest must run on without a restart, and
    /// the network must find it at once.
    pub(super) fn migrate(&mut self) -> Result<Value> {
        let (there, file) = elsewhere(&self.parts.topology, &scratch()?)?;
        let here = self.parts.topology.apps[0].socket.path.clone();
        let _program = Program::start(self.lan.bridge(), &file)?;
        let there = there.apps[0].socket.path.clone();
        wait_for(&there)?;
        let before = Identity::of(self)?;
        let ping = self.ping()?;
        std::thread::sleep(SETTLE);
        let away = self.move_guest(&ping, &there, OTHER_TAPS).context("on the way there")?;
        let between = Identity::of(self)?;
        ensure!(between.continues(&before), "the guest was {before:?} and is {between:?}");
        let behind = self.fail_behind()?;
        let back = self.move_guest(&ping, &here, TAPS).context("on the way back")?;
        let after = Identity::of(self)?;
        ensure!(after.continues(&between), "the guest was {between:?} and is {after:?}");
        let ledger = ping.finish()?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        Ok(json!({
            "there": away.report(&ledger),
            "while_the_first_machine_fails": behind.report(&ledger),
            "back": back.report(&ledger),
            "traffic": traffic_figures(&ledger),
        }))
    }

    /// A failover on the machine that the guest has left must not draw the guest's frames back
    /// there.
    fn fail_behind(&mut self) -> Result<Behind> {
        let full_before = self.guest()?.figure("udp_overflows")?;
        let watch = self.watch()?;
        let from_ns = monotonic_ns();
        let listener = Listener::open(self.lan)?;
        let service = self.service()?;
        let failed = service.active()?;
        service.inject(Cause::Crash, 0)?;
        service.wait_failover_of(failed)?;
        service.wait_redundant()?;
        let heard = listener.announcements(&self.parts.mac());
        ensure!(heard == [0, 0], "announced where it is not any more: {heard:?}");
        self.expect_at(OTHER_TAPS)?;
        let learned = watch.ports_of(&self.parts.mac())?;
        let is_left = |port: &String| TAPS.contains(&port.as_str());
        ensure!(!learned.iter().any(is_left), "the bridge had the guest at {learned:?}");
        let to_ns = monotonic_ns();
        let full_sockets = self.guest()?.figure("udp_overflows")? - full_before;
        Ok(Behind { from_ns, to_ns, learned, full_sockets })
    }

    /// Checks that the bridge has learned the guest behind one of these ports.
    fn expect_at(&self, taps: [&str; 2]) -> Result<()> {
        let port = self.lan.port_of(&self.parts.mac())?;
        let is_there = taps.iter().any(|tap| port.as_deref() == Some(*tap));
        ensure!(is_there, "the bridge has the guest at {port:?}, not at one of {taps:?}");
        Ok(())
    }

    /// Migrates the guest to a new QEMU on another back-end, whose NICs are on these TAPs.
    fn move_guest(&mut self, ping: &Ping, backend: &Path, taps: [&str; 2]) -> Result<Move> {
        let incoming = scratch()?.join("incoming.sock");
        let _ = std::fs::remove_file(&incoming);
        let arrived = self.parts.await_guest(backend, &incoming)?;
        wait_for(&incoming)?;
        let listener = Listener::open(self.lan)?;
        let watch = self.watch()?;
        let from_ns = monotonic_ns();
        let said = self.guest()?.move_to(&incoming)?;
        // The assignment drops the old guest, and with it the QEMU that it ran in.
        self.guest = Some(arrived);
        ping.wait_answers(PATIENCE)?;
        let to_ns = monotonic_ns();
        self.expect_at(taps)?;
        let announcements = listener.announcements(&self.parts.mac());
        ensure!(announcements != [0, 0], "the guest's new place was not announced");
        std::thread::sleep(SETTLE);
        let learned = watch.ports_of(&self.parts.mac())?;
        Ok(Move { from_ns, to_ns, said, announcements, learned })
    }

    fn watch(&self) -> Result<Watch> {
        self.lan.watch(scratch()?.join("bridge.log"))
    }
}

/// Receives, on the host, the announcements that stations send about themselves.
struct Listener([FrameSocket; 2]);

impl Listener {
    fn open(lan: &Lan) -> Result<Self> {
        let open = |ether_type| FrameSocket::open_for(HOST_INTERFACE, ether_type);
        let [reverse, arp] = lan.host().run(|| ANNOUNCED_BY.map(open))?;
        Ok(Self([reverse?, arp?]))
    }

    /// Counts a station's announcements, for each EtherType, until no frame comes for a second.
    fn announcements(&self, mac: &str) -> [u64; 2] {
        [0, 1].map(|n| {
            let mut frame = [0; 64];
            let mut count = 0;
            while self.0[n].receive(&mut frame).is_ok() {
                let source: Vec<_> = frame[6..12].iter().map(|b| format!("{b:02x}")).collect();
                // In an announcement, the sender's address is also the address that is asked for.
                let is_own = frame[0] == 0xff && frame[28..32] == frame[38..42];
                count += u64::from(is_own && source.join(":") == mac);
            }
            count
        })
    }
}

fn wait_for(socket: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !socket.exists() {
        ensure!(Instant::now() < end, "no socket at {}", socket.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(())
}

/// Distinguishes a guest that runs on from one that has been booted again.
#[derive(Debug)]
struct Identity {
    boot: String,
    mac: String,
    uptime: u64,
}

impl Identity {
    fn of(bench: &mut Bench<'_>) -> Result<Self> {
        let said = bench.guest()?.ask("identity")?;
        let word = |name: &str| {
            let mut words = said.split(' ').filter_map(|word| word.split_once('='));
            let found = words.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            found.with_context(|| format!("no {name} in `{said}`"))
        };
        Ok(Self { boot: word("boot")?, mac: word("mac")?, uptime: word("uptime")?.parse()? })
    }

    /// Returns true if this is the same guest as before, and it has not been booted again since.
    fn continues(&self, before: &Self) -> bool {
        (&self.boot, &self.mac) == (&before.boot, &before.mac) && self.uptime >= before.uptime
    }
}
