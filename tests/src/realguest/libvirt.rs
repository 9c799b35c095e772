//! The step `libvirt`: the same guest, started by a real libvirt from a domain with an
//! `<interface type='vhostuser'>`, in both modes of its socket.
//!
//! libvirt's packages are unpacked below `target/nested` and not installed. Its `virt-qemu-run` is
//! libvirt's QEMU driver in a process of its own; it runs in namespaces in which the packages lie
//! over `/usr`, and which end with everything in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use supervisor::topology::SocketSpec;

use super::Parts;
use super::guest::{GUEST, LinuxGuest};
use super::service::InProcess;
use super::steps::{Bench, millis};
use crate::nested::apt::Apt;

/// The packages with the program and what it loads.
const PACKAGES: [&str; 2] = ["libvirt0", "libvirt-daemon-driver-qemu"];
/// Marks the folder it lies in as complete.
const STAMP: &str = "complete";
/// Users and groups that libvirt looks up.
const ACCOUNT: &str = "libvirt-qemu";
/// libvirt runs QEMU as root here, and confines it by nothing: its user is none of this machine's.
const CONFIG: &str = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n\
    remember_owner = 0\ndynamic_ownership = 0\nnamespaces = [ ]\ncgroup_controllers = [ ]\n\
    stdio_handler = \"file\"\n";
/// Puts the packages in `$1` over `/usr` and the account files in `$2` in place, then starts the
/// domain `$3`.
const START: &str = "mount -t overlay overlay -o lowerdir=\"$1/usr\":/usr /usr && \
    mount --bind \"$2/passwd\" /etc/passwd && mount --bind \"$2/group\" /etc/group && \
    exec virt-qemu-run --root \"$2/root\" \"$3\"";

impl Bench<'_> {
    /// Boots the guest by libvirt, once with QEMU as the socket's client and once as its server,
    /// and crashes the driver under it.
    pub(super) fn libvirt(&mut self) -> Result<Value> {
        let root = fetch(self.parts)?;
        self.guest = None;
        let socket = self.parts.topology.apps[0].socket.path.clone();
        let source = format!(
            "<source type='unix' path='{}' mode='client'>\
             <reconnect enabled='yes' timeout='1'/></source>",
            socket.display()
        );
        let client = self.serve_libvirt(&root, &source).context("as the socket's client")?;
        // From here on QEMU makes the socket.
        self.service = None;
        let socket = socket.with_extension("libvirt.sock");
        let _ = fs::remove_file(&socket);
        let mut topology = self.parts.topology.clone();
        topology.apps[0].socket = SocketSpec { path: socket.clone(), connects: true };
        self.service = Some(InProcess::start(self.lan.bridge(), &topology)?);
        let source = format!("<source type='unix' path='{}' mode='server'/>", socket.display());
        let server = self.serve_libvirt(&root, &source).context("as the socket's server")?;
        // As it was, for the next step.
        self.service = None;
        self.service = Some(InProcess::start(self.lan.bridge(), &self.parts.topology)?);
        let guest = self.parts.boot()?;
        guest.wait_ready()?;
        self.guest = Some(guest);
        self.ping()?.finish()?;
        Ok(json!({ "client": client, "server": server }))
    }

    fn serve_libvirt(&mut self, root: &Path, source: &str) -> Result<Value> {
        let start = Instant::now();
        let parts = self.parts;
        let console = parts.cache.join("libvirt-guest-console.log");
        let make = |folder: &Path| command(parts, root, folder, &console, source);
        let guest = LinuxGuest::boot_by(make, &console)?;
        guest.wait_ready()?;
        let boot = start.elapsed();
        // The host may cache the last guest's MAC address.
        self.lan.host().ip("neigh flush all")?;
        let ping = self.ping()?;
        let service = self.service()?;
        let failed = service.active()?;
        service.inject(lab::fault::Cause::Crash, 0)?;
        service.wait_failover_of(failed)?;
        ping.wait_answers(super::steps::PATIENCE)?;
        service.settle()?;
        let ledger = ping.finish()?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        drop(guest);
        Ok(json!({ "boot_ms": millis(boot), "echoes": ledger.total_echoed() }))
    }
}

/// Fetches and unpacks libvirt, or returns what an earlier run has kept.
fn fetch(parts: &Parts) -> Result<PathBuf> {
    let folder = parts.cache.join("libvirt");
    let root = folder.join("root");
    if folder.join(STAMP).is_file() {
        return Ok(root);
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&root)?;
    let apt = Apt::prepare(&parts.cache)?;
    let libraries =
        PACKAGES.iter().map(|name| apt.dependencies(name)).collect::<Result<Vec<_>>>()?;
    let missing = libraries.into_iter().flatten().filter(|name| {
        name.starts_with("lib") && !PACKAGES.contains(&name.as_str()) && !is_installed(name)
    });
    for name in PACKAGES.map(str::to_owned).into_iter().chain(missing) {
        let into = folder.join(&name);
        fs::create_dir_all(&into)?;
        let deb = apt.download(&name, &into)?;
        let status = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root).status()?;
        ensure!(status.success(), "dpkg-deb cannot unpack {}", deb.display());
        fs::remove_dir_all(&into)?;
    }
    if !root.join("usr/bin/virt-qemu-run").is_file() {
        bail!("Debian's packages have no virt-qemu-run here");
    }
    fs::write(folder.join(STAMP), "")?;
    Ok(root)
}

fn is_installed(package: &str) -> bool {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Status}", package]).output();
    output.is_ok_and(|out| out.stdout.ends_with(b" installed"))
}

/// The command that has libvirt start the domain.
fn command(
    parts: &Parts,
    root: &Path,
    folder: &Path,
    console: &Path,
    source: &str,
) -> Result<Command> {
    fs::create_dir_all(folder.join("root/etc"))?;
    fs::write(folder.join("root/etc/qemu.conf"), CONFIG)?;
    let passwd = fs::read_to_string("/etc/passwd")?;
    let user = format!("{ACCOUNT}:x:64055:64055::/nonexistent:/usr/sbin/nologin\n");
    fs::write(folder.join("passwd"), passwd + &user)?;
    let group = fs::read_to_string("/etc/group")?;
    fs::write(folder.join("group"), format!("{group}{ACCOUNT}:x:64055:\nlibvirt:x:64056:\n"))?;
    let domain = folder.join("domain.xml");
    fs::write(&domain, xml(parts, folder, console, source)?)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "sh", "-c", START, "sh"])
        .args([root, folder, &domain]);
    Ok(command)
}

/// The domain of README's QEMU command line, as libvirt wants it.
fn xml(parts: &Parts, folder: &Path, console: &Path, source: &str) -> Result<String> {
    let qemu = find(&parts.qemu)?;
    let (kernel, initramfs) = (parts.kernel.image.display(), parts.initramfs.display());
    let words = "console=ttyS0 reboot=k panic=-1 quiet tsc=reliable";
    Ok(format!(
        "<domain type='qemu'><name>warmspare</name><memory unit='MiB'>256</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>\
         <kernel>{kernel}</kernel><initrd>{initramfs}</initrd>\
         <cmdline>{words} warmspare.ip={GUEST} warmspare.nics=one</cmdline></os>\
         <features><acpi/></features><cpu mode='maximum'/>\
         <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\
         <devices><emulator>{}</emulator>\
         <interface type='vhostuser'><mac address='{}'/>{source}<model type='virtio'/></interface>\
         <serial type='file'><source path='{}'/><target port='0'/></serial>\
         <serial type='unix'><source mode='connect' path='{}'/><target port='1'/></serial>\
         <memballoon model='none'/></devices></domain>",
        qemu.display(),
        parts.mac(),
        console.display(),
        LinuxGuest::control_socket(folder).display(),
    ))
}

/// The whole path of a program: libvirt takes no other.
fn find(program: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).map(|folder| folder.join(program));
    let found = places.into_iter().find(|place| place.is_file());
    found.with_context(|| format!("{} is not on the PATH", program.display()))
}
