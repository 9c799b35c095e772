//! The registers of the virtio-mmio network device, version 2 (virtio 1.3 §4.2.2), and its
//! configuration space (§5.1.4).
//!
//! This file holds registers only: a store that asks for more returns it as a [`Change`].

use app_guest::layout::QUEUE_ENTRIES;

/// Queues of the device: receive, then transmit (virtio 1.3 §5.1.2).
pub(super) const QUEUES: usize = 2;

/// Offset of QueueNotify in the registers, for the ioeventfds.
pub(super) const QUEUE_NOTIFY: u64 = 0x50;

/// VIRTIO_F_VERSION_1.
pub(super) const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_EVENT_IDX.
pub(super) const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO_NET_F_MRG_RXBUF.
pub(super) const MRG_RXBUF: u64 = 1 << 15;
/// VIRTIO_NET_F_MAC.
pub(super) const MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_STATUS.
pub(super) const STATUS: u64 = 1 << 16;

/// VIRTIO_NET_S_LINK_UP.
pub(super) const LINK_UP: u16 = 1;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const NETWORK_DEVICE: u32 = 1;
const VENDOR: u32 = u32::from_le_bytes(*b"WSPR");
const CONFIG_BASE: u64 = 0x100;

/// Bits of the Status register (virtio 1.3 §2.1).
mod status {
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
}

/// Head of `virtio_net_config`: MAC address and link status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetConfig {
    /// MAC address.
    pub(super) mac: [u8; 6],
    /// Bit 0: the link is up.
    pub(super) status: u16,
}

impl NetConfig {
    /// Bytes in the configuration space.
    pub(super) const BYTES: usize = 8;

    /// From the bytes of a configuration space.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = bytes.get(..Self::BYTES)?.try_into().ok()?;
        let [a, b, c, d, e, f, low, high] = bytes;
        Some(Self { mac: [a, b, c, d, e, f], status: u16::from_le_bytes([low, high]) })
    }

    fn bytes(self) -> [u8; Self::BYTES] {
        let ([a, b, c, d, e, f], [low, high]) = (self.mac, self.status.to_le_bytes());
        [a, b, c, d, e, f, low, high]
    }
}

/// Where the driver put a queue; guest-physical addresses, not yet checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueRegisters {
    /// QueueReady.
    pub(super) ready: bool,
    /// QueueNum: entries.
    pub(super) entries: u32,
    /// Descriptor table.
    pub(super) descriptors: u64,
    /// Available ring.
    pub(super) driver_area: u64,
    /// Used ring.
    pub(super) device_area: u64,
}

/// What a store asks of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The driver reset the device: stop the queues.
    Reset,
    /// The driver is ready: start the queues.
    Start,
    /// A queue notification that no ioeventfd took.
    Notify(u32),
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    offered: u64,
    config: NetConfig,
    device_word: u32,
    driver_word: u32,
    accepted: u64,
    selected: u32,
    queues: [QueueRegisters; QUEUES],
    status: u32,
}

impl Registers {
    /// A device that offers these features.
    pub(super) fn new(offered: u64, config: NetConfig) -> Self {
        Self {
            offered,
            config,
            device_word: 0,
            driver_word: 0,
            accepted: 0,
            selected: 0,
            queues: Default::default(),
            status: 0,
        }
    }

    /// Features that the driver accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The queues as the driver set them up.
    pub(super) fn queues(&self) -> &[QueueRegisters; QUEUES] {
        &self.queues
    }

    /// A load. Registers are 32 bits wide; a load of another width there reads zeros.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(start) = offset.checked_sub(CONFIG_BASE) {
            let config = self.config.bytes();
            for (place, byte) in (start..).zip(data) {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                *byte = config.get(place).copied().unwrap_or(0);
            }
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(&mut *data) {
            *word = self.register(offset).to_le_bytes();
        } else {
            data.fill(0);
        }
    }

    fn register(&self, offset: u64) -> u32 {
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => NETWORK_DEVICE,
            0x0c => VENDOR,
            0x10 if self.device_word < 2 => (self.offered >> (32 * self.device_word)) as u32,
            0x34 if self.queue().is_some() => QUEUE_ENTRIES as u32,
            0x44 => self.queue().map_or(0, |queue| queue.ready.into()),
            // InterruptStatus: every return from WAIT is the interrupt, so it stays 0. The
            // configuration never changes, so ConfigGeneration does not either.
            0x70 => self.status,
            _ => 0,
        }
    }

    fn queue(&self) -> Option<&QueueRegisters> {
        self.queues.get(self.selected as usize)
    }

    /// A store. One that is not 32 bits wide, or not to a writable register, does nothing.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Change {
        let Ok(word) = <[u8; 4]>::try_from(data) else {
            return Change::None;
        };
        let value = u32::from_le_bytes(word);
        match offset {
            0x14 => self.device_word = value,
            0x20 if self.driver_word < 2 && self.status & status::FEATURES_OK == 0 => {
                set_half(&mut self.accepted, self.driver_word == 1, value);
            }
            0x24 => self.driver_word = value,
            0x30 => self.selected = value,
            QUEUE_NOTIFY => return Change::Notify(value),
            0x70 => return self.set_status(value),
            _ => self.write_queue(offset, value),
        }
        Change::None
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.queues.get_mut(self.selected as usize) else {
            return;
        };
        match offset {
            0x44 => queue.ready = value & 1 != 0,
            // A queue in use keeps its place (virtio 1.3 §4.2.2.2).
            _ if queue.ready => {}
            0x38 => queue.entries = value,
            0x80 => set_half(&mut queue.descriptors, false, value),
            0x84 => set_half(&mut queue.descriptors, true, value),
            0x90 => set_half(&mut queue.driver_area, false, value),
            0x94 => set_half(&mut queue.driver_area, true, value),
            0xa0 => set_half(&mut queue.device_area, false, value),
            0xa4 => set_half(&mut queue.device_area, true, value),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) -> Change {
        if value == 0 {
            *self = Self::new(self.offered, self.config);
            return Change::Reset;
        }
        let set = value & !self.status;
        let mut allowed = value;
        let possible = self.accepted & !self.offered == 0 && self.accepted & VERSION_1 != 0;
        if set & status::FEATURES_OK != 0 && !possible {
            allowed &= !status::FEATURES_OK;
        }
        if allowed & status::FEATURES_OK == 0 {
            allowed &= !status::DRIVER_OK;
        }
        let starts = allowed & !self.status & status::DRIVER_OK != 0;
        self.status = allowed;
        if starts { Change::Start } else { Change::None }
    }
}

fn set_half(word: &mut u64, high: bool, value: u32) {
    *word = if high {
        *word & 0xffff_ffff | u64::from(value) << 32
    } else {
        *word & !0xffff_ffff | u64::from(value)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: NetConfig = NetConfig { mac: [2, 0, 0, 0, 0, 7], status: LINK_UP };

    fn device() -> Registers {
        Registers::new(VERSION_1 | EVENT_IDX | MAC | STATUS, CONFIG)
    }

    fn load(device: &Registers, offset: u64) -> u32 {
        let mut data = [0xff; 4];
        device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn store(device: &mut Registers, offset: u64, value: u32) -> Change {
        device.write(offset, &value.to_le_bytes())
    }

    fn accept(device: &mut Registers, features: u64) {
        store(device, 0x70, 1 | 2);
        store(device, 0x24, 0);
        store(device, 0x20, features as u32);
        store(device, 0x24, 1);
        store(device, 0x20, (features >> 32) as u32);
        store(device, 0x70, 1 | 2 | 8);
    }

    #[test]
    fn it_is_a_network_device_of_version_2() {
        let device = device();
        let words: Vec<u32> = [0, 4, 8].map(|offset| load(&device, offset)).into();
        assert_eq!(words, [0x7472_6976, 2, 1]);
    }

    #[test]
    fn features_are_negotiated_before_the_start() {
        let mut device = device();
        store(&mut device, 0x14, 1);
        assert_eq!(load(&device, 0x10), 1, "VERSION_1");
        accept(&mut device, VERSION_1 | EVENT_IDX);
        assert_eq!(load(&device, 0x70), 11);
        store(&mut device, 0x20, 0);
        assert_eq!(device.accepted(), VERSION_1 | EVENT_IDX, "settled");
        assert_eq!(store(&mut device, 0x70, 15), Change::Start);
        assert_eq!(store(&mut device, 0x70, 15), Change::None, "once");
    }

    #[test]
    fn features_that_were_not_offered_are_refused() {
        for features in [VERSION_1 | MRG_RXBUF, EVENT_IDX] {
            let mut device = device();
            accept(&mut device, features);
            assert_eq!(load(&device, 0x70), 3);
            assert_eq!(store(&mut device, 0x70, 15), Change::None);
        }
    }

    #[test]
    fn a_queue_is_set_up_and_then_keeps_its_place() {
        let mut device = device();
        store(&mut device, 0x30, 1);
        assert_eq!(load(&device, 0x34), QUEUE_ENTRIES as u32);
        for (offset, value) in [(0x38, 256), (0x80, 0x1000), (0x90, 0x2000), (0xa4, 1)] {
            store(&mut device, offset, value);
        }
        store(&mut device, 0x44, 1);
        store(&mut device, 0x80, 0x9000);
        let queue = device.queues()[1];
        assert_eq!((queue.entries, queue.descriptors), (256, 0x1000));
        assert_eq!((queue.driver_area, queue.device_area), (0x2000, 1 << 32));
        assert_eq!(load(&device, 0x44), 1);
        assert_eq!(device.queues()[0], QueueRegisters::default());
    }

    #[test]
    fn a_reset_forgets_the_driver() {
        let mut device = device();
        accept(&mut device, VERSION_1);
        assert_eq!(store(&mut device, 0x70, 0), Change::Reset);
        assert_eq!((load(&device, 0x70), device.accepted()), (0, 0));
    }

    #[test]
    fn the_configuration_reads_bytewise_and_ends() {
        let device = device();
        let mut mac = [0; 6];
        for (offset, byte) in (0x100..).zip(&mut mac) {
            device.read(offset, std::slice::from_mut(byte));
        }
        assert_eq!(mac, CONFIG.mac);
        assert_eq!(load(&device, 0x104), u32::from_le_bytes([0, 7, 1, 0]));
        assert_eq!(load(&device, u64::MAX - 2), 0);
    }

    #[test]
    fn odd_accesses_do_nothing() {
        let mut device = device();
        let mut data = [0xff; 8];
        device.read(0, &mut data);
        assert_eq!(data, [0; 8]);
        assert_eq!(device.write(0x70, &[0]), Change::None);
        store(&mut device, 0x30, 7);
        assert_eq!((load(&device, 0x34), load(&device, 0x44)), (0, 0));
        store(&mut device, 0x44, 1);
        assert_eq!(device.queues(), &[QueueRegisters::default(); QUEUES]);
    }
}
