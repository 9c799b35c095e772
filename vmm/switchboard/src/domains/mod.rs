//! The domains' side: their permanent places, the queues of their lives, and received frames.
//!
//! Nothing in here trusts a domain.

mod backlog;
mod domain_queues;
mod queue_pair;
mod rx_frame;

pub(crate) use self::domain_queues::Domains;
pub(crate) use self::queue_pair::QueuePair;
pub(crate) use self::rx_frame::{RxFrame, RxPart, bodies, body};
