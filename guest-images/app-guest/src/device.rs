//! The network device: `virtio-drivers` underneath, `smoltcp`'s [`Device`] on top, and between them
//! the buffers and the notifications.

use core::sync::atomic::{AtomicU64, Ordering};

use app_guest::echo::LONGEST_FRAME;
use app_guest::layout::{self, BUFFER_BYTES, QUEUE_ENTRIES};
use app_guest::vring::Notifications;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use virtio_drivers::Error;
use virtio_drivers::device::net::VirtIONetRaw;

use crate::runtime::{memory, status};
use crate::transport::{LEARNED, QUEUES, QueueMemory, QuietTransport, notify};

/// Queue numbers (virtio 1.3 §5.1.2).
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Bytes of the header before each frame (VERSION_1 is always negotiated, virtio 1.3 §5.1.6.1).
const HEADER_BYTES: usize = 12;

const _: () = assert!(HEADER_BYTES + LONGEST_FRAME <= BUFFER_BYTES);

type Driver = VirtIONetRaw<QueueMemory, QuietTransport, QUEUE_ENTRIES>;

/// Number of a buffer in a pool.
type Buffer = u8;
const _: () = assert!(QUEUE_ENTRIES == Buffer::MAX as usize + 1);

/// Whether a frame can be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TxState {
    /// There is a buffer.
    Room,
    /// All are with the device.
    Full,
}

/// Buffers of one queue, and which the device holds under which token.
struct Pool {
    base: *mut u8,
    by_token: [Buffer; QUEUE_ENTRIES],
}

impl Pool {
    fn new(base: u64) -> Self {
        let area = memory::take(base, (QUEUE_ENTRIES * BUFFER_BYTES) as u64);
        Self { base: area.as_mut_ptr(), by_token: [0; QUEUE_ENTRIES] }
    }

    /// The bytes of a buffer.
    ///
    /// # Safety
    /// The caller makes sure that no other slice of this buffer is in use, and that the device
    /// does not hold it, except to hand it to the device.
    unsafe fn bytes<'a>(&self, buffer: Buffer) -> &'a mut [u8] {
        // SAFETY: within the area that was taken for the guest's whole life, as a `Buffer` is
        // always less than `QUEUE_ENTRIES`; exclusive by the caller's promise.
        unsafe {
            let first = self.base.add(usize::from(buffer) * BUFFER_BYTES);
            core::slice::from_raw_parts_mut(first, BUFFER_BYTES)
        }
    }
}

/// A frame on its way from the receive queue to the stack.
#[derive(Clone, Copy)]
struct Received {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// The device.
pub(crate) struct NetDevice {
    driver: Driver,
    features: u64,
    notifications: [Notifications<'static>; QUEUES],
    rx: Pool,
    /// Buffer of the frame the stack looked at last, not yet back with the device.
    looked_at: Option<Buffer>,
    tx: Pool,
    tx_free: [Buffer; QUEUE_ENTRIES],
    tx_free_len: usize,
}

impl NetDevice {
    /// Sets the device up and gives it all receive buffers.
    pub(crate) fn attach() -> Result<Self, Error> {
        let transport = QuietTransport::new().map_err(|_| Error::NotReady)?;
        let driver = Driver::new(transport)?;
        let event_idx = LEARNED.event_idx();
        let notifications = |queue| {
            let words = LEARNED.words(queue).ok_or(Error::NotReady)?;
            Ok::<_, Error>(Notifications::new(words, event_idx))
        };
        let notifications = [notifications(RECEIVE)?, notifications(TRANSMIT)?];
        let mut device = Self {
            driver,
            features: LEARNED.features(),
            notifications,
            rx: Pool::new(layout::RX_BASE),
            looked_at: None,
            tx: Pool::new(layout::TX_BASE),
            tx_free: core::array::from_fn(|buffer| buffer as Buffer),
            tx_free_len: QUEUE_ENTRIES,
        };
        for buffer in 0..=Buffer::MAX {
            device.provide(buffer);
        }
        device.disarm();
        device.flush();
        Ok(device)
    }

    /// Negotiated features.
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// The MAC address that the device says.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.driver.mac_address()
    }

    /// Gives back the last buffer and rings for whatever the device has asked to be told of: once
    /// for all frames of a turn.
    pub(crate) fn flush(&mut self) {
        self.return_looked_at();
        for (queue, notifications) in self.notifications.iter_mut().enumerate() {
            if notifications.must_notify() {
                notify(queue as u32);
                add(&status().counters.notifies, 1);
            }
        }
    }

    /// Asks for a notification of the next frame, or, where no transmit buffer is left, of the
    /// next free one: frames that arrived must then wait until their answers can be sent. Says
    /// which; `None` if there is something to do already.
    pub(crate) fn arm(&mut self) -> Option<TxState> {
        let state = self.tx_state();
        let [receive, transmit] = &mut self.notifications;
        let already = match state {
            TxState::Room => receive.arm(),
            TxState::Full => transmit.arm(),
        };
        (!already).then_some(state)
    }

    /// No notifications while the guest looks by itself.
    pub(crate) fn disarm(&mut self) {
        for notifications in &mut self.notifications {
            notifications.disarm();
        }
    }

    /// Whether a frame can be sent.
    pub(crate) fn tx_state(&mut self) -> TxState {
        self.reclaim();
        if self.tx_free_len == 0 { TxState::Full } else { TxState::Room }
    }

    /// Takes sent buffers back.
    fn reclaim(&mut self) {
        let free = self.tx_free_len;
        while let Some(token) = self.driver.poll_transmit() {
            let buffer = self.tx.by_token[usize::from(token) % QUEUE_ENTRIES];
            // SAFETY: the buffer that went out under this token; nothing refers to it.
            let done = unsafe { self.driver.transmit_complete(token, self.tx.bytes(buffer)) };
            assert!(done.is_ok(), "the device used transmit token {token}, which it was not given");
            self.notifications[TRANSMIT].take();
            self.tx_free[self.tx_free_len] = buffer;
            self.tx_free_len += 1;
        }
        if self.tx_free_len > free {
            // The driver asked for a notification with each.
            self.notifications[TRANSMIT].disarm();
        }
    }

    /// Gives the device a receive buffer.
    fn provide(&mut self, buffer: Buffer) {
        // SAFETY: neither the stack nor the device holds the buffer.
        let token = unsafe { self.driver.receive_begin(self.rx.bytes(buffer)) };
        match token {
            Ok(token) => self.rx.by_token[usize::from(token)] = buffer,
            // There are as many descriptors as buffers.
            Err(error) => panic!("receive buffer {buffer} is not accepted: {error}"),
        }
    }

    fn return_looked_at(&mut self) {
        if let Some(buffer) = self.looked_at.take() {
            self.provide(buffer);
        }
    }

    /// The next frame; its buffer is given back at the next call or flush.
    fn next_frame(&mut self) -> Option<Received> {
        self.return_looked_at();
        let token = self.driver.poll_receive()?;
        let buffer = self.rx.by_token[usize::from(token) % QUEUE_ENTRIES];
        // SAFETY: the buffer that the device was given under this token; nothing refers to it.
        let result = unsafe { self.driver.receive_complete(token, self.rx.bytes(buffer)) };
        self.notifications[RECEIVE].take();
        self.notifications[RECEIVE].disarm();
        self.looked_at = Some(buffer);
        match result {
            Ok((header, frame)) => {
                add(&status().counters.frames_in, 1);
                let end = (header + frame).min(BUFFER_BYTES);
                Some(Received { buffer, start: header, end })
            }
            // Used with fewer bytes than the header has: an empty frame, which the stack ignores.
            Err(Error::IoError) => Some(Received { buffer, start: 0, end: 0 }),
            Err(error) => panic!("receive token {token}: {error}"),
        }
    }

    /// Sends what `fill` writes.
    fn transmit_frame<R>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        // A token exists only where there was a free buffer, and there is one token at a time.
        self.tx_free_len -= 1;
        let buffer = self.tx_free[self.tx_free_len];
        // SAFETY: the buffer was free; nothing refers to it, the device does not hold it.
        let bytes = unsafe { self.tx.bytes(buffer) };
        let bytes = &mut bytes[..HEADER_BYTES + len];
        bytes[..HEADER_BYTES].fill(0);
        let result = fill(&mut bytes[HEADER_BYTES..]);
        // SAFETY: nothing touches the buffer until `reclaim` has it back.
        match unsafe { self.driver.transmit_begin(bytes) } {
            Ok(token) => self.tx.by_token[usize::from(token)] = buffer,
            Err(error) => panic!("transmit buffer {buffer} is not accepted: {error}"),
        }
        add(&status().counters.frames_out, 1);
        result
    }
}

/// A received frame, lent to the stack.
pub(crate) struct Arrived<'a>(&'a [u8]);

/// Leave to send one frame.
pub(crate) struct Leaving<'a>(&'a mut NetDevice);

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        self.0.transmit_frame(len, fill)
    }
}

impl Device for NetDevice {
    type RxToken<'a> = Arrived<'a>;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived<'_>, Leaving<'_>)> {
        if self.tx_state() == TxState::Full {
            return None;
        }
        let Received { buffer, start, end } = self.next_frame()?;
        // SAFETY: the device gave the buffer back, and gets it again (`looked_at`) only when the
        // borrow of `self` by both tokens has ended.
        let frame: &[u8] = unsafe { self.rx.bytes(buffer) };
        Some((Arrived(&frame[start..end]), Leaving(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        (self.tx_state() == TxState::Room).then_some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = LONGEST_FRAME;
        // Checksums are all the stack's: no offload is negotiated.
        capabilities
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
