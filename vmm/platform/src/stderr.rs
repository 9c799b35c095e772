//! Standard error, written by a thread of its own.
//!
//! Whoever writes a line hands it to a bounded queue and goes on. A reader that is gone or stuck, or
//! a log on a full disk, therefore costs lines and nothing else: they are counted, and the next line
//! that can be written again is preceded by one that says how many are missing.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::{realtime, signals};

/// Lines that may wait to be written: minutes of a system that fails all the time.
const QUEUE_LINES: usize = 1024;
/// Most bytes of one line. With the queue's length, this bounds what a stuck reader costs.
const LINE_BYTES: usize = 8 << 10;
/// Pause before another attempt where somebody has made the descriptor non-blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Pause while [`flush`] waits for room in the queue.
const FLUSH_PAUSE: Duration = Duration::from_millis(1);

/// The line that says how many are missing, with its end.
type LossLine = fn(u64) -> String;

/// What the writing thread receives.
enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written or lost.
    Flush(SyncSender<()>),
}

/// The sending end of a queue, and the count of lines that were lost.
struct LineQueue {
    sender: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

static STDERR: OnceLock<LineQueue> = OnceLock::new();

fn stderr() -> &'static LineQueue {
    STDERR.get_or_init(|| LineQueue::spawn(io::stderr(), text_loss_line))
}

/// Starts the thread `log`, with the shape of the line that tells a loss. Without this call the
/// first line starts it, with a loss told as text.
pub fn start(loss_line: LossLine) {
    STDERR.get_or_init(|| LineQueue::spawn(io::stderr(), loss_line));
}

/// A loss as a line of text.
pub fn text_loss_line(count: u64) -> String {
    format!("warmspare: {count} lines of this log were lost, because they could not be written\n")
}

/// Writes a line after `warmspare: `.
pub fn tell(what: Arguments<'_>) {
    stderr().put(format!("warmspare: {what}\n").into());
}

/// Writes text as it is, without adding the end of a line.
pub fn put(text: &str) {
    stderr().put(text.into());
}

/// Lines that were lost since the start.
pub fn lost() -> u64 {
    STDERR.get().map_or(0, |queue| queue.lost.load(Ordering::Relaxed))
}

/// Waits until everything that was handed over is written or lost, at most for `limit`.
pub fn flush(limit: Duration) {
    if let Some(queue) = STDERR.get() {
        queue.flush(limit);
    }
}

/// A writer whose every call hands over one whole text.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stderr().put(bytes.into());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LineQueue {
    /// Starts the thread that writes to `out`. Without one, every line is lost and counted.
    fn spawn(out: impl Write + Send + 'static, loss_line: LossLine) -> Self {
        let (sender, lines) = sync_channel(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { out, loss_line, lost: lost.clone(), told: 0, torn: false };
        // An error drops the receiver, and from then on every line counts as lost.
        let _ = realtime::spawn("log", None, move || {
            // Signals are for threads that wait for them.
            signals::block_all();
            writer.run(&lines);
        });
        Self { sender, lost }
    }

    fn put(&self, mut line: Vec<u8>) {
        if line.len() > LINE_BYTES {
            line.truncate(LINE_BYTES - 1);
            line.push(b'\n');
        }
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            match self.sender.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < end => message = back,
                Err(_) => return,
            }
            std::thread::sleep(FLUSH_PAUSE);
        }
        // Both a timeout and the end of the thread end the wait.
        let _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// What the thread writes with.
struct Writer<W> {
    out: W,
    loss_line: LossLine,
    lost: Arc<AtomicU64>,
    /// How many of the lost lines have been told.
    told: u64,
    /// Whether the output ends in the middle of a line.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Message>) {
        while let Ok(message) = lines.recv() {
            match message {
                Message::Line(line) => self.line(&line),
                Message::Flush(done) => drop(done.try_send(())),
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if !(self.mend() && self.tell_loss() && self.write(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends a line that was cut, so that the next one stands alone.
    fn mend(&mut self) -> bool {
        if self.torn && !self.write(b"\n") {
            return false;
        }
        self.torn = false;
        true
    }

    fn tell_loss(&mut self) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost == self.told {
            return true;
        }
        let told = self.write((self.loss_line)(lost - self.told).as_bytes());
        if told {
            self.told = lost;
        }
        told
    }

    /// Writes all of it, or returns false.
    fn write(&mut self, mut bytes: &[u8]) -> bool {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => break,
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(_) => break,
            }
        }
        self.torn |= !bytes.is_empty() && bytes.len() < whole;
        bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn loss_line(count: u64) -> String {
        format!("lost {count}\n")
    }

    /// A disk with so many bytes left.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn with_room(room: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), room))))
        }

        fn make_room(&self, room: usize) {
            self.0.lock().unwrap().1 = room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (written, room) = &mut *self.0.lock().unwrap();
            let count = bytes.len().min(*room);
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            *room -= count;
            written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_that_are_counted_and_tears_none_of_the_next() {
        let disk = Disk::with_room(9);
        let queue = LineQueue::spawn(disk.clone(), loss_line);
        for line in ["first\n", "second\n", "third\n"] {
            queue.put(line.into());
        }
        queue.flush(SOON);
        assert_eq!(queue.lost.load(Ordering::Relaxed), 2);
        assert_eq!(disk.text(), "first\nsec");

        disk.make_room(100);
        queue.put(b"fourth\n".into());
        queue.put(b"fifth\n".into());
        queue.flush(SOON);
        assert_eq!(disk.text(), "first\nsec\nlost 2\nfourth\nfifth\n");
    }

    #[test]
    fn a_reader_that_is_stuck_holds_nobody_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = LineQueue::spawn(writer, loss_line);
        let line = vec![b'x'; LINE_BYTES + 1];
        let began = Instant::now();
        (0..QUEUE_LINES + 100).for_each(|_| queue.put(line.clone()));
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let lost = queue.lost.load(Ordering::Relaxed);
        assert!(lost > 0);

        let drain = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        queue.flush(SOON);
        queue.put(b"again\n".into());
        queue.flush(SOON);
        drop(queue);
        let text = drain.join().unwrap().unwrap();
        assert!(text.lines().all(|line| line.len() < LINE_BYTES), "a line was not cut");
        assert!(text.contains(&loss_line(lost)) && text.ends_with("again\n"));
    }

    #[test]
    fn a_reader_that_is_gone_costs_the_lines_only() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let queue = LineQueue::spawn(writer, loss_line);
        queue.put(b"to nobody\n".into());
        queue.flush(SOON);
        assert_eq!(queue.lost.load(Ordering::Relaxed), 1);
    }
}
