mod announcements;
mod chains;
mod cost;
mod guest_drain;
mod guests;
mod handover;
mod jumbo;
mod macs;
mod marks;
mod notifications;
mod receive;
mod segments;
mod takeover;
mod transmit;
mod violations;

use std::sync::atomic::Ordering;

use microvm::domain::DomainId;
use shared_ring::layout::{BUFFER_BYTES, RX_BUFFERS};
use shared_ring::{Entry, EntryFlags};

use super::*;
use crate::fakes::rig::{MS, Rig, is_announcement, number, numbers};
use crate::fakes::{FakeDomain, FakeGuest, MAC, QUEUE, frame};
use crate::limits::TURN_FRAMES;
use crate::port::TX_RING;
use crate::violation::{RingName, Violation};
use nic::wire::MAX_FRAME_BYTES;
