//! A small model of the NIC: enough of the register set for the driver's every step, with the
//! differences between hardware and QEMU as a switch. It knows descriptors but no frame bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use shared_ring::bar_map;
use shared_ring::igb_registers::{
    self as reg, ctrl, eecd, gpie, mdic, phy, queue, rctl, semaphore, status, tctl,
};
use shared_ring::layout::{DMA_RX_RING_OFFSET, DMA_TX_RING_OFFSET};

use super::vmm::DMA_IOVA;
use crate::bar::Registers;
use crate::igb::descriptor::{Descriptor, TX_DONE, rx};
use crate::igb::{NicMemory, values};

/// Whose habits the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personality {
    /// An i210: heads are read-only, head and tail are zeroed by enabling, tails need an enabled
    /// queue, the link survives a reset.
    Hardware,
    /// QEMU's model: heads and tails are writable at any time and stay, a reset takes the link down,
    /// and only a negotiation restart brings it up.
    Qemu,
}

/// A frame as the NIC put it on the wire: I/O address and length of each part.
pub type SentFrame = Vec<(u64, u32)>;

struct State {
    personality: Personality,
    memory: NicMemory<'static>,
    registers: BTreeMap<u32, u32>,
    phy: BTreeMap<u32, u32>,
    writes: Vec<(u32, u32)>,
    /// Reads for which a queue that was disabled still says enabled.
    disable_delay: u32,
    disabling: BTreeMap<u32, u32>,
    stuck_until_reset: bool,
    gone: bool,
    link: bool,
    waiting: VecDeque<u32>,
    sent: Vec<SentFrame>,
    partial: SentFrame,
    complete_transmits: bool,
    resets: u32,
}

/// The model; clones share it.
#[derive(Clone)]
pub struct ModelNic(Rc<RefCell<State>>);

impl ModelNic {
    /// A NIC after power-up, link up, which reaches the rings in `memory`.
    pub fn new(personality: Personality, memory: NicMemory<'static>) -> Self {
        let state = State {
            personality,
            memory,
            registers: BTreeMap::new(),
            phy: BTreeMap::from([(phy::ANAR, 0x0de1)]),
            writes: Vec::new(),
            disable_delay: 3,
            disabling: BTreeMap::new(),
            stuck_until_reset: false,
            gone: false,
            link: true,
            waiting: VecDeque::new(),
            sent: Vec::new(),
            partial: Vec::new(),
            complete_transmits: true,
            resets: 0,
        };
        let nic = Self(Rc::new(RefCell::new(state)));
        nic.0.borrow_mut().power_up();
        nic
    }

    /// From now on the queues cannot be disabled, until a full reset.
    pub fn jam_queues(&self) {
        self.0.borrow_mut().stuck_until_reset = true;
    }

    /// From now on every register reads all ones.
    pub fn remove(&self) {
        self.0.borrow_mut().gone = true;
    }

    /// Takes the link down.
    pub fn drop_link(&self) {
        self.0.borrow_mut().link = false;
    }

    /// Sets a register behind the driver's back, as a dead driver might have left it.
    pub fn set(&self, offset: u32, value: u32) {
        self.0.borrow_mut().registers.insert(offset, value);
    }

    /// Leaves the first part of a packet in the transmit engine.
    pub fn leave_partial_packet(&self, iova: u64, len: u32) {
        self.0.borrow_mut().partial.push((iova, len));
    }

    /// Whether transmits are written back as soon as they are rung.
    pub fn complete_transmits(&self, yes: bool) {
        let mut state = self.0.borrow_mut();
        state.complete_transmits = yes;
        state.transmit();
    }

    /// A register's value, without a read's side effects.
    pub fn peek(&self, offset: u32) -> u32 {
        self.0.borrow().get(offset)
    }

    /// A PHY register's value.
    pub fn phy(&self, register: u32) -> u32 {
        self.0.borrow().phy.get(&register).copied().unwrap_or(0)
    }

    /// Values written to a register so far.
    pub fn writes_to(&self, offset: u32) -> Vec<u32> {
        let state = self.0.borrow();
        state.writes.iter().filter(|(at, _)| *at == offset).map(|(_, value)| *value).collect()
    }

    /// All register writes so far.
    pub fn writes(&self) -> Vec<(u32, u32)> {
        self.0.borrow().writes.clone()
    }

    /// Full resets so far.
    pub fn resets(&self) -> u32 {
        self.0.borrow().resets
    }

    /// Takes the frames that were put on the wire.
    pub fn take_sent(&self) -> Vec<SentFrame> {
        std::mem::take(&mut self.0.borrow_mut().sent)
    }

    /// A frame of `len` bytes arrives for the guest: it is filtered, then waits for buffers.
    pub fn arrive(&self, len: u32) {
        let mut state = self.0.borrow_mut();
        if state.get(reg::RAH0) & reg::RAH_AV != 0 {
            state.waiting.push_back(len);
            state.receive();
        }
    }

    /// A broadcast arrives.
    pub fn arrive_broadcast(&self, len: u32) {
        let mut state = self.0.borrow_mut();
        if state.get(reg::RCTL) & rctl::BAM != 0 {
            state.waiting.push_back(len);
            state.receive();
        }
    }

    /// The next frame is damaged.
    pub fn arrive_damaged(&self, len: u32) {
        self.arrive(len | DAMAGED);
    }
}

/// What the VMM does to a NIC at takeover.
pub fn open_filters(nic: &ModelNic) {
    nic.write(reg::RAH0, nic.peek(reg::RAH0) | reg::RAH_AV);
    nic.write(reg::RCTL, nic.peek(reg::RCTL) | rctl::BAM | rctl::MPE);
}

/// Fails where a domain would: its page tables show it no other registers.
fn assert_is_domains(offset: u32) {
    assert!(bar_map::is_domains(offset.into()), "register {offset:#x} is not the driver's");
}

/// Marks the length of a damaged frame.
const DAMAGED: u32 = 1 << 31;
const BUFFER_BYTES: u32 = 2048;

impl State {
    fn get(&self, offset: u32) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    fn power_up(&mut self) {
        self.registers.clear();
        self.disabling.clear();
        let start = [
            (reg::CTRL, 0x0010_0209),
            (reg::EECD, 0x1010 | eecd::EE_PRES),
            (reg::TCTL, 0xa404_00f8),
            (reg::RXDCTL, queue::ENABLE),
            (reg::TXDCTL, queue::ENABLE),
            (reg::RAH0, reg::RAH_AV),
        ];
        self.registers.extend(start);
    }

    fn reset(&mut self) {
        self.power_up();
        self.stuck_until_reset = false;
        self.partial.clear();
        self.resets += 1;
        if self.personality == Personality::Qemu {
            self.link = false;
        }
    }

    fn read(&mut self, offset: u32) -> u32 {
        assert_is_domains(offset);
        if self.gone {
            return reg::ALL_ONES;
        }
        match offset {
            reg::STATUS => {
                let master = self.get(reg::CTRL) & ctrl::GIO_MASTER_DISABLE == 0;
                0x8000_0081
                    | if self.link { status::LU } else { 0 }
                    | if master { status::GIO_MASTER } else { 0 }
            }
            reg::SWSM => {
                let old = self.get(offset);
                self.registers.insert(offset, old | semaphore::SMBI);
                old
            }
            reg::RXDCTL | reg::TXDCTL => self.read_queue_control(offset),
            reg::EICR => panic!("EICR must never be read"),
            _ => self.get(offset),
        }
    }

    fn read_queue_control(&mut self, offset: u32) -> u32 {
        let Some(left) = self.disabling.get_mut(&offset) else { return self.get(offset) };
        if *left > 0 || self.stuck_until_reset {
            *left = left.saturating_sub(1);
            return self.get(offset) | queue::ENABLE;
        }
        self.disabling.remove(&offset);
        self.get(offset)
    }

    fn enabled(&self, control: u32) -> bool {
        self.get(control) & queue::ENABLE != 0 && !self.disabling.contains_key(&control)
    }

    fn write(&mut self, offset: u32, v: u32) {
        assert_is_domains(offset);
        self.writes.push((offset, v));
        match offset {
            reg::CTRL if v & ctrl::RST != 0 => return self.reset(),
            reg::MDIC => return self.access_phy(v),
            reg::RXDCTL | reg::TXDCTL => return self.write_queue_control(offset, v),
            reg::RDH | reg::TDH if self.personality == Personality::Hardware => return,
            reg::RDT if self.personality == Personality::Hardware && !self.enabled(reg::RXDCTL) => {
                return;
            }
            reg::TDT if self.personality == Personality::Hardware && !self.enabled(reg::TXDCTL) => {
                return;
            }
            reg::EIAC if self.get(reg::GPIE) & gpie::MULTIPLE_MSIX == 0 => return,
            reg::EIMS => {
                let old = self.get(offset);
                self.registers.insert(offset, old | v);
                return;
            }
            reg::EIMC => {
                let old = self.get(reg::EIMS);
                self.registers.insert(reg::EIMS, old & !v);
                return;
            }
            _ => {}
        }
        self.registers.insert(offset, v);
        match offset {
            reg::TDT => self.transmit(),
            reg::RDT | reg::RCTL => self.receive(),
            _ => {}
        }
    }

    fn write_queue_control(&mut self, offset: u32, v: u32) {
        let was = self.enabled(offset);
        let on = v & queue::ENABLE != 0;
        if was && !on {
            self.disabling.insert(offset, self.disable_delay);
        }
        if !was && on && self.personality == Personality::Hardware {
            let (head, tail) =
                if offset == reg::RXDCTL { (reg::RDH, reg::RDT) } else { (reg::TDH, reg::TDT) };
            self.registers.extend([(head, 0), (tail, 0)]);
        }
        self.registers.insert(offset, v);
    }

    fn access_phy(&mut self, v: u32) {
        let register = v >> mdic::REGISTER_SHIFT & 0x1f;
        if v & mdic::WRITE != 0 {
            self.phy.insert(register, v & 0xffff);
            if register == phy::BMCR && v as u16 == values::BMCR {
                self.link = true;
            }
        }
        let data = self.phy.get(&register).copied().unwrap_or(0);
        self.registers.insert(reg::MDIC, v & !mdic::DATA | data | mdic::READY);
    }

    fn transmit(&mut self) {
        let base = u64::from(self.get(reg::TDBAH)) << 32 | u64::from(self.get(reg::TDBAL));
        if !self.complete_transmits
            || !self.enabled(reg::TXDCTL)
            || self.get(reg::TCTL) & tctl::EN == 0
        {
            return;
        }
        assert_eq!(base, DMA_IOVA + DMA_TX_RING_OFFSET, "the transmit ring's address");
        let ring = self.memory.tx_ring;
        let size = self.get(reg::TDLEN) / 16;
        assert_eq!(size as usize, ring.len());
        let (mut head, tail) = (self.get(reg::TDH), self.get(reg::TDT));
        while head != tail {
            self.transmit_one(&ring[head as usize]);
            head = (head + 1) % size;
        }
        self.registers.insert(reg::TDH, head);
    }

    fn transmit_one(&mut self, descriptor: &Descriptor) {
        let [iova, word] = descriptor.words();
        if word & 3 << 20 == 2 << 20 {
            return; // a context
        }
        let len = (word & 0xffff) as u32;
        if len > 0 {
            assert_eq!(word & 0x2230_0000, 0x2230_0000, "advanced data, FCS inserted: {word:#x}");
            self.partial.push((iova, len));
        }
        if word & 1 << 24 != 0 {
            let frame = std::mem::take(&mut self.partial);
            if !frame.is_empty() {
                self.sent.push(frame);
            }
        }
        if word & 1 << 27 != 0 {
            descriptor.write_back(word | TX_DONE);
        }
    }

    fn receive(&mut self) {
        let open = self.enabled(reg::RXDCTL) && self.get(reg::RCTL) & rctl::EN != 0 && self.link;
        if !open {
            return;
        }
        let base = u64::from(self.get(reg::RDBAH)) << 32 | u64::from(self.get(reg::RDBAL));
        assert_eq!(base, DMA_IOVA + DMA_RX_RING_OFFSET, "the receive ring's address");
        let ring = self.memory.rx_ring;
        let (mut head, tail) = (self.get(reg::RDH), self.get(reg::RDT));
        while let Some(frame) = self.waiting.front().copied() {
            let (error, mut left) =
                (if frame & DAMAGED != 0 { rx::ERROR } else { 0 }, frame & !DAMAGED);
            let needed = left.div_ceil(BUFFER_BYTES);
            if (tail.wrapping_sub(head) % ring.len() as u32) < needed {
                break;
            }
            while left > 0 {
                let part = left.min(BUFFER_BYTES);
                left -= part;
                let end = if left == 0 { rx::END } else { 0 };
                let [iova, stale] = ring[head as usize].words();
                assert!(iova != 0 && stale == 0, "a fresh descriptor at {head}");
                ring[head as usize].write_back(u64::from(part) << 32 | error | end | rx::DONE);
                head = (head + 1) % ring.len() as u32;
            }
            self.waiting.pop_front();
        }
        self.registers.insert(reg::RDH, head);
    }
}

impl Registers for ModelNic {
    fn read(&self, offset: u32) -> u32 {
        self.0.borrow_mut().read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.borrow_mut().write(offset, value);
    }
}
