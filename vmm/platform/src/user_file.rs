//! Files that a user names. They are looked at before they are opened, opened without blocking, and
//! read up to a limit: a pipe without a writer or an endless device is a mistake like any other.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Most bytes of a topology: a hundred times one with all that it may have.
pub const TOPOLOGY_BYTES: u64 = 1 << 20;
/// Most bytes of a campaign file.
pub const CAMPAIGN_BYTES: u64 = 1 << 20;
/// Most bytes of a token file.
pub const TOKEN_BYTES: u64 = 4096;
/// Most bytes of a domain's program: it runs in 4 MiB, and its debug information is no larger than
/// this.
pub const IMAGE_BYTES: u64 = 64 << 20;

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// It is something else, or larger, or cannot be read; the message says which.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    // One more than is allowed: the size on record can be wrong, as it is in /proc.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(unfit(format!("it has more than the {most} bytes that it may have")));
    }
    Ok(bytes)
}

/// Reads a regular file of at most `most` bytes that holds text in UTF-8.
///
/// # Errors
/// As for [`read`], or it is not such text.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let bytes = read(path, most)?;
    if let Some(mistake) = encoding_mistake(&bytes) {
        return Err(unfit(mistake.into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        unfit(format!("it is not UTF-8 text: byte {} is not a part of any", place + 1))
    })
}

/// Opens a regular file with these options; with `create`, it need not be there.
///
/// # Errors
/// It is something else, or cannot be opened.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Looked at first, because opening a device can already do something.
    match path.metadata() {
        Ok(metadata) => check_kind(&metadata)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Another file can be there by now, and opening it must not wait.
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    check_kind(&file.metadata()?)?;
    Ok(file)
}

fn check_kind(metadata: &Metadata) -> io::Result<()> {
    match kind(metadata.file_type()) {
        None => Ok(()),
        Some(kind) => Err(unfit(format!("it is {kind}, not a regular file"))),
    }
}

/// What it is, unless it is a regular file.
fn kind(file_type: FileType) -> Option<&'static str> {
    let kinds = [
        (file_type.is_dir(), "a folder"),
        (file_type.is_fifo(), "a pipe"),
        (file_type.is_socket(), "a socket"),
        (file_type.is_char_device() || file_type.is_block_device(), "a device"),
        (!file_type.is_file(), "something else"),
    ];
    kinds.into_iter().find_map(|(is, name)| is.then_some(name))
}

fn unfit(why: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

/// What an editor has done to a text that no reader expects.
fn encoding_mistake(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => {
            Some("it begins with a byte-order mark: save it as UTF-8 without one")
        }
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Some("it is UTF-16: save it as UTF-8"),
        _ => None,
    }
}

/// Returns true if a comment begins where a reader of JSON has found something that it cannot read:
/// at this line and column, both counted from 1, or right before.
pub fn is_comment(text: &str, line: usize, column: usize) -> bool {
    let Some(line) = line.checked_sub(1).and_then(|before| text.lines().nth(before)) else {
        return false;
    };
    let places = [column.checked_sub(1), column.checked_sub(2)];
    let mut bytes = places.into_iter().flatten().filter_map(|place| line.as_bytes().get(place));
    bytes.any(|byte| matches!(byte, b'/' | b'#'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("warmspare-user-file-{name}-{}", std::process::id()))
    }

    fn refusal(path: &Path) -> String {
        let began = Instant::now();
        let error = read_text(path, 100).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{}", path.display());
        error.to_string()
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let fifo = path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(refusal(&fifo).contains("a pipe"));
        let socket = path("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(refusal(&socket).contains("a socket"));
        for device in ["/dev/zero", "/dev/null", "/dev/tty"] {
            assert!(refusal(Path::new(device)).contains("a device"), "{device}");
        }
        assert!(refusal(Path::new("/tmp")).contains("a folder"));
        assert!(refusal(Path::new("/no/such")).contains("No such file"));
        drop(listener);
        std::fs::remove_file(fifo).unwrap();
        std::fs::remove_file(socket).unwrap();
    }

    #[test]
    fn only_text_of_bounded_size_is_read() {
        let path = path("text");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path, 100).map_err(|error| error.to_string())
        };
        assert_eq!(read(&[b'x'; 100]).unwrap().len(), 100);
        assert!(read(&[b'x'; 101]).unwrap_err().contains("more than the 100 bytes"));
        assert!(read(b"\xef\xbb\xbf{}").unwrap_err().contains("byte-order mark"));
        assert!(read(b"\xff\xfe{\0}\0").unwrap_err().contains("UTF-16"));
        assert!(read(b"{\xff}").unwrap_err().contains("byte 2"));
        std::fs::remove_file(&path).unwrap();
        // Its size on record is 0.
        assert!(read_text(Path::new("/proc/self/status"), 100).is_err());
        assert!(read_text(Path::new("/proc/self/comm"), 100).is_ok());
    }

    #[test]
    fn a_comment_is_recognised_where_the_reader_stumbles() {
        assert!(is_comment("// x\n{}", 1, 1));
        assert!(is_comment("{}\n # x", 2, 2));
        assert!(!is_comment("{,}", 1, 2));
        assert!(!is_comment("", 0, 0));
    }
}
