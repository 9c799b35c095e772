//! Numbered broadcast and multicast frames that the LAN sends to the guest, and a tally of how
//! often each arrived.
//!
//! Each frame is valid in the fields that a NIC and a bridge with multicast snooping look at. Its
//! last eight bytes are a mark and its number.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The most frames of each kind.
pub const MOST: u32 = 1 << 16;
const MARK: [u8; 4] = *b"wsgp";
const TAIL_BYTES: usize = 8;
/// Length of a frame, without the checksum at its end.
const FRAME_BYTES: usize = 86;

/// The kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 broadcast.
    Broadcast,
    /// An IPv4 multicast.
    Multicast,
    /// An ARP request.
    Arp,
    /// An IPv6 neighbour solicitation, to the group of solicited nodes (RFC 4291 §2.7.1).
    Neighbour,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Broadcast, Self::Multicast, Self::Arp, Self::Neighbour];

    /// Name of the kind in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
            Self::Arp => "arp",
            Self::Neighbour => "neighbour",
        }
    }

    fn destination(self) -> [u8; 6] {
        match self {
            Self::Broadcast | Self::Arp => [0xff; 6],
            // The group 224.0.0.251: snooping bridges forward link-local groups to every port
            // (RFC 4541, 2.1.2).
            Self::Multicast => [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb],
            Self::Neighbour => [0x33, 0x33, 0xff, 0x77, 0x73, 0x02],
        }
    }

    fn ether_type(self) -> [u8; 2] {
        match self {
            Self::Broadcast | Self::Multicast => [0x08, 0x00],
            Self::Arp => [0x08, 0x06],
            Self::Neighbour => [0x86, 0xdd],
        }
    }

    /// Builds the frame with this number.
    pub fn frame(self, source: [u8; 6], number: u32) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        frame[..6].copy_from_slice(&self.destination());
        frame[6..12].copy_from_slice(&source);
        frame[12..14].copy_from_slice(&self.ether_type());
        match self {
            Self::Broadcast => ipv4_header(&mut frame, [255; 4]),
            Self::Multicast => ipv4_header(&mut frame, [224, 0, 0, 251]),
            Self::Neighbour => ipv6_header(&mut frame),
            Self::Arp => frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]),
        }
        let tail = FRAME_BYTES - TAIL_BYTES;
        frame[tail..tail + 4].copy_from_slice(&MARK);
        frame[tail + 4..].copy_from_slice(&number.to_be_bytes());
        frame
    }

    /// Returns the source address, kind and number of a frame; `None` if it is not one of these
    /// frames.
    pub fn parse(frame: &[u8]) -> Option<([u8; 6], Self, u32)> {
        let frame: &[u8; FRAME_BYTES] = frame.try_into().ok()?;
        let (mark, number) = frame[FRAME_BYTES - TAIL_BYTES..].split_at(4);
        let is =
            |kind: &Self| frame[..6] == kind.destination() && frame[12..14] == kind.ether_type();
        let kind = Self::ALL.into_iter().find(is).filter(|_| mark == MARK)?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        Some((*frame[6..].first_chunk()?, kind, number))
    }
}

/// Writes the IPv4 header (RFC 791) of a UDP datagram from the host of the test.
fn ipv4_header(frame: &mut [u8; FRAME_BYTES], to: [u8; 4]) {
    const UDP: u8 = 17;
    let header = &mut frame[14..34];
    header[..4].copy_from_slice(&[0x45, 0, 0, (FRAME_BYTES - 14) as u8]);
    header[8..10].copy_from_slice(&[1, UDP]);
    header[12..16].copy_from_slice(&[10, 77, 0, 1]);
    header[16..].copy_from_slice(&to);
    let words = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes the headers of a neighbour solicitation (RFC 8200, 3; RFC 4861, 4.3).
fn ipv6_header(frame: &mut [u8; FRAME_BYTES]) {
    const ICMP: u8 = 58;
    const SOLICITATION: u8 = 135;
    let header = &mut frame[14..55];
    header[0] = 0x60;
    header[5..8].copy_from_slice(&[(FRAME_BYTES - 54) as u8, ICMP, 255]);
    header[8..10].copy_from_slice(&[0xfe, 0x80]);
    header[23] = 1;
    header[24..26].copy_from_slice(&[0xff, 0x02]);
    header[35..41].copy_from_slice(&[1, 0xff, 0x77, 0x73, 0x02, SOLICITATION]);
}

/// A socket that sends and receives raw frames on one interface.
pub struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens a socket that receives all frames that arrive at an interface, and can send. Frames
    /// that the interface sends are not received.
    ///
    /// # Errors
    /// There is no such interface, or this process may not open such sockets.
    pub fn open(interface: &CStr) -> io::Result<Self> {
        Self::open_for(interface, libc::ETH_P_ALL as u16)
    }

    /// Opens the same kind of socket, which receives only frames of one EtherType.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_for(interface: &CStr, ether_type: u16) -> io::Result<Self> {
        let socket = Self::bound(interface, ether_type)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
        socket.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &second)?;
        Ok(socket)
    }

    /// Opens a socket that can only send: no received frames are copied to it.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn sender(interface: &CStr) -> io::Result<Self> {
        Self::bound(interface, 0)
    }

    fn bound(interface: &CStr, protocol: u16) -> io::Result<Self> {
        // The index is not read from sysfs, which shows the namespace that it was mounted in.
        // SAFETY: `interface` is a C string.
        let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(protocol.to_be())) };
        checked(fd as isize)?;
        // SAFETY: the descriptor has just been opened, and has no other owner.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: all-zero bytes are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = index as i32;
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: an open socket, and an address of the length that it is said to have.
        checked(unsafe { libc::bind(fd, std::ptr::from_ref(&address).cast(), length) } as isize)?;
        Ok(socket)
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let length = size_of_val(value) as libc::socklen_t;
        // SAFETY: an open socket, and a value of the length that it is said to have.
        let done = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(value).cast(),
                length,
            )
        };
        checked(done as isize).map(drop)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The interface is down, or its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the frame has the length that it is said to have.
        let sent = unsafe {
            libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        checked(sent).map(drop)
    }

    /// Receives the next frame into `into`. Returns the frame's length, which may be more than
    /// `into` has room for.
    ///
    /// # Errors
    /// No frame comes within a second.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the buffer has the length that it is said to have.
        checked(unsafe {
            libc::recv(self.0.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_TRUNC)
        })
    }
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// How often each frame of a kind arrived, by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(Vec<u8>);

impl Tally {
    /// Counts a frame that has arrived.
    pub fn add(&mut self, number: u32) {
        let index = number.min(MOST - 1) as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = self.0[index].saturating_add(1);
    }

    /// How many frames arrived again.
    pub fn doubled(&self) -> u64 {
        self.0.iter().map(|&times| u64::from(times.saturating_sub(1))).sum()
    }

    /// The numbers below `sent` whose frames never arrived.
    pub fn missing(&self, sent: u32) -> Vec<u32> {
        let came = |n: u32| self.0.get(n as usize).is_some_and(|&times| times > 0);
        (0..sent).filter(|&n| !came(n)).collect()
    }

    /// Encodes the tally as one word: `TIMES*COUNT` for each run of consecutive numbers that
    /// arrived equally often.
    pub fn to_word(&self) -> String {
        let runs = self.0.chunk_by(|a, b| a == b);
        let runs: Vec<_> = runs.map(|run| format!("{}*{}", run[0], run.len())).collect();
        runs.join(",")
    }

    /// Decodes the result of [`Self::to_word`].
    pub fn from_word(word: &str) -> Option<Self> {
        let mut all = Vec::new();
        for run in word.split(',').filter(|run| !run.is_empty()) {
            let (times, count) = run.split_once('*')?;
            let count: usize = count.parse().ok().filter(|&n| n <= MOST as usize)?;
            all.extend(std::iter::repeat_n(times.parse::<u8>().ok()?, count));
        }
        Some(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognised_and_others_are_not() {
        for kind in Kind::ALL {
            let mut frame = kind.frame([2; 6], 77);
            assert_eq!(Kind::parse(&frame), Some(([2; 6], kind, 77)));
            frame[FRAME_BYTES - 5] ^= 1;
            assert_eq!(Kind::parse(&frame), None);
        }
        assert_eq!(Kind::parse(&[]), None);
    }

    #[test]
    fn a_tally_tells_what_is_missing_and_what_came_again() {
        let mut tally = Tally::default();
        [0, 1, 1, 4].into_iter().for_each(|n| tally.add(n));
        assert_eq!((tally.doubled(), tally.missing(6)), (1, vec![2, 3, 5]));
        assert_eq!(Tally::from_word(&tally.to_word()), Some(tally));
        assert_eq!(Tally::from_word(""), Some(Tally::default()));
        assert_eq!(Tally::from_word("1*x"), None);
    }
}
