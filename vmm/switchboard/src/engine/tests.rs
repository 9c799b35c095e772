mod guests;
mod marks;
mod notifications;
mod receive;
mod segments;
mod transmit;
mod violations;

use super::*;
use crate::fakes::rig::{Rig, is_announcement, numbers};
use crate::fakes::{FakeGuest, MAC, QUEUE, frame};
use crate::{RingName, TakeOver, Violation};
use microvm::domain::DomainId;
use shared_ring::layout::{BUFFER_BYTES, RX_BUFFERS};
use shared_ring::{Entry, EntryFlags};
use std::sync::atomic::Ordering;
