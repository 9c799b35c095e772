//! A plain vhost-user back-end: warmspare's own front half (socket, virtqueues, switchboard)
//! directly on a TAP. It has no domain, no emulated NIC and no spare: if it dies, it can only be
//! started again. It handles QEMU's peculiarities as warmspare does, so only the redundancy is
//! missing.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result};
use microvm::domain::{DomainId, DomainRings, DomainSlot};
use nic::NullNic;
use nic::wire::{MAX_FRAME_BYTES, Tap, Wire};
use platform::checksum::{fold, sum};
use platform::realtime::{self, Priority};
use shared_ring::layout::{BUFFER_BYTES, RX_POOL_BASE};
use shared_ring::{Entry, EntryFlags};
use supervisor::topology::MacAddress;
use switchboard::vhost_user::{SocketConfig, SocketRights, VhostUserConfig, VhostUserServer};

use crate::bench::ends::{EPOCH, notify};
use crate::bench::null::NullSlot;

/// Arguments on the command line.
#[derive(Debug, clap::Args)]
pub struct PlainArgs {
    /// Socket that the front-end connects to
    socket: PathBuf,
    /// TAP that the frames go to and come from
    tap: String,
    /// The guest's MAC address
    mac: MacAddress,
}

/// Serves until it is killed.
///
/// # Errors
/// The socket, the TAP or the memory is not available.
pub fn run(args: &PlainArgs) -> Result<()> {
    // Entered first, so that other processes do not delay the start.
    realtime::enter(Priority::Nic);
    let tap = Tap::open(&args.tap)?;
    let null = NullSlot::new()?;
    let switchboard = null.switchboard(args.mac.0)?;
    let (path, rights) = (args.socket.clone(), SocketRights::OWNER_ONLY);
    let config = VhostUserConfig { socket: SocketConfig::Listen { path, rights }, mac: args.mac.0 };
    switchboard.install(DomainId(0), EPOCH)?;
    switchboard.activate(DomainId(0), EPOCH)?;
    let _server = VhostUserServer::spawn(config, switchboard.port(0).context("no port")?)?;
    // SAFETY: these are the slot's only `DomainRings`, and no domain runs there.
    let ends = unsafe { null.slot.domain_rings() };
    Plain { tap, ends, slot: null.slot, nic: null.nic, room: None }.serve()
}

/// The loop between the shared rings and the TAP.
struct Plain {
    tap: Arc<Tap>,
    ends: DomainRings,
    slot: Arc<DomainSlot>,
    nic: Arc<NullNic>,
    /// The buffer for the next frame from the TAP.
    room: Option<Entry>,
}

impl Plain {
    fn serve(mut self) -> Result<()> {
        let mut bytes = vec![0; MAX_FRAME_BYTES];
        loop {
            let moved = self.outward(&mut bytes) | self.inward(&mut bytes)?;
            if moved {
                notify(&self.slot);
                continue;
            }
            // It parks, then checks again: it either sees what the switchboard published meanwhile,
            // or is kicked.
            self.slot.status().parked.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if !(self.outward(&mut bytes) | self.inward(&mut bytes)?) {
                self.sleep()?;
            }
            self.slot.status().parked.store(0, Ordering::Relaxed);
            notify(&self.slot);
        }
    }

    fn sleep(&self) -> Result<()> {
        // Without a free buffer, a readable TAP would keep it awake; a kick announces new buffers.
        let frames = self.tap.readable().filter(|_| self.room.is_some());
        let fds = [frames, self.tap.link_changed()].into_iter().flatten();
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<_> = fds.map(|fd: BorrowedFd<'_>| entry(fd.as_raw_fd())).collect();
        fds.push(entry(self.slot.kick.as_raw_fd()));
        // SAFETY: `fds` has as many entries as the call is told, and outlives the call.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) } < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let _ = self.slot.kick.read();
        self.tap.follow_link();
        self.tap.begin_receive();
        Ok(())
    }

    /// Moves the guest's frames to the TAP; returns whether there were any.
    fn outward(&mut self, bytes: &mut [u8]) -> bool {
        let (mut frames, mut len, mut checksum) = (0, 0, None);
        while let Ok(Some(entry)) = self.ends.tx_post.pop() {
            let at = u64::from(entry.buffer) * BUFFER_BYTES as u64;
            let part = bytes.get_mut(len..len + usize::from(entry.len)).unwrap_or_default();
            if self.slot.tx_pool.read(at, part).is_ok() {
                len += part.len();
            }
            if entry.flags.contains(EntryFlags::CHECKSUM) {
                let start = usize::from(entry.csum_start);
                checksum = Some((start, start + usize::from(entry.csum_offset)));
            }
            if !entry.flags.contains(EntryFlags::MORE) {
                let frame = &mut bytes[..std::mem::take(&mut len)];
                if let Some((start, field)) = checksum.take() {
                    insert_checksum(frame, start, field);
                }
                self.tap.send(frame);
                frames += 1;
            }
            let done = Entry { buffer: entry.buffer, epoch: EPOCH as u16, ..Entry::default() };
            if self.ends.tx_done.push(done).is_err() {
                break;
            }
        }
        if frames > 0 {
            self.ends.tx_post.release();
            self.nic.send(frames);
            self.ends.tx_done.publish();
        }
        frames > 0
    }

    /// Moves frames from the TAP to the guest; returns whether there were any.
    fn inward(&mut self, bytes: &mut [u8]) -> Result<bool> {
        let mut moved = false;
        loop {
            if self.room.is_none() {
                self.room = self.ends.rx_provide.pop().ok().flatten();
            }
            let Some(room) = self.room else { break };
            let Some(len) = self.tap.receive(bytes) else { break };
            let len = len.min(BUFFER_BYTES);
            let at = RX_POOL_BASE + u64::from(room.buffer) * BUFFER_BYTES as u64;
            self.slot.ram.write(at, &bytes[..len])?;
            let (len, epoch) = (len as u16, EPOCH as u16);
            let received = Entry { buffer: room.buffer, len, epoch, ..Entry::default() };
            if self.ends.rx_done.push(received).is_err() {
                break;
            }
            self.room = None;
            moved = true;
        }
        if moved {
            self.ends.rx_provide.release();
            self.ends.rx_done.publish();
        }
        Ok(moved)
    }
}

/// Writes the internet checksum (RFC 1071) of everything from `start` to the end into `field`; does
/// nothing if these are not in the frame.
fn insert_checksum(frame: &mut [u8], start: usize, field: usize) {
    if start > frame.len() || field + 2 > frame.len() {
        return;
    }
    // In UDP zero means that there is no checksum; 0xffff is the same number in ones' complement.
    let checksum = match !fold(sum(&frame[start..])) {
        0 => 0xffff,
        other => other,
    };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_of_all_words_all_ones() {
        let mut frame = vec![0x11, 0x22, 0x12, 0x34, 0, 0, 0xff, 0xfe, 0x01];
        insert_checksum(&mut frame, 2, 4);
        assert_eq!(frame[..4], [0x11, 0x22, 0x12, 0x34]);
        let field = u32::from(u16::from_be_bytes([frame[4], frame[5]]));
        let sum = 0x1234 + field + 0xfffe + 0x0100;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        insert_checksum(&mut frame, 2, 40);
    }
}
