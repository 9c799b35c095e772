//! Bulk data over TCP whose every byte is known: blocks of 64 KiB, the first eight bytes of each
//! its number, the rest always the same noise.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Takes blocks until the other end says so, and answers how many were right.
const SINK_PORT: u16 = 9;
/// Sends as many blocks as it is asked for (a little-endian `u64`).
const SOURCE_PORT: u16 = 19;
/// Bytes of a block.
const BLOCK_BYTES: usize = 65_536;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Starts both.
pub(crate) fn spawn() -> io::Result<()> {
    serve(SINK_PORT, sink)?;
    serve(SOURCE_PORT, source)
}

fn serve(port: u16, with: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port))?;
    thread::Builder::new().name(format!("bulk-{port}")).spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Err(error) = with(stream) {
                    println!("bulk: port {port}: {error}");
                }
            });
        }
    })?;
    Ok(())
}

/// Block number 0; its first eight bytes are the number.
fn block() -> Vec<u8> {
    let mut state = SEED;
    let words = (0..BLOCK_BYTES / 8).map(|n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if n == 0 { 0 } else { state }
    });
    words.flat_map(u64::to_le_bytes).collect()
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut expected = block();
    let mut received = vec![0; BLOCK_BYTES];
    let mut right = 0_u64;
    while stream.read_exact(&mut received).is_ok() {
        expected[..8].copy_from_slice(&right.to_le_bytes());
        if received != expected {
            break;
        }
        right += 1;
    }
    stream.write_all(&right.to_le_bytes())
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted)?;
    let mut block = block();
    for number in 0..u64::from_le_bytes(wanted) {
        block[..8].copy_from_slice(&number.to_le_bytes());
        stream.write_all(&block)?;
    }
    Ok(())
}
