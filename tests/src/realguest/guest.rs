//! The Linux guest: one QEMU process, which ends when this process ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::network::Network;
use crate::nested::qmp::Qmp;

/// Address of the guest.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// How long the guest may take from power-on to `ready`: 4 to 7 s are usual, ten times that on a
/// busy machine.
const BOOT_DEADLINE: Duration = Duration::from_secs(90);
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long a migration may take; a second or two is usual.
const MOVE_DEADLINE: Duration = Duration::from_secs(30);
/// How long QEMU may stop the guest to transfer the rest of its memory.
const DOWNTIME_MS: u64 = 100;
/// How many of the console's last lines an error message quotes.
const LAST_WORDS: usize = 20;
/// Names of the sockets in the guest's folder.
const CONTROL: &str = "control";
const QMP: &str = "qmp";

/// What to boot.
pub(crate) struct Order<'a> {
    /// QEMU's program.
    pub qemu: &'a Path,
    /// Kernel image.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// Its NICs, and what is behind them.
    pub network: &'a Network,
    /// File that receives its console output.
    pub console: &'a Path,
    /// If set, it does not boot, but waits for a running guest to migrate in at this socket.
    pub incoming: Option<&'a Path>,
}

/// A running guest. Dropping it ends it.
pub(crate) struct LinuxGuest {
    qemu: Child,
    control: UnixStream,
    lines: Receiver<String>,
    console: PathBuf,
    folder: PathBuf,
}

impl LinuxGuest {
    /// Starts QEMU. [`Self::wait_ready`] then waits until the guest has booted.
    ///
    /// # Errors
    /// QEMU does not start.
    pub(crate) fn boot(order: &Order<'_>) -> Result<Self> {
        // `setpriv` makes the kernel kill QEMU when this process ends, for whatever reason.
        let make = |folder: &Path| {
            let mut qemu = Command::new("setpriv");
            qemu.args(["--pdeathsig", "KILL", "--"])
                .args(order.network.entrance())
                .arg(order.qemu)
                .args(arguments(order, folder));
            Ok(qemu)
        };
        Self::boot_by(make, order.console)
    }

    /// Starts a guest by the command that is made for a folder of its own. It must end QEMU when it
    /// is killed.
    ///
    /// # Errors
    /// QEMU does not start.
    pub(crate) fn boot_by(
        make: impl FnOnce(&Path) -> Result<Command>,
        console: &Path,
    ) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("warmspare-guest-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).context("no folder for the guest's control socket")?;
        let listener = UnixListener::bind(Self::control_socket(&folder))?;
        let mut qemu = make(&folder)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(console.with_extension("qemu.log"))?)
            .spawn()
            .context("QEMU cannot be started")?;
        let control = match accept(&listener, &mut qemu) {
            Ok(control) => control,
            Err(error) => {
                let _ = qemu.kill();
                let _ = qemu.wait();
                let log = fs::read_to_string(console.with_extension("qemu.log"));
                return Err(error.context(log.unwrap_or_default()));
            }
        };
        let lines = read_lines(control.try_clone()?);
        Ok(Self { qemu, control, lines, console: console.to_owned(), folder })
    }

    /// The socket in a guest's folder at which its control port finds this process.
    pub(super) fn control_socket(folder: &Path) -> PathBuf {
        folder.join(CONTROL)
    }

    /// Waits until the guest's init reports that it is ready. Returns the kernel's release.
    ///
    /// # Errors
    /// The guest is not ready in time, or says something else.
    pub(crate) fn wait_ready(&self) -> Result<String> {
        let line = self.line(BOOT_DEADLINE)?;
        match line.strip_prefix("ready ") {
            Some(release) => Ok(release.to_owned()),
            None => bail!("the guest says `{line}`"),
        }
    }

    /// Sends the guest a request and waits for its answer.
    ///
    /// # Errors
    /// The request fails, or the guest does not answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String> {
        self.tell(request)?;
        let line = self.line(ANSWER_DEADLINE)?;
        match line.strip_prefix("ok") {
            Some(answer) => Ok(answer.trim().to_owned()),
            None => bail!("the guest, asked to `{request}`: {line}"),
        }
    }

    /// Sends the guest a request that has no answer.
    ///
    /// # Errors
    /// The guest is gone.
    pub(crate) fn tell(&mut self, request: &str) -> Result<()> {
        writeln!(self.control, "{request}").context("the guest is gone")
    }

    /// Returns one number of the guest's `status`.
    ///
    /// # Errors
    /// The guest does not answer, or its status has no number of that name.
    pub(crate) fn figure(&mut self, name: &str) -> Result<u64> {
        let status = self.ask("status")?;
        let mut words = status.split_whitespace().filter_map(|word| word.split_once('='));
        let value = words.find(|(key, _)| *key == name).map(|(_, value)| value.parse());
        value.with_context(|| format!("no {name} in `{status}`"))?.context("no number")
    }

    /// Plugs the cable of one of its NICs in, or pulls it.
    ///
    /// # Errors
    /// QEMU refuses the command.
    pub(crate) fn set_link(&self, nic: &str, up: bool) -> Result<()> {
        self.qmp()?.execute("set_link", &json!({ "name": nic, "up": up })).map(drop)
    }

    fn qmp(&self) -> Result<Qmp> {
        let stream = UnixStream::connect(self.folder.join(QMP)).context("QEMU has no QMP")?;
        Qmp::new(stream)
    }

    /// Migrates the running guest to the QEMU that waits at a socket. Returns QEMU's statistics.
    /// The guest no longer runs in this QEMU afterwards.
    ///
    /// # Errors
    /// QEMU refuses, gives up, or takes too long.
    pub(crate) fn move_to(&self, socket: &Path) -> Result<Value> {
        let mut qmp = self.qmp()?;
        let parameters = json!({ "max-bandwidth": 1_u64 << 30, "downtime-limit": DOWNTIME_MS });
        qmp.execute("migrate-set-parameters", &parameters)?;
        qmp.execute("migrate", &json!({ "uri": format!("unix:{}", socket.display()) }))?;
        let end = Instant::now() + MOVE_DEADLINE;
        loop {
            let said = qmp.execute("query-migrate", &json!({}))?;
            match said["status"].as_str() {
                Some("completed") => return Ok(said),
                Some("failed" | "cancelled") => bail!("QEMU did not move its guest: {said}"),
                _ => ensure!(Instant::now() < end, "QEMU is still moving its guest: {said}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives the guest's threads priority over everything of normal priority, or takes it away
    /// again. With priority, other load on the machine does not distort what is measured through
    /// the guest.
    pub(crate) fn put_first(&self, first: bool) -> Result<()> {
        let pid = self.qemu.id().to_string();
        let policy: &[&str] = if first { &["-f", "-p", "1"] } else { &["-o", "-p", "0"] };
        let status = Command::new("chrt").arg("-a").args(policy).arg(pid).status();
        ensure!(status.context("chrt is missing")?.success(), "chrt is not permitted");
        Ok(())
    }

    fn line(&self, patience: Duration) -> Result<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest does not answer; its console ends\n{}", self.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest is gone; its console ends\n{}", self.last_words())
            }
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        last.iter().map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for LinuxGuest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The arguments in README's QEMU command line, with console, control port and QMP added.
fn arguments(order: &Order<'_>, folder: &Path) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    let mut add = |words: String| list.extend(words.split(' ').map(str::to_owned));
    add("-M q35 -accel tcg,thread=multi -cpu max -smp 1 -m 256M -nodefaults -display none".into());
    add("-object memory-backend-memfd,id=m,size=256M,share=on -machine memory-backend=m".into());
    add(order.network.arguments());
    add(format!("-serial file:{}", order.console.display()));
    let control = LinuxGuest::control_socket(folder);
    add(format!("-chardev socket,id=ctl,path={} -serial chardev:ctl", control.display()));
    add(format!("-qmp unix:{},server=on,wait=off", folder.join(QMP).display()));
    add(format!("-kernel {} -initrd {}", order.kernel.display(), order.initramfs.display()));
    if let Some(socket) = order.incoming {
        list.extend(["-incoming".into(), format!("unix:{}", socket.display())]);
    }
    list.push("-append".into());
    let words = "console=ttyS0 reboot=k panic=-1 quiet tsc=reliable";
    let nics = order.network.boot_word();
    list.push(format!("{words} warmspare.ip={GUEST} warmspare.nics={nics}"));
    list
}

fn accept(listener: &UnixListener, qemu: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + ANSWER_DEADLINE;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            return Ok(stream);
        }
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU ended at once, with {status}");
        }
        if Instant::now() > end {
            bail!("QEMU does not connect to its control socket");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a thread that passes on the stream's lines, and ends when the stream ends.
fn read_lines(stream: UnixStream) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let line = line.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
            if !line.is_empty() && sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
