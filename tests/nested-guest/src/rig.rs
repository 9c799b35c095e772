//! A test rig for a NIC: it drives the NIC register by register, without a domain.
//!
//! The sequences are those of a driver (fact: i210 datasheet §4.5), reduced to the least that both
//! QEMU's model and the emulated NIC need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nic::registers::{self as reg, icr, queue, status};
use nic::{BarRegisters, DmaAccess, DmaArea, Nic};
use platform::memory::SharedMemory;

/// I/O address of the rig's memory.
pub(crate) const RAM_IOVA: u64 = 0x1000_0000;
/// I/O address of memory that the NIC may only read.
pub(crate) const READ_ONLY_IOVA: u64 = 0x4000_0000;
/// Size in bytes of each of these two memories.
pub(crate) const RAM_BYTES: u64 = 0x1_0000;
/// Number of descriptors in each ring.
pub(crate) const RING: u32 = 8;
/// Bytes of a buffer.
pub(crate) const BUFFER: u64 = 2048;

/// Offsets of the rings and buffers in the rig's memory.
pub(crate) const RX_RING: u64 = 0;
pub(crate) const TX_RING: u64 = 0x1000;
pub(crate) const RX_BUFFERS: u64 = 0x2000;
pub(crate) const TX_BUFFERS: u64 = 0x8000;

const CTRL_SLU: u32 = 1 << 6;
const RCTL_EN_SECRC: u32 = 1 << 1 | 1 << 26;
/// Enable, pad short packets, and the collision fields' usual values.
const TCTL_EN: u32 = 1 << 24 | 0x40 << 12 | 0xf << 4 | 1 << 3 | 1 << 1;
const SRRCTL_ONE_BUFFER_2K: u32 = 0x0200_0002;
/// Command of a data descriptor that holds a whole frame: DEXT, RS, IFCS, EOP, data type.
pub(crate) const TX_COMMAND: u32 = 0x2b30_0000;
const DD: u32 = 1;

/// How long QEMU's emulation of a link, or a loaded machine, may take.
const LINK_DEADLINE: Duration = Duration::from_secs(3);
const STEP_DEADLINE: Duration = Duration::from_millis(500);

/// A NIC and the memory that it can reach.
pub(crate) struct Rig<'a> {
    pub(crate) registers: &'a dyn BarRegisters,
    pub(crate) ram: Arc<SharedMemory>,
    pub(crate) read_only: Arc<SharedMemory>,
    rx_next: u32,
    tx_next: u32,
}

impl<'a> Rig<'a> {
    /// Maps memory for the NIC.
    pub(crate) fn new(nic: &'a dyn Nic, registers: &'a dyn BarRegisters) -> Result<Self> {
        let memory = || SharedMemory::new(c"rig", RAM_BYTES).map(Arc::new);
        let (ram, read_only) = (memory()?, memory()?);
        let area = |iova, memory: &Arc<SharedMemory>, access| DmaArea {
            iova,
            memory: memory.clone(),
            offset: 0,
            len: RAM_BYTES,
            access,
        };
        nic.map_dma(&[
            area(RAM_IOVA, &ram, DmaAccess::ReadWrite),
            area(READ_ONLY_IOVA, &read_only, DmaAccess::Read),
        ])?;
        Ok(Self { registers, ram, read_only, rx_next: 0, tx_next: 0 })
    }

    pub(crate) fn read(&self, offset: u32) -> u32 {
        self.registers.read(offset)
    }

    pub(crate) fn write(&self, offset: u32, value: u32) {
        self.registers.write(offset, value);
    }

    /// Polls a register until some bits read as wanted.
    pub(crate) fn wait_for(
        &self,
        offset: u32,
        mask: u32,
        wanted: u32,
        within: Duration,
    ) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let value = self.read(offset);
            if value & mask == wanted {
                return Ok(start.elapsed());
            }
            if start.elapsed() > within {
                bail!("register {offset:#x} is {value:#x}, awaited {wanted:#x} in {mask:#x}");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Brings the link up if it is down, and returns how long that took. Negotiation is restarted
    /// only if the link is down: in QEMU nothing else raises the link, and a good link would drop.
    pub(crate) fn bring_link_up(&self) -> Result<Duration> {
        const BMCR: u32 = 0;
        const BMCR_NEGOTIATE: u32 = 0x1200;
        self.write(reg::CTRL, self.read(reg::CTRL) | CTRL_SLU);
        if self.read(reg::STATUS) & status::LU == 0 {
            self.write_phy(BMCR, BMCR_NEGOTIATE)?;
        }
        self.wait_for(reg::STATUS, status::LU, status::LU, LINK_DEADLINE)
    }

    fn write_phy(&self, register: u32, value: u32) -> Result<()> {
        const WRITE: u32 = 1 << 26 | 1 << 21;
        const READY: u32 = 1 << 28;
        self.write(reg::MDIC, value | register << 16 | WRITE);
        self.wait_for(reg::MDIC, READY, READY, STEP_DEADLINE).map(|_| ())
    }

    /// Attaches the NIC: sets up its rings and interrupts, and switches its units on, with the
    /// filters shut. This works on a fresh NIC, and again on one that a driver has left.
    pub(crate) fn attach(&mut self, mac: [u8; 6]) -> Result<()> {
        self.stop_queues()?;
        self.ram.clear(RX_RING, 0x2000)?;
        self.set_mac(mac);
        for (base, ring) in [(reg::RX_QUEUE, RX_RING), (reg::TX_QUEUE, TX_RING)] {
            self.write(base + queue::BASE_LOW, (RAM_IOVA + ring) as u32);
            self.write(base + queue::BASE_HIGH, 0);
            self.write(base + queue::LENGTH, RING * 16);
            self.write(base + queue::HEAD, 0);
            self.write(base + queue::TAIL, 0);
        }
        self.write(reg::RX_QUEUE + queue::SRRCTL, SRRCTL_ONE_BUFFER_2K);
        self.route_interrupts();
        self.write(reg::TCTL, TCTL_EN);
        self.write(reg::RCTL, RCTL_EN_SECRC);
        for base in [reg::RX_QUEUE, reg::TX_QUEUE] {
            self.write(base + queue::CONTROL, queue::ENABLE);
            self.wait_for(base + queue::CONTROL, queue::ENABLE, queue::ENABLE, STEP_DEADLINE)?;
        }
        (self.rx_next, self.tx_next) = (0, 0);
        for index in 0..RING {
            self.post(index, RAM_IOVA + RX_BUFFERS + u64::from(index) * BUFFER)?;
        }
        self.write(reg::RX_QUEUE + queue::TAIL, RING - 1);
        Ok(())
    }

    pub(crate) fn stop_queues(&self) -> Result<()> {
        for base in [reg::RX_QUEUE, reg::TX_QUEUE] {
            self.write(base + queue::CONTROL, 0);
            self.wait_for(base + queue::CONTROL, queue::ENABLE, 0, STEP_DEADLINE)?;
        }
        Ok(())
    }

    /// Writes address filter 0, not marked valid yet.
    pub(crate) fn set_mac(&self, mac: [u8; 6]) {
        let [a, b, c, d, e, f] = mac;
        self.write(reg::RAL0, u32::from_le_bytes([a, b, c, d]));
        self.write(reg::RAH0, u32::from(u16::from_le_bytes([e, f])));
    }

    /// Routes queue 0 in both directions to vector 0, and everything else to vector 1.
    fn route_interrupts(&self) {
        // MSI-X mode first: QEMU drops what is written to EIAC before it.
        self.write(reg::GPIE, 0xc000_0011);
        self.write(reg::IVAR0, 0x8080);
        self.write(reg::IVAR_MISC, 0x8100);
        self.write(reg::EIAC, 1);
        self.write(reg::EIAM, 0);
        self.write(reg::EITR, 0);
        self.write(reg::EITR + 4, 0);
        self.read(reg::ICR);
        self.write(reg::EICR, u32::MAX);
        self.write(reg::IMS, icr::LSC);
        self.write(reg::EIMS, 0b11);
    }

    /// Writes both addresses of a receive descriptor: stale bits would look like a completion.
    pub(crate) fn post(&self, index: u32, buffer_iova: u64) -> Result<()> {
        let at = RX_RING + u64::from(index) * 16;
        self.ram.write(at, &buffer_iova.to_le_bytes())?;
        self.ram.write(at + 8, &[0; 8])?;
        Ok(())
    }

    /// Waits for the next received frame, takes it, and posts its buffer again.
    pub(crate) fn receive(&mut self, within: Duration) -> Result<Option<Vec<u8>>> {
        let index = self.rx_next;
        let at = RX_RING + u64::from(index) * 16;
        let start = Instant::now();
        while self.word(at + 8)? & DD == 0 {
            if start.elapsed() > within {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        let buffer = RX_BUFFERS + u64::from(index) * BUFFER;
        let mut frame = vec![0; (self.word(at + 12)? & 0xffff) as usize];
        ensure!(frame.len() as u64 <= BUFFER, "a frame of {} bytes", frame.len());
        self.ram.read(buffer, &mut frame)?;
        self.post(index, RAM_IOVA + buffer)?;
        self.write(reg::RX_QUEUE + queue::TAIL, index);
        self.rx_next = (index + 1) % RING;
        Ok(Some(frame))
    }

    /// Sends a frame from the rig's own memory and waits for its completion.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<()> {
        let buffer = TX_BUFFERS + u64::from(self.tx_next) * BUFFER;
        self.ram.write(buffer, frame)?;
        self.send_at(RAM_IOVA + buffer, frame.len() as u32)
    }

    /// Sends `len` bytes from an I/O address and waits for the completion.
    pub(crate) fn send_at(&mut self, iova: u64, len: u32) -> Result<()> {
        let at = TX_RING + u64::from(self.tx_next) * 16;
        self.ram.write(at, &iova.to_le_bytes())?;
        self.ram.write(at + 8, &(TX_COMMAND | len).to_le_bytes())?;
        self.ram.write(at + 12, &(len << 14).to_le_bytes())?;
        self.tx_next = (self.tx_next + 1) % RING;
        self.write(reg::TX_QUEUE + queue::TAIL, self.tx_next);
        let start = Instant::now();
        while self.word(at + 12)? & DD == 0 {
            ensure!(start.elapsed() < STEP_DEADLINE, "a frame is not completed");
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// Returns the index of the descriptor for the next received frame.
    pub(crate) fn next_rx(&self) -> u32 {
        self.rx_next
    }

    /// Skips a receive descriptor that was completed in some other way, and posts it again.
    pub(crate) fn skip_rx(&mut self) -> Result<()> {
        let index = self.rx_next;
        self.post(index, RAM_IOVA + RX_BUFFERS + u64::from(index) * BUFFER)?;
        self.write(reg::RX_QUEUE + queue::TAIL, index);
        self.rx_next = (index + 1) % RING;
        Ok(())
    }

    /// Returns true if the next receive descriptor is completed.
    pub(crate) fn is_rx_done(&self) -> Result<bool> {
        Ok(self.word(RX_RING + u64::from(self.rx_next) * 16 + 8)? & DD != 0)
    }

    fn word(&self, offset: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.ram.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}
