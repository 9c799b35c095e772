//! The echo service of RFC 862.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

use warmspare_linux_guest::ECHO_PORT as PORT;

/// Starts the UDP and the TCP server, both for IPv4 and IPv6.
pub(crate) fn spawn() -> io::Result<()> {
    let datagrams = UdpSocket::bind(("::", PORT))?;
    thread::Builder::new().name("udp-echo".into()).spawn(move || echo_datagrams(&datagrams))?;
    let streams = TcpListener::bind(("::", PORT))?;
    thread::Builder::new().name("tcp-echo".into()).spawn(move || {
        for stream in streams.incoming().flatten() {
            thread::spawn(move || echo_stream(stream));
        }
    })?;
    Ok(())
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut bytes = vec![0; 65_536];
    loop {
        // Errors report earlier datagrams that did not arrive. They are ignored, since the sender's
        // ledger shows the loss too.
        if let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..len]).is_err() {
            return;
        }
    }
}
