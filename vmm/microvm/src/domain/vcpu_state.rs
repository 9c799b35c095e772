//! Where a vCPU thread is.

/// Where a vCPU thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VcpuState {
    /// Has not run yet.
    Starting = 0,
    /// Runs the domain's program.
    InGuest = 1,
    /// Carries out what the domain asked for.
    Serving = 2,
    /// Sleeps until there may be work.
    Parked = 3,
    /// Out of the guest for good.
    Out = 4,
    /// Kept out of the guest for a while, by a debugger or an injector: no fault of its own.
    Held = 5,
}

impl VcpuState {
    /// The state with this number; an unknown one is [`Self::Out`], which nobody waits for.
    pub(super) fn from_u8(state: u8) -> Self {
        match state {
            0 => Self::Starting,
            1 => Self::InGuest,
            2 => Self::Serving,
            3 => Self::Parked,
            5 => Self::Held,
            _ => Self::Out,
        }
    }
}
