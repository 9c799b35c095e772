mod guests;
mod marks;
mod notifications;
mod receive;
mod segments;
mod transmit;
mod violations;

use super::*;
use crate::domain::DomainId;
use crate::switchboard::fakes::rig::{Rig, is_announcement, numbers};
use crate::switchboard::fakes::{FakeGuest, MAC, QUEUE, frame};
use crate::switchboard::{RingName, TakeOver, Violation};
use shared_ring::layout::{BUFFER_BYTES, RX_BUFFERS};
use shared_ring::{Entry, EntryFlags};
use std::sync::atomic::Ordering;
