//! A micro-VM on KVM, and the life of the driver domain in it.

pub mod domain;
pub mod kvm;
