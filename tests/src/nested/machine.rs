//! The nested machine: one QEMU process, which ends when this process ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::protocol::{FromGuest, PORT_NAME, PROCESSORS, ToGuest};
use super::qmp::Qmp;

/// How long QEMU may take to connect to its sockets, which it does before it starts the machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
/// How long QEMU may take to end after it has closed its sockets.
const EXIT_DEADLINE: Duration = Duration::from_secs(5);
const EXIT_LOOK: Duration = Duration::from_millis(10);
/// What the machine's kernel prints when a sleeping processor is no longer woken by its timer. This
/// is QEMU's fault: the write that ends an interrupt, or sets the timer, has gone elsewhere (see
/// `eim` below), and the local APIC delivers nothing after that. The second text says that the
/// processor is idle: a busy processor that makes no progress has another cause.
const LOST_INTERRUPT: [&str; 3] =
    ["timer wakeup didn't happen for", "/0/0x0 softirq=", "Kernel panic - not syncing: RCU Stall"];
/// What the kernel prints when it ends the machine itself, because it fails or is told to.
const FAREWELLS: [&str; 4] = ["Kernel panic", "BUG:", "Oops", "reboot: "];
/// Prefixes of the lines of a processor's state that are left out of reports as uninteresting.
const NUMBERS: [&str; 3] = ["FPR", "XMM", "FCW"];
/// How many of the last lines of its console are reported when it has ended.
const LAST_WORDS: usize = 25;

/// What to boot, and where its output goes.
pub(super) struct Order<'a> {
    pub(super) qemu: &'a Path,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// File that receives the machine's console output.
    pub(super) console: &'a Path,
    /// File that receives QEMU's own messages.
    pub(super) log: &'a Path,
    /// Steps to run; an empty list means all.
    pub(super) steps: &'a [String],
}

/// A running machine. Dropping it ends it.
pub(super) struct Machine {
    qemu: Child,
    qmp: Qmp,
    results: UnixStream,
    lines: Receiver<String>,
    console: PathBuf,
    log: PathBuf,
    _sockets: SocketFolder,
}

impl Machine {
    /// Starts QEMU and connects to it.
    pub(super) fn boot(order: &Order<'_>) -> Result<Self> {
        let sockets = SocketFolder::new()?;
        let results = sockets.listen("results")?;
        let qmp = sockets.listen("qmp")?;
        let mut qemu = Guard(Some(spawn(order, &sockets)?));
        let results = accept(&results, &mut qemu, order.log)?;
        let qmp = Qmp::new(accept(&qmp, &mut qemu, order.log)?)?;
        let lines = read_lines(results.try_clone()?);
        let (console, log) = (order.console.to_owned(), order.log.to_owned());
        let qemu = qemu.0.take().context("QEMU is gone")?;
        Ok(Self { qemu, qmp, results, lines, console, log, _sockets: sockets })
    }

    /// Returns the next message of the machine.
    pub(super) fn next(&mut self, end: Instant) -> Result<FromGuest> {
        let left = end.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("it says `{line}`")),
            Err(RecvTimeoutError::Timeout) => bail!("the machine has no verdict in time"),
            Err(RecvTimeoutError::Disconnected) => match self.await_end()? {
                Some(status) => bail!("the machine ended without a verdict: QEMU: {status}"),
                None => bail!("the machine has closed its line, and QEMU runs on"),
            },
        }
    }

    /// Waits for QEMU, which has closed its sockets, to end. Returns `None` if it runs on.
    fn await_end(&mut self) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + EXIT_DEADLINE;
        loop {
            let status = self.qemu.try_wait()?;
            if status.is_some() || Instant::now() > end {
                return Ok(status);
            }
            std::thread::sleep(EXIT_LOOK);
        }
    }

    /// Returns the cause if the machine itself failed: QEMU was killed by a signal, its emulation
    /// of an idle processor lost an interrupt, or a processor was reset without any last message of
    /// the kernel (a triple fault; the processor's state is in QEMU's log), which no program in the
    /// machine can bring about. Every other end of a machine is caused by what runs in it.
    pub(super) fn cause_of_death(&mut self) -> Option<String> {
        let status = self.qemu.try_wait().ok()??;
        if let Some(signal) = status.signal() {
            return Some(format!("QEMU was ended by signal {signal}"));
        }
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        if status.success() && !FAREWELLS.iter().any(|text| console.contains(text)) {
            return Some("its processors were reset without any message of the kernel".to_owned());
        }
        let died = LOST_INTERRUPT.iter().all(|text| console.contains(text));
        died.then(|| "one of its processors lost an interrupt and sleeps for ever".to_owned())
    }

    /// Sends the machine a reply.
    pub(super) fn reply(&mut self, reply: &ToGuest) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(reply)?);
        self.results.write_all(line.as_bytes()).context("the machine does not listen")
    }

    /// Plugs a NIC's cable in, or pulls it.
    pub(super) fn set_link(&mut self, nic: &str, up: bool) -> Result<()> {
        self.qmp.execute("set_link", &json!({ "name": nic, "up": up })).map(|_| ())
    }

    /// The last lines of its console and of QEMU's messages.
    pub(super) fn last_words(&self) -> String {
        let of = |path: &Path| format!("{} ends\n{}", path.display(), last_lines(path));
        format!("the nested machine; {}; {}", of(&self.console), of(&self.log))
    }
}

fn last_lines(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
    let telling = |line: &&str| !NUMBERS.iter().any(|number| line.starts_with(number));
    let lines: Vec<_> = text.lines().filter(telling).collect();
    let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    last.iter().map(|line| format!("  | {line}\n")).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Kills QEMU when dropped, between its start and the time a [`Machine`] owns it.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(order: &Order<'_>, sockets: &SocketFolder) -> Result<Child> {
    // `setpriv` makes the kernel kill QEMU when this process ends, for whatever reason.
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(order.qemu)
        .args(arguments(order, sockets))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(order.log)?)
        .spawn()
        .context("QEMU cannot be started")
}

/// QEMU's arguments: a q35 with nested SVM, an IOMMU that remaps interrupts, two igb NICs and a
/// third NIC for the sender. All NICs are on one hub. Each igb is behind its own root port, because
/// two on one bus collide: each reserves slots for virtual functions.
fn arguments(order: &Order<'_>, sockets: &SocketFolder) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: &str| list.extend(words.split(' ').map(str::to_owned));
    add("-nodefaults -no-user-config -display none -no-reboot -d cpu_reset -m 2048");
    add(&format!("-smp {}", PROCESSORS.end));
    add("-M q35,kernel-irqchip=split -accel tcg,thread=multi");
    add("-cpu qemu64,+svm,+npt,+x2apic,+pdpe1gb");
    // With `eim`, Linux reaches its local APICs through MSRs. Writes to their memory-mapped
    // registers can go astray: while one processor changed the memory map, as each write to a PCI
    // command register does, another processor's write to its APIC timer went to the IOMMU (QEMU
    // 10.0.2), and that processor slept for ever.
    add("-device intel-iommu,intremap=on,eim=on,caching-mode=on");
    for (number, nic) in ["nic0", "nic1"].iter().enumerate() {
        add(&format!("-device pcie-root-port,id=rp{number},chassis={0},slot={0}", number + 1));
        add(&format!("-netdev hubport,id=hub-{nic},hubid=0"));
        add(&format!("-device igb,id={nic},netdev=hub-{nic},bus=rp{number},mac={}", mac(number)));
    }
    add("-netdev hubport,id=hub-sender,hubid=0");
    add(&format!("-device virtio-net-pci,id=sender,netdev=hub-sender,romfile=,mac={}", mac(9)));
    let (results, qmp) = (sockets.path("results"), sockets.path("qmp"));
    add("-device virtio-serial-pci");
    add(&format!("-chardev socket,id=results,path={}", results.display()));
    add(&format!("-device virtserialport,chardev=results,name={PORT_NAME}"));
    add(&format!("-chardev socket,id=qmp,path={}", qmp.display()));
    add("-mon chardev=qmp,mode=control");
    let steps = match order.steps {
        [] => String::new(),
        names => format!(" warmspare.steps={}", names.join(",")),
    };
    // If a processor sleeps for ever, the kernel panics at the second RCU stall warning. A machine
    // that only stood still for a while (40 s were seen once) prints the first warning and goes on.
    // The first processor is kept free of programs and interrupts: see `PROCESSORS`.
    // IPv6 is off, because the sender's Linux would otherwise send neighbour discovery, which every
    // NIC with open filters receives.
    let (first, last) = (PROCESSORS.start, PROCESSORS.end - 1);
    let command_line = format!(
        "console=ttyS0 reboot=k panic=-1 quiet loglevel=4 intel_iommu=on iommu=pt tsc=reliable \
         ipv6.disable_ipv6=1 isolcpus=domain,0 irqaffinity={first}-{last} rcupdate.rcu_cpu_stall_timeout=10 \
         softlockup_panic=1 sysctl.kernel.panic_on_rcu_stall=1 sysctl.kernel.max_rcu_stall_to_panic=2{steps}"
    );
    let pairs = [
        ("-serial", format!("file:{}", order.console.display())),
        ("-kernel", order.kernel.display().to_string()),
        ("-initrd", order.initramfs.display().to_string()),
        ("-append", command_line),
    ];
    list.extend(pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    list
}

fn mac(number: usize) -> String {
    format!("52:54:00:77:73:{:02x}", 0x10 + number)
}

fn accept(listener: &UnixListener, qemu: &mut Guard, log: &Path) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + CONNECT_DEADLINE;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            return Ok(stream);
        }
        let ended = match &mut qemu.0 {
            Some(child) => child.try_wait()?,
            None => None,
        };
        if let Some(status) = ended {
            bail!("QEMU ended at once, with {status}\n{}", last_lines(log));
        }
        if Instant::now() > end {
            bail!("QEMU does not connect to its sockets");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a thread that passes on the stream's lines, and ends when the stream ends.
fn read_lines(stream: UnixStream) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A folder for sockets, whose paths must be short. It is removed when dropped.
struct SocketFolder(PathBuf);

impl SocketFolder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("warmspare-nested-{}", std::process::id()));
        // An earlier process with the same ID may have left a folder. If it belongs to another
        // user, removing it fails, and so does the creation below.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).context("no folder for sockets")?;
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn listen(&self, name: &str) -> Result<UnixListener> {
        UnixListener::bind(self.path(name)).context("no socket to listen on")
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
