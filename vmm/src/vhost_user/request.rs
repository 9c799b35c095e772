//! Requests by name, and the features that are offered.

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures as Protocol};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

/// Bit of the virtio features that says: protocol features can be negotiated.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
pub(super) const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
pub(super) const MRG_RXBUF: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
pub(super) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(super) const CSUM: u64 = 1 << VIRTIO_NET_F_CSUM;

/// Virtio features that are offered. GUEST_CSUM is not: no domain's word on a checksum is passed on,
/// and computing it here would save the guest nothing.
pub(super) const FEATURES: u64 = VERSION_1
    | EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_STATUS
    | MRG_RXBUF
    | CSUM
    | PROTOCOL_FEATURES;

/// Protocol features that are offered.
pub(super) const OFFERED_PROTOCOL: Protocol = Protocol::MQ
    .union(Protocol::REPLY_ACK)
    .union(Protocol::CONFIG)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::STATUS);

/// The request with this number, of those that are known at all.
pub(super) fn by_number(number: u32) -> Option<FrontendReq> {
    FrontendReq::try_from(number).ok()
}
