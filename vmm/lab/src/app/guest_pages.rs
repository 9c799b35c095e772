//! The pages through which guest and VMM talk, as shapes of shared memory.

use app_guest::pages;
use platform::memory::SharedShape;

/// The control page, which the VMM writes.
#[repr(transparent)]
pub(super) struct Control(pub(super) pages::ControlPage);

// SAFETY: all fields are atomics.
unsafe impl SharedShape for Control {}

/// The status page, which the guest writes.
#[repr(transparent)]
pub(super) struct Status(pub(super) pages::StatusPage);

// SAFETY: all fields are atomics.
unsafe impl SharedShape for Status {}
