//! A minimal client of the QEMU Machine Protocol (QMP).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long to wait for an answer. QEMU answers at once unless the whole machine stands still.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A QMP session.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Reads the greeting and leaves QMP's capabilities negotiation mode.
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        let mut qmp = Self { reader: BufReader::new(stream) };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            bail!("this is no QMP: {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its result. Events that arrive before the answer are ignored.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.reader.get_mut().write_all(line.as_bytes()).context("QMP is gone")?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("QMP {command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let bytes = self.reader.read_line(&mut line).context("QMP does not answer")?;
        if bytes == 0 {
            bail!("QMP is gone");
        }
        serde_json::from_str(&line).with_context(|| format!("QMP says `{}`", line.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_before_the_answer_are_passed_over() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = std::thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            let mut reader = BufReader::new(theirs);
            let mut line = String::new();
            writer.write_all(b"{\"QMP\": {}}\n").unwrap();
            reader.read_line(&mut line).unwrap();
            writer.write_all(b"{\"return\": {}}\n").unwrap();
            reader.read_line(&mut line).unwrap();
            writer.write_all(b"{\"event\": \"X\"}\n{\"return\": 7}\n").unwrap();
            line
        });
        let mut qmp = Qmp::new(ours).unwrap();
        let value = qmp.execute("set_link", &json!({"name": "nic0", "up": false})).unwrap();
        assert_eq!(value, 7);
        assert!(peer.join().unwrap().contains("set_link"));
    }
}
