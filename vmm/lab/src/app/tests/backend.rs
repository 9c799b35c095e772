//! A vhost-user network back-end for tests: frames go in and out by channel.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VhostUserDaemon};
use vhost_user_backend::{VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::app::mmio::{EVENT_IDX, MAC, STATUS, VERSION_1};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Bytes of the virtio-net header.
const HEADER: usize = 12;
/// Nothing in these tests takes longer, on a machine that is not broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the back-end offers.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    pub(super) features: u64,
    pub(super) mac: Option<[u8; 6]>,
}

impl Offer {
    /// All that the product's own back-end offers.
    pub(super) fn full(mac: [u8; 6]) -> Self {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        Self { features: VERSION_1 | EVENT_IDX | MAC | STATUS | protocol, mac: Some(mac) }
    }

    /// The least that a virtio 1 back-end can offer.
    pub(super) fn least() -> Self {
        Self { features: VERSION_1, mac: None }
    }
}

#[derive(Clone)]
struct Rings {
    memory: Memory,
    vrings: Vec<VringRwLock<Memory>>,
}

struct Shared {
    rings: Mutex<Option<Rings>>,
    started: Condvar,
    counters: Mutex<Counters>,
    /// Frames of the guest stay where they are.
    held: AtomicBool,
    event_idx: AtomicBool,
    sent: Sender<Vec<u8>>,
}

/// What the back-end has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) transmit_kicks: u64,
    pub(super) receive_kicks: u64,
    pub(super) features: u64,
}

struct Device {
    offer: Offer,
    memory: Option<Memory>,
    shared: Arc<Shared>,
    exit: (EventConsumer, EventNotifier),
}

impl VhostUserBackendMut for Device {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        self.offer.features
    }

    fn acked_features(&mut self, features: u64) {
        self.shared.counters.lock().unwrap().features = features;
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        let config = match self.offer.mac {
            Some(_) => VhostUserProtocolFeatures::CONFIG,
            None => VhostUserProtocolFeatures::empty(),
        };
        VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ | config
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.shared.event_idx.store(enabled, Ordering::SeqCst);
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = [&self.offer.mac.unwrap_or_default()[..], &[1, 0, 1, 0, 0xdc, 5]].concat();
        config[offset as usize..][..size as usize].to_vec()
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some((self.exit.0.try_clone().unwrap(), self.exit.1.try_clone().unwrap()))
    }

    fn handle_event(
        &mut self,
        event: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        let memory = self.memory.clone().unwrap();
        let mut counters = self.shared.counters.lock().unwrap();
        match event {
            0 => counters.receive_kicks += 1,
            _ => counters.transmit_kicks += 1,
        }
        drop(counters);
        if event == 1 && !self.shared.held.load(Ordering::SeqCst) {
            self.shared.take_all(&memory, &vrings[1]);
        }
        let mut rings = self.shared.rings.lock().unwrap();
        *rings = Some(Rings { memory, vrings: vrings.to_vec() });
        self.shared.started.notify_all();
        Ok(())
    }
}

impl Shared {
    /// Takes all that is there, and asks for a kick for what comes next. A guest that goes on
    /// sending keeps it here, so it looks at each frame whether it is to be held.
    fn take_all(&self, memory: &Memory, vring: &VringRwLock<Memory>) {
        let event_idx = self.event_idx.load(Ordering::SeqCst);
        let held = || self.held.load(Ordering::SeqCst);
        loop {
            vring.disable_notification().unwrap();
            while !held() && self.take_one(memory, vring) {}
            let more = vring.enable_notification().unwrap();
            if !(more && event_idx) || held() {
                break;
            }
        }
    }

    fn take_one(&self, memory: &Memory, vring: &VringRwLock<Memory>) -> bool {
        let chain = vring.get_mut().get_queue_mut().pop_descriptor_chain(memory.memory());
        let Some(chain) = chain else { return false };
        let head = chain.head_index();
        let mut bytes = Vec::new();
        for descriptor in chain {
            let mut part = vec![0; descriptor.len() as usize];
            memory.memory().read_slice(&mut part, descriptor.addr()).unwrap();
            bytes.extend(part);
        }
        assert_eq!(bytes[..HEADER - 2], [0; HEADER - 2], "no offloads");
        vring.add_used(head, 0).unwrap();
        // A test that has seen enough has hung up.
        let _ = self.sent.send(bytes.split_off(HEADER));
        if vring.needs_notification().unwrap() {
            vring.signal_used_queue().unwrap();
        }
        true
    }
}

/// A back-end that serves one connection.
pub(super) struct Backend {
    shared: Arc<Shared>,
    exit: EventNotifier,
    connection: Receiver<ShutdownHandle>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Listens at `path`; frames that the guest sends arrive at the receiver.
    pub(super) fn listen(path: &Path, offer: Offer) -> (Self, Receiver<Vec<u8>>) {
        let (sent, received) = mpsc::channel();
        let shared = Arc::new(Shared {
            rings: Mutex::new(None),
            started: Condvar::new(),
            counters: Mutex::new(Counters::default()),
            held: AtomicBool::new(false),
            event_idx: AtomicBool::new(false),
            sent,
        });
        let exit = new_event_consumer_and_notifier(EventFlag::NONBLOCK).unwrap();
        let ours = exit.1.try_clone().unwrap();
        let device = Device { offer, memory: None, shared: shared.clone(), exit };
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let device = Arc::new(Mutex::new(device));
        let mut listener = Listener::new(path, true).unwrap();
        let mut daemon = VhostUserDaemon::new("backend".into(), device, memory).unwrap();
        let (connected, connection) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            if daemon.start(&mut listener).is_ok() {
                drop(listener);
                connected.send(daemon.shutdown_handle().unwrap()).unwrap();
                // However the connection ends, the test looks at the guest.
                let _ = daemon.wait();
            }
        });
        (Self { shared, exit: ours, connection, thread: Some(thread) }, received)
    }

    /// What the back-end has seen.
    pub(super) fn counters(&self) -> Counters {
        *self.shared.counters.lock().unwrap()
    }

    /// Delivers frames to the guest, as fast as it gives buffers, with one signal at the end of
    /// what fits.
    pub(super) fn deliver(&self, frames: &[Vec<u8>]) {
        let end = Instant::now() + PATIENCE;
        let rings = self.rings();
        let vring = &rings.vrings[0];
        let memory = rings.memory.memory();
        let mut frames = frames.iter().peekable();
        while let Some(frame) = frames.peek() {
            let chain = vring.get_mut().get_queue_mut().pop_descriptor_chain(memory.clone());
            let Some(mut chain) = chain else {
                assert!(Instant::now() < end, "the guest gives no buffers");
                self.signal(vring);
                std::thread::sleep(Duration::from_micros(200));
                continue;
            };
            let head = chain.head_index();
            let buffer = chain.next().unwrap();
            let bytes = [&[0; HEADER - 2][..], &[1, 0], frame].concat();
            assert!(bytes.len() <= buffer.len() as usize);
            memory.write_slice(&bytes, buffer.addr()).unwrap();
            vring.add_used(head, bytes.len() as u32).unwrap();
            frames.next();
        }
        self.signal(vring);
    }

    /// Leaves the guest's frames where they are, until told otherwise.
    pub(super) fn hold(&self, held: bool) {
        self.shared.held.store(held, Ordering::SeqCst);
        if !held {
            let rings = self.rings();
            self.shared.take_all(&rings.memory, &rings.vrings[1]);
        }
    }

    fn signal(&self, vring: &VringRwLock<Memory>) {
        if vring.needs_notification().unwrap() {
            vring.signal_used_queue().unwrap();
        }
    }

    fn rings(&self) -> Rings {
        let rings = self.shared.rings.lock().unwrap();
        let (rings, _) = self
            .shared
            .started
            .wait_timeout_while(rings, PATIENCE, |rings| rings.is_none())
            .unwrap();
        rings.clone().expect("the guest starts its rings")
    }
}

impl Drop for Backend {
    /// Ends the connection, as a back-end that dies does.
    fn drop(&mut self) {
        if let Ok(connection) = self.connection.try_recv() {
            connection.shutdown();
        }
        let _ = self.exit.notify();
        // A daemon that nobody connected to waits for ever: leave it.
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            thread.join().unwrap();
        }
    }
}
