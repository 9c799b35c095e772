//! `warmspare run` as a process of its own, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use operate::control::client::Client;
use operate::control::{SwitchRequest, Switched};
use operate::observe::Snapshot;
use supervisor::topology::Topology;

use crate::program;
use crate::rig::PATIENCE;

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder with this word in its name.
    ///
    /// # Panics
    /// Panics if it cannot be made.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the demo's topology into it, changed, and returns the file's path. The guest's socket
    /// is `app.sock`.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    pub fn topology(&self, change: impl FnOnce(&mut serde_json::Value)) -> PathBuf {
        let topology = Topology::demo(&self.join("app.sock"));
        let mut value = serde_json::to_value(topology).unwrap();
        change(&mut value);
        let path = self.join("topology.json");
        std::fs::write(&path, value.to_string()).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The running process. It is killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    client: Client,
}

impl Running {
    /// Starts `warmspare run` on this topology with its control socket at `api.sock` in the folder,
    /// and waits until it is redundant.
    ///
    /// # Panics
    /// Panics if it does not become redundant.
    pub fn start(folder: &Folder, topology: &Path, options: &[&str], stderr: Stdio) -> Self {
        let socket = folder.join("api.sock");
        let mut command = Command::new(program());
        command.arg("run").arg(topology).arg("--api-socket").arg(&socket).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut running = Self { child: child.unwrap(), client: Client::new(&socket) };
        let end = Instant::now() + PATIENCE;
        while !running.state().is_some_and(|state| state.redundant) {
            assert!(Instant::now() < end, "not redundant in time");
            assert_eq!(running.child.try_wait().unwrap(), None, "it has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Its state, if it answers.
    pub fn state(&self) -> Option<Snapshot> {
        self.client.get("/api/v1/state").ok()
    }

    /// A client of its control socket.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Hands the service over so many times.
    ///
    /// # Panics
    /// Panics if a switch is refused.
    pub fn switch(&self, times: usize) {
        for _ in 0..times {
            let request = SwitchRequest::default();
            let _: Switched = self.client.post("/api/v1/switch", &request).unwrap();
        }
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, by name.
    ///
    /// # Panics
    /// Panics if it cannot be sent.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Sends SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// Panics if it does not end in time.
    pub fn end(mut self) -> ExitStatus {
        self.signal("TERM");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
