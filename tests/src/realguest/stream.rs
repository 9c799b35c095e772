//! TCP between the host and the guest: bulk data of which every byte is checked, and an interactive
//! session of short lines, as a person would type them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use warmspare_linux_guest::{BLOCK_BYTES, ECHO_PORT, SINK_PORT, SOURCE_PORT, block};

use super::lan::Namespace;

/// How long a stream may stand still before it counts as dead: TCP's own patience with a few
/// retransmissions.
const STALL: Duration = Duration::from_secs(10);
/// Pause between two lines.
const TYPING: Duration = Duration::from_millis(20);

fn connect(namespace: &Namespace, guest: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((guest, port));
    let stream = namespace.run(|| TcpStream::connect_timeout(&address, STALL))?;
    let stream = stream.with_context(|| format!("no connection to port {port}"))?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

/// Sends this many blocks to the guest, which reports how many arrived intact. Returns the rate in
/// MB/s.
pub(crate) fn send(namespace: &Namespace, guest: Ipv4Addr, blocks: u64) -> Result<f64> {
    let mut stream = connect(namespace, guest, SINK_PORT)?;
    let start = Instant::now();
    let mut block = block();
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_le_bytes());
        stream.write_all(&block).context("the stream to the guest has died")?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut right = [0; 8];
    stream.read_exact(&mut right).context("the guest does not say what it received")?;
    let right = u64::from_le_bytes(right);
    ensure!(right == blocks, "only {right} of {blocks} blocks reached the guest whole");
    Ok(rate(blocks, start))
}

/// Receives this many blocks from the guest and checks them. Returns the rate in MB/s.
pub(crate) fn receive(namespace: &Namespace, guest: Ipv4Addr, blocks: u64) -> Result<f64> {
    let mut stream = connect(namespace, guest, SOURCE_PORT)?;
    let start = Instant::now();
    stream.write_all(&blocks.to_le_bytes())?;
    let mut expected = block();
    let mut received = vec![0; BLOCK_BYTES];
    for number in 0..blocks {
        stream.read_exact(&mut received).context("the stream from the guest has died")?;
        expected[..8].copy_from_slice(&number.to_le_bytes());
        ensure!(received == expected, "block {number} is damaged");
    }
    Ok(rate(blocks, start))
}

fn rate(blocks: u64, start: Instant) -> f64 {
    let bytes = blocks as f64 * BLOCK_BYTES as f64;
    (bytes / start.elapsed().as_secs_f64() / 1e5).round() / 10.0
}

/// An interactive session: sends a line, waits for its echo, and pauses for 20 ms.
pub(crate) struct Typing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Typed>>,
}

/// Result of an interactive session.
pub(crate) struct Typed {
    pub(crate) lines: u64,
    pub(crate) slowest: Duration,
}

impl Typing {
    pub(crate) fn start(namespace: &Namespace, guest: Ipv4Addr) -> Result<Self> {
        let stream = connect(namespace, guest, ECHO_PORT)?;
        stream.set_nodelay(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = stop.clone();
        let thread = std::thread::spawn(move || type_lines(stream, &theirs));
        Ok(Self { stop, thread })
    }

    pub(crate) fn finish(self) -> Result<Typed> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().ok().context("the session has panicked")?
    }
}

fn type_lines(mut stream: TcpStream, stop: &AtomicBool) -> Result<Typed> {
    let mut typed = Typed { lines: 0, slowest: Duration::ZERO };
    while !stop.load(Ordering::Acquire) {
        let line = format!("line number {:>12}\n", typed.lines);
        let start = Instant::now();
        stream.write_all(line.as_bytes())?;
        let mut echo = vec![0; line.len()];
        stream.read_exact(&mut echo).context("the interactive session has died")?;
        ensure!(echo == line.as_bytes(), "another line came back");
        typed.slowest = typed.slowest.max(start.elapsed());
        typed.lines += 1;
        std::thread::sleep(TYPING);
    }
    Ok(typed)
}
