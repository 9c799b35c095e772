//! The nested machine: one QEMU process, which does not outlive this one.

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

/// QEMU connects to its sockets before it starts the machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
/// A process that has closed its sockets is about to end.
const EXIT_DEADLINE: Duration = Duration::from_secs(5);
const EXIT_LOOK: Duration = Duration::from_millis(10);
/// What the machine's kernel says when a processor that sleeps is not woken by its timer any more.
/// It is nobody's fault but QEMU's: the write that ends an interrupt, or sets the timer, has gone
/// elsewhere (see `eim` below), and the local APIC lets nothing through after that. The second text
/// says that the processor is idle: one that does not get on with its work has another reason.
const LOST_INTERRUPT: [&str; 3] =
    ["timer wakeup didn't happen for", "/0/0x0 softirq=", "Kernel panic - not syncing: RCU Stall"];
/// What a kernel says that ends of its own accord: it fails, or is told to.
const FAREWELLS: [&str; 4] = ["Kernel panic", "BUG:", "Oops", "reboot: "];
/// Parts of a processor's state that tell nothing.
const NUMBERS: [&str; 3] = ["FPR", "XMM", "FCW"];
/// Lines of its console that tell why it ended.
const LAST_WORDS: usize = 25;

/// What to boot, and with what.
pub(super) struct Order<'a> {
    pub(super) qemu: &'a Path,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Where its console goes.
    pub(super) console: &'a Path,
    /// Where QEMU's own messages go.
    pub(super) log: &'a Path,
    /// Steps to run; none means all.
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

    /// The next line of the machine.
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

    /// How QEMU ended, which has closed its sockets.
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

    /// What the machine itself died of, if it did: QEMU, its emulation of an idle processor, or a reset
    /// without a word of the kernel (a triple fault of a processor: its state is in QEMU's log), which
    /// no program in the machine can bring about. All else that ends a machine is the doing of what
    /// runs in it.
    pub(super) fn cause_of_death(&mut self) -> Option<String> {
        let status = self.qemu.try_wait().ok()??;
        if let Some(signal) = status.signal() {
            return Some(format!("QEMU was ended by signal {signal}"));
        }
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        if status.success() && !FAREWELLS.iter().any(|text| console.contains(text)) {
            return Some("its processors were reset without a word of the kernel".to_owned());
        }
        let died = LOST_INTERRUPT.iter().all(|text| console.contains(text));
        died.then(|| "one of its processors lost an interrupt and sleeps for ever".to_owned())
    }

    /// Answers it.
    pub(super) fn reply(&mut self, reply: &ToGuest) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(reply)?);
        self.results.write_all(line.as_bytes()).context("the machine does not listen")
    }

    /// Pulls or plugs a cable.
    pub(super) fn set_link(&mut self, nic: &str, up: bool) -> Result<()> {
        self.qmp.execute("set_link", &json!({ "name": nic, "up": up })).map(|_| ())
    }

    /// The end of its console and of QEMU's messages.
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

/// QEMU between its start and the time a [`Machine`] owns it.
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
    // `setpriv` has the kernel end QEMU with this process, however that ends.
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

/// A q35 with nested SVM, an IOMMU that remaps interrupts, two igb behind root ports of their own
/// (two on one bus collide: each reserves slots for virtual functions), and a third NIC, all on
/// one hub.
fn arguments(order: &Order<'_>, sockets: &SocketFolder) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: &str| list.extend(words.split(' ').map(str::to_owned));
    add("-nodefaults -no-user-config -display none -no-reboot -d cpu_reset -m 2048");
    add(&format!("-smp {}", PROCESSORS.end));
    add("-M q35,kernel-irqchip=split -accel tcg,thread=multi");
    add("-cpu qemu64,+svm,+npt,+x2apic,+pdpe1gb");
    // `eim` lets Linux reach its local APICs by MSRs. Their registers in memory have been missed: with
    // one processor changing the memory map, as each write to a PCI command register does, another's
    // write to its APIC's timer went to the IOMMU (QEMU 10.0.2), and it slept for ever.
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
    // A processor that sleeps for ever ends the machine, at the second complaint: a machine that only
    // stood still, for 40 s once, gets the first and goes on.
    // The first processor is kept free of programs and interrupts: see `PROCESSORS`.
    // Without IPv6 addresses: the sender's Linux would put neighbour discovery on the wire, which
    // every NIC with open filters receives.
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

/// A thread that ends with the stream.
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

/// A folder for sockets, whose paths must be short; gone when dropped.
struct SocketFolder(PathBuf);

impl SocketFolder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("warmspare-nested-{}", std::process::id()));
        // An earlier process of this number may have left one; one that is not ours stays.
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
