//! The connection to the host.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use warmspare_tests::nested::protocol::{FromGuest, PORT_NAME, ToGuest};

/// How long to wait for the port's node, which the kernel makes a moment after it has found the
/// device.
const PORT_DEADLINE: Duration = Duration::from_secs(10);

/// The virtio-serial port to the host.
pub(crate) struct Report {
    port: File,
}

impl Report {
    /// Waits for the port and opens it.
    pub(crate) fn open() -> Result<Self> {
        let end = Instant::now() + PORT_DEADLINE;
        loop {
            if let Some(name) = port_node() {
                let path = format!("/dev/{name}");
                let port = OpenOptions::new().read(true).write(true).open(path)?;
                return Ok(Self { port });
            }
            if Instant::now() > end {
                bail!("there is no port {PORT_NAME}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a message as one line.
    pub(crate) fn say(&self, message: &FromGuest) -> Result<()> {
        let line = format!("{}\n", serde_json::to_string(message)?);
        (&self.port).write_all(line.as_bytes()).context("the host cannot be written to")
    }

    /// Has the host pull or plug a NIC's cable, and waits until that is done.
    pub(crate) fn set_link(&self, nic: &str, up: bool) -> Result<()> {
        self.say(&FromGuest::SetLink { nic: nic.to_owned(), up })?;
        let mut line = String::new();
        BufReader::new(&self.port).read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            ToGuest::Done => Ok(()),
            ToGuest::Refused { why } => bail!("the host cannot switch the link of {nic}: {why}"),
        }
    }

    /// Gives the last line time to leave before the machine is switched off.
    pub(crate) fn drain(&self) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn port_node() -> Option<String> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let ours = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME)
    };
    ports.into_iter().find(ours)?.file_name().into_string().ok()
}
