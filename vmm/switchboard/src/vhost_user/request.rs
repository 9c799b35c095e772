//! Requests by name, and the features that are offered.

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures as Protocol};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU, VIRTIO_NET_F_STATUS,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::port::MAX_REGIONS;

/// Bit of the virtio features: protocol features can be negotiated.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
/// `VHOST_F_LOG_ALL`: the pages of received frames are marked in the log.
pub(super) const LOG_ALL: u64 = 1 << 26;
pub(super) const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
pub(super) const MRG_RXBUF: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;
pub(super) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(super) const CSUM: u64 = 1 << VIRTIO_NET_F_CSUM;
pub(super) const HOST_TSO4: u64 = 1 << VIRTIO_NET_F_HOST_TSO4;
pub(super) const HOST_TSO6: u64 = 1 << VIRTIO_NET_F_HOST_TSO6;

/// Virtio features that are offered. GUEST_CSUM is not: no domain's word on a checksum is passed
/// on, and computing it here would save the guest nothing.
pub(super) const FEATURES: u64 = VERSION_1
    | EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC
    | 1 << VIRTIO_NET_F_MAC
    | 1 << VIRTIO_NET_F_STATUS
    | 1 << VIRTIO_NET_F_MTU
    | MRG_RXBUF
    | CSUM
    | HOST_TSO4
    | HOST_TSO6
    | LOG_ALL
    | PROTOCOL_FEATURES;

/// Protocol features that are offered. MQ is not: front-ends disagree on whether GET_QUEUE_NUM, which
/// it brings, counts queues or pairs of them. Without it all of them make a device of one pair.
pub(super) const OFFERED_PROTOCOL: Protocol = Protocol::REPLY_ACK
    .union(Protocol::CONFIG)
    .union(Protocol::RESET_DEVICE)
    .union(Protocol::CONFIGURE_MEM_SLOTS)
    .union(Protocol::STATUS)
    .union(Protocol::RARP)
    .union(Protocol::MTU)
    .union(Protocol::LOG_SHMFD);

/// The request with this number, of those that are known at all.
pub(super) fn by_number(number: u32) -> Option<FrontendReq> {
    FrontendReq::try_from(number).ok()
}

/// Returns true if a request has a reply of its own. It cannot be refused by an acknowledgement,
/// which would be taken for that reply: QEMU would read a failed GET_VRING_BASE as position 0 of
/// ring 1.
pub(super) fn has_own_reply(request: FrontendReq) -> bool {
    use FrontendReq as R;
    matches!(
        request,
        R::GET_FEATURES
            | R::GET_PROTOCOL_FEATURES
            | R::GET_QUEUE_NUM
            | R::GET_MAX_MEM_SLOTS
            | R::GET_VRING_BASE
            | R::GET_CONFIG
            | R::GET_STATUS
            | R::GET_INFLIGHT_FD
            | R::GET_SHARED_OBJECT
            | R::GET_SHMEM_CONFIG
            | R::SET_DEVICE_STATE_FD
            | R::CHECK_DEVICE_STATE
            | R::POSTCOPY_ADVISE
            | R::CREATE_CRYPTO_SESSION
    )
}

/// Most descriptors that may come with a request.
pub(super) fn most_files(request: FrontendReq) -> usize {
    use FrontendReq as R;
    match request {
        R::SET_MEM_TABLE => MAX_REGIONS,
        // REM_MEM_REG needs none, but some front-ends send one, which the document allows.
        R::ADD_MEM_REG | R::REM_MEM_REG => 1,
        R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => 1,
        R::SET_LOG_BASE | R::SET_LOG_FD => 1,
        // Not offered; refused by name rather than as malformed.
        R::SET_BACKEND_REQ_FD | R::SET_INFLIGHT_FD | R::GPU_SET_SOCKET | R::SET_DEVICE_STATE_FD => {
            1
        }
        _ => 0,
    }
}
