//! The speed of a link, and what a detector owes a slow one.

use nic::registers::status;

/// What a NIC may hold of frames to send, in bits: 40 KiB is the greatest buffer of the family (the
/// 82576's; an i210 has 20 KiB).
const BUFFER_BITS: u64 = 40 * 1024 * 8;

/// Speed of a link, by STATUS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkSpeed {
    /// 10 Mb/s.
    Mbps10,
    /// 100 Mb/s.
    Mbps100,
    /// 1 Gb/s.
    #[default]
    Mbps1000,
}

impl LinkSpeed {
    /// What the register STATUS says.
    pub(super) fn of(register: u32) -> Self {
        match register >> status::SPEED_SHIFT & 3 {
            0 => Self::Mbps10,
            1 => Self::Mbps100,
            _ => Self::Mbps1000,
        }
    }

    /// How much longer than at 1 Gb/s, for which the thresholds are made, frames that the NIC has
    /// fetched may take to be sent: 3 ms at 100 Mb/s and 32 ms at 10 Mb/s. Nanoseconds.
    pub(super) fn allowance_ns(self) -> u64 {
        let full_buffer_ns = |mbps: u64| BUFFER_BITS * 1_000 / mbps;
        let mbps = match self {
            Self::Mbps10 => 10,
            Self::Mbps100 => 100,
            Self::Mbps1000 => 1_000,
        };
        full_buffer_ns(mbps) - full_buffer_ns(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_where_status_has_it() {
        let speeds = [0, 1, 2, 3].map(|bits| LinkSpeed::of(0x8000_0003 | bits << 6));
        let [slow, middle, fast, also_fast] = speeds;
        assert_eq!((slow, middle), (LinkSpeed::Mbps10, LinkSpeed::Mbps100));
        assert_eq!((fast, also_fast), (LinkSpeed::Mbps1000, LinkSpeed::Mbps1000));
    }

    #[test]
    fn a_full_buffer_fits_into_what_is_allowed() {
        assert_eq!(LinkSpeed::Mbps1000.allowance_ns(), 0);
        assert_eq!(LinkSpeed::Mbps100.allowance_ns() / 100_000, 29);
        assert_eq!(LinkSpeed::Mbps10.allowance_ns() / 1_000_000, 32);
    }
}
