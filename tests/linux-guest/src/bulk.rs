//! Sends and receives bulk data over TCP, of which every byte is known in advance. It is sent in
//! blocks of 64 KiB: the first eight bytes of each block are its number, and the rest are always
//! the same pseudo-random bytes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use warmspare_linux_guest::{BLOCK_BYTES, SINK_PORT, SOURCE_PORT, block};

/// Starts both servers, the sink and the source.
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
