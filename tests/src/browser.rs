//! A headless Chromium, driven through chromedriver by the WebDriver protocol (JSON over HTTP). The
//! few calls here are all that the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::PATIENCE;

/// A browser with one window; closed when dropped.
pub struct Browser {
    driver: Child,
    /// Kept open, so that chromedriver can always write its output.
    _output: BufReader<ChildStdout>,
    port: u16,
    session: String,
}

/// A window's size in pixels, and the colour scheme that the user prefers.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width of the window.
    pub width: u32,
    /// Height of the window.
    pub height: u32,
    /// True if the user prefers light letters on a dark background.
    pub dark: bool,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    /// Panics if there is no browser: `cargo xtask test` installs one where it is allowed to.
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: apt-get install chromium chromium-driver");
        let mut output = BufReader::new(driver.stdout.take().expect("chromedriver's output"));
        let port = announced_port(&mut output);
        let mut browser = Self { driver, _output: output, port, session: String::new() };
        let options = json!({ "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
        ] });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let capabilities = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = browser.call("POST", "/session", &capabilities);
        let session = answer["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{session}");
        browser
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs a program in the page, given as the body of a function, and returns the function's
    /// result.
    pub fn run(&self, program: &str) -> Value {
        self.command("execute/sync", &json!({ "script": program, "args": [] }))
    }

    /// Waits until a program returns `true`, and returns how long that took.
    ///
    /// # Panics
    /// Panics if it does not within [`PATIENCE`].
    pub fn wait(&self, what: &str, program: &str) -> Duration {
        let start = Instant::now();
        while self.run(program) != Value::Bool(true) {
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    /// Sets the window's size and colour scheme.
    pub fn look(&self, look: Look) {
        let Look { width, height, dark } = look;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media);
    }

    /// Returns the errors in the page's console.
    pub fn errors(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().cloned().unwrap_or_default();
        let severe = lines.iter().filter(|line| line["level"] == "SEVERE");
        severe.map(|line| line["message"].to_string()).collect()
    }

    /// Returns a picture of the window, PNG in base64.
    pub fn screenshot(&self) -> String {
        let path = format!("{}/screenshot", self.session);
        self.call("GET", &path, &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}/{command}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("a request to chromedriver");
        let answer = read_body(stream);
        let value: Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert!(value["value"]["error"].is_null(), "{method} {path}: {value}");
        value["value"].clone()
    }
}

impl Drop for Browser {
    /// Kills chromedriver and everything that it has started. This also works after a panic, when
    /// chromedriver can no longer be asked to close the browser. The browser is a grandchild, in a
    /// process group of its own.
    fn drop(&mut self) {
        let all = descendants(self.driver.id());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        for process in all {
            // SAFETY: a plain system call. Orphans keep their process number until init has waited
            // for them, and these were descendants of this process a moment ago.
            unsafe { libc::kill(process as i32, libc::SIGKILL) };
        }
    }
}

/// Returns all descendants of a process.
fn descendants(of: u32) -> Vec<u32> {
    let parent = |process: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name may contain any character, so the fields are read after its last parenthesis.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pairs: Vec<(u32, u32)> = numbers.filter_map(|n| Some((n, parent(n)?))).collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        found.extend(pairs.iter().filter(|pair| pair.1 == process).map(|pair| pair.0));
        next += 1;
    }
    found.split_off(1)
}

/// Reads the port that chromedriver chose, from its output.
fn announced_port(output: &mut impl BufRead) -> u16 {
    let mut lines = output.lines().map_while(Result::ok);
    let announced = lines.find_map(|line| {
        let port = line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse();
        port.ok()
    });
    announced.expect("chromedriver says its port")
}

fn read_body(stream: TcpStream) -> String {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("chromedriver's answer");
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("chromedriver's whole answer");
    String::from_utf8(body).expect("UTF-8")
}
