//! The application guest of the demo: `warmspare app` as a process of its own.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use supervisor::topology::MacAddress;

/// Option of `warmspare app` (its parent-death watch): it ends when its standard input does, as it does
/// with the process that holds the other end.
pub const PARENT_WATCH_OPTION: &str = "end-with-parent";

/// A running application guest; killed when dropped. It does not outlive this process, however this
/// process ends: its standard input is a pipe from here.
pub struct AppProcess {
    child: Child,
}

impl AppProcess {
    /// Starts `program`, which is `warmspare`, as `app` on a socket.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(program: &Path, socket: &Path, mac: MacAddress, ip: &str) -> io::Result<Self> {
        let child = Command::new(program)
            .arg("app")
            .arg("--socket")
            .arg(socket)
            .args(["--mac", &mac.to_string(), "--ip", ip])
            .arg(format!("--{PARENT_WATCH_OPTION}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child })
    }

    /// The exit status of the guest, if it has ended.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for AppProcess {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
