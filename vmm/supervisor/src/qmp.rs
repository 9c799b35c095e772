//! The one command of the QEMU Machine Protocol that is needed here: `set_link`.
//!
//! QEMU is a guest's VMM and not trusted: what it sends is bounded in size and time.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use platform::one_line::printable;
use platform::socket_file::connect_at_once;
use serde_json::{Value, json};

/// How long QEMU may take for all of it. It answers at once unless somebody else has the monitor.
const DEADLINE: Duration = Duration::from_secs(1);
/// Longest line that is read; a greeting has some 200 bytes.
const LINE_BYTES: u64 = 64 << 10;

/// Why a link could not be set.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// Nobody listens, or the monitor does not answer.
    #[error("the monitor does not answer: give warmspare a -qmp socket of its own")]
    Silent(#[source] io::Error),
    /// It speaks, but not QMP.
    #[error("this is no QMP monitor: name the path of a -qmp socket")]
    Foreign,
    /// It refuses.
    #[error("QEMU refuses ({0}): name the id of the guest's -netdev")]
    Refused(String),
}

/// A session with a monitor.
struct Session {
    reader: BufReader<UnixStream>,
    end: Instant,
}

/// Sets the link of a network backend, and so of the guest's NIC on it, up or down.
pub(super) fn set_link(socket: &Path, name: &str, up: bool) -> Result<(), QmpError> {
    let stream = connect_at_once(socket).map_err(QmpError::Silent)?;
    stream.set_nonblocking(false).map_err(QmpError::Silent)?;
    let mut session = Session { reader: BufReader::new(stream), end: Instant::now() + DEADLINE };
    if session.line()?.get("QMP").is_none() {
        return Err(QmpError::Foreign);
    }
    session.execute(&json!({ "execute": "qmp_capabilities" }))?;
    session.execute(&json!({ "execute": "set_link", "arguments": { "name": name, "up": up } }))
}

impl Session {
    /// Runs a command; events that come before its answer are passed over.
    fn execute(&mut self, command: &Value) -> Result<(), QmpError> {
        let stream = self.reader.get_mut();
        stream.set_write_timeout(Some(DEADLINE)).map_err(QmpError::Silent)?;
        stream.write_all(format!("{command}\n").as_bytes()).map_err(QmpError::Silent)?;
        loop {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                return Err(QmpError::Refused(printable(why)));
            }
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<Value, QmpError> {
        let mut bytes = Vec::new();
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            let late = || QmpError::Silent(ErrorKind::TimedOut.into());
            if left.is_zero() {
                return Err(late());
            }
            self.reader.get_ref().set_read_timeout(Some(left)).map_err(QmpError::Silent)?;
            let room = LINE_BYTES.saturating_sub(bytes.len() as u64);
            // One read at a time: a peer that sends byte by byte must not extend the deadline.
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(QmpError::Silent(error)),
            };
            let mut piece = Vec::new();
            let taken = chunk.take(room).read_until(b'\n', &mut piece);
            let taken = taken.map_err(QmpError::Silent)?;
            if taken == 0 {
                return Err(if room == 0 { QmpError::Foreign } else { late() });
            }
            self.reader.consume(taken);
            bytes.extend(piece);
            if bytes.last() == Some(&b'\n') {
                return serde_json::from_slice(&bytes).map_err(|_| QmpError::Foreign);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread::JoinHandle;

    /// A monitor that sends a text for each line that comes, and one before. Returns what came.
    fn monitor(name: &str, texts: [&'static str; 3]) -> (PathBuf, JoinHandle<String>) {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut heard = String::new();
            for text in texts {
                let _ = stream.write_all(text.as_bytes());
                if reader.read_line(&mut heard).unwrap_or(0) == 0 {
                    break;
                }
            }
            heard
        });
        (path, peer)
    }

    const HELLO: &str = "{\"QMP\": {}}\n";
    const DONE: &str = "{\"return\": {}}\n";

    #[test]
    fn a_link_is_set_and_events_are_passed_over() {
        let (path, peer) = monitor("qmp", [HELLO, DONE, "{\"event\": \"X\"}\n{\"return\": {}}\n"]);
        set_link(&path, "net0", false).unwrap();
        let heard = peer.join().unwrap();
        let last: Value = serde_json::from_str(heard.lines().last().unwrap()).unwrap();
        assert_eq!(last["arguments"], json!({ "name": "net0", "up": false }));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn refusals_nonsense_and_silence_are_errors() {
        let refusal = "{\"error\": {\"desc\": \"Device 'x'\\n not found\"}}\n";
        let (path, _peer) = monitor("qmp-refuses", [HELLO, DONE, refusal]);
        let error = set_link(&path, "x", true).unwrap_err();
        assert!(
            matches!(&error, QmpError::Refused(why) if why == "Device 'x'  not found"),
            "{error}"
        );
        let (path, _peer) = monitor("qmp-foreign", ["SSH-2.0\n", DONE, DONE]);
        assert!(matches!(set_link(&path, "x", true), Err(QmpError::Foreign)));
        let (path, _peer) = monitor("qmp-silent", ["", "", ""]);
        let start = Instant::now();
        assert!(matches!(set_link(&path, "x", true), Err(QmpError::Silent(_))));
        assert!(start.elapsed() >= DEADLINE);
        let nowhere = Path::new("/nonexistent/qmp.sock");
        assert!(matches!(set_link(nowhere, "x", true), Err(QmpError::Silent(_))));
    }
}
