//! The built-in application guest: answers ARP, ping and a UDP echo port.
//!
//! It stands for any guest behind the vhost-user socket, so it drives a plain virtio-net device
//! with other people's code: `virtio-drivers` for the device, `smoltcp` for the protocols. What the
//! guest and the small VMM that runs it (`warmspare app`) must agree on is here, without either:
//!
//! - [`layout`]: the memory map;
//! - [`pages`]: the control page, which the VMM writes, and the status page, which the guest writes;
//! - [`canary`]: an area of known pattern that nothing may ever change.
//!
//! Hypercalls are those of a driver domain ([`shared_ring::hypercall`]): READY, WAIT, PANIC and
//! LOG. WAIT's argument is how long to park at most, see [`pages::WAIT_FOREVER`].

#![cfg_attr(not(test), no_std)]

pub mod canary;
#[cfg(any(test, feature = "image"))]
pub mod echo;
pub mod layout;
pub mod pages;
#[cfg(any(test, feature = "image"))]
pub mod vring;
