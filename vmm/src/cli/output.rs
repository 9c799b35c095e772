//! How results are printed.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// The format of a result on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Whether the reader of standard output is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Listens,
    /// It has closed its end, so it has read enough, which is not a failure of the command.
    Gone,
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::run(&error))
}

/// Prints text as it is.
pub(super) fn print(text: &str) -> Result<Reader, Failure> {
    write(&mut io::stdout().lock(), text)
}

/// Prints a line.
pub(super) fn print_line(line: &str) -> Result<Reader, Failure> {
    print(&format!("{line}\n"))
}

fn write(out: &mut impl Write, text: &str) -> Result<Reader, Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Listens),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::Run(format!("standard output cannot be written: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_gone_is_no_failure_and_a_full_disk_is_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert_eq!(write(&mut writer, "text").unwrap(), Reader::Listens);
        drop(reader);
        assert_eq!(write(&mut writer, "text").unwrap(), Reader::Gone);
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let failure = write(&mut full, "text").unwrap_err();
        assert_eq!(failure.status(), 1);
        assert!(failure.message().contains("No space left"), "{}", failure.message());
    }
}
