//! The control page: the VMM writes, the domain reads (its mapping is read-only).

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::frame;
use crate::layout::MAX_GUESTS;

/// First word of a control page, "WSCT" in memory.
pub const CONTROL_MAGIC: u32 = u32::from_le_bytes(*b"WSCT");

/// What a domain is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// Attach the NIC with every filter shut, call READY, then WAIT.
    Standby = 0,
    /// Serve the ring.
    Active = 1,
    /// Prove the NIC with a probe, without the ring, once for each number in
    /// [`ControlPage::drill`], then WAIT.
    Drill = 2,
    /// Leave the NIC alone, but for a link that is down, unless [`ControlPage::nic_is_shared`]: call
    /// READY, then WAIT. Any other role ends that: attach, call READY again, and go on as in that
    /// role.
    Unattached = 3,
}

impl Role {
    /// The role with this number; an unknown one is the harmless standby.
    #[inline]
    pub const fn from_u32(role: u32) -> Self {
        match role {
            1 => Self::Active,
            2 => Self::Drill,
            3 => Self::Unattached,
            _ => Self::Standby,
        }
    }
}

/// Bits of [`ControlPage::wake_reason`].
pub mod wake {
    /// The switchboard published something.
    pub const KICK: u32 = 1 << 0;
    /// NIC vector 0 fired.
    pub const NIC: u32 = 1 << 1;
    /// The VMM wants a sign of life, or suspects a lost wakeup.
    pub const CHECK: u32 = 1 << 2;
}

/// One cursor, alone on its cache line.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Cursor(pub AtomicU32);

/// Shape of the page at [`crate::layout::CONTROL_BASE`]. All-zero memory is a valid value.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct ControlPage {
    /// [`CONTROL_MAGIC`].
    pub magic: AtomicU32,
    /// [`crate::ABI_VERSION`].
    pub abi_version: AtomicU32,
    /// Number of this life of the domain; its low 16 bits stand in every entry.
    pub epoch: AtomicU32,
    /// See [`Role`].
    pub role: AtomicU32,
    /// Ticks of the time stamp counter in a millisecond.
    pub tsc_khz: AtomicU64,
    /// I/O address of the DMA area.
    pub dma_iova: AtomicU64,
    /// I/O address of the receive pool; buffer *n* lies at `+ n * BUFFER_BYTES`.
    pub rx_pool_iova: AtomicU64,
    /// MAC address of the first application guest, first byte lowest. Both NICs of a pair carry it.
    pub mac: AtomicU64,
    /// Why the last WAIT returned, see [`wake`].
    pub wake_reason: AtomicU32,
    /// Number of the drill that [`Role::Drill`] means; 0 for none.
    pub drill: AtomicU32,
    /// I/O address of the probe frame to send in a drill, [`crate::probe::PROBE_BYTES`] long; 0
    /// for a drill that leaves the wire alone.
    pub probe_iova: AtomicU64,
    /// Not zero while the switchboard sleeps: publish, then NOTIFY.
    pub switchboard_asleep: Cursor,
    /// TX_POST, written by the switchboard.
    pub tx_post_published: Cursor,
    /// RX_PROVIDE, written by the switchboard.
    pub rx_provide_published: Cursor,
    /// TX_DONE, how far the switchboard has read.
    pub tx_done_consumed: Cursor,
    /// RX_DONE, how far the switchboard has read.
    pub rx_done_consumed: Cursor,
    /// MAC addresses of further application guests, as `mac`; zero for none.
    pub other_macs: [AtomicU64; MAX_GUESTS - 1],
    /// Not zero: another domain drives the same NIC, and [`Role::Unattached`] means not a register.
    pub nic_is_shared: AtomicU32,
    /// MTU of the network, which [`crate::frame`] turns into lengths.
    pub mtu: AtomicU32,
}

#[cfg(not(loom))]
const _: () = {
    assert!(core::mem::offset_of!(ControlPage, tsc_khz) == 16);
    assert!(core::mem::offset_of!(ControlPage, wake_reason) == 48);
    assert!(core::mem::offset_of!(ControlPage, probe_iova) == 56);
    assert!(core::mem::offset_of!(ControlPage, switchboard_asleep) == 64);
    assert!(core::mem::offset_of!(ControlPage, rx_done_consumed) == 320);
    assert!(core::mem::offset_of!(ControlPage, other_macs) == 384);
    assert!(core::mem::offset_of!(ControlPage, mtu) == 444);
    assert!(size_of::<ControlPage>() == 448);
};

impl ControlPage {
    /// The role as it stands now.
    #[inline]
    pub fn role(&self) -> Role {
        Role::from_u32(self.role.load(Ordering::Acquire))
    }

    /// The first guest's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        load_mac(&self.mac)
    }

    /// The MTU; one that makes no sense is Ethernet's.
    pub fn mtu(&self) -> u16 {
        match self.mtu.load(Ordering::Relaxed) {
            mtu @ MIN..=MAX => mtu as u16,
            _ => frame::DEFAULT_MTU,
        }
    }

    /// The other guests' MAC addresses; zeroes for none.
    pub fn other_macs(&self) -> [[u8; 6]; MAX_GUESTS - 1] {
        core::array::from_fn(|n| load_mac(&self.other_macs[n]))
    }

    /// Writes the guests' MAC addresses, at most [`MAX_GUESTS`].
    pub fn set_macs(&self, macs: &[[u8; 6]]) {
        let cells = core::iter::once(&self.mac).chain(&self.other_macs);
        for (n, cell) in cells.enumerate() {
            let [a, b, c, d, e, f] = macs.get(n).copied().unwrap_or_default();
            cell.store(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), Ordering::Relaxed);
        }
    }
}

const MIN: u32 = frame::MIN_MTU as u32;
const MAX: u32 = frame::MAX_MTU as u32;

fn load_mac(cell: &AtomicU64) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = cell.load(Ordering::Relaxed).to_le_bytes();
    [a, b, c, d, e, f]
}
