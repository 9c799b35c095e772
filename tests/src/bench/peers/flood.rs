//! A station behind the bridge that sends frames as fast as its processor allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Error, Result};
use warmspare::topology::MacAddress;
use warmspare_linux_guest::groups::FrameSocket;

use crate::realguest::lan::{HOST_INTERFACE, Namespace};

/// Its address.
pub(super) const STATION: &str = "02:77:73:00:00:21";
/// A protocol for experiments (IEEE 802, local experimental EtherType 1).
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// The flood; ends when dropped.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts to send frames of so many bytes to an address, from inside a namespace.
    pub(super) fn start(namespace: &Namespace, to: &str, bytes: usize) -> Result<Self> {
        let address = |text: &str| text.parse::<MacAddress>().map(|mac| mac.0).map_err(Error::msg);
        let mut frame = [&address(to)?[..], &address(STATION)?, &ETHER_TYPE].concat();
        frame.resize(bytes, 0x5a);
        let socket = namespace.run(|| FrameSocket::sender(HOST_INTERFACE))?;
        let socket = socket.context("no packet socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Full queues on the way: the next frame.
                let _ = socket.send(&frame);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
