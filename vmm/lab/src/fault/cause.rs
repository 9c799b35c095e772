//! What a fault is: its cause, and the place where it is put.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the table at the head of the folder's `mod.rs` says what each is")]
pub enum Cause {
    Crash,
    Hang,
    Stall,
    LostWakeup,
    SilentTx,
    SilentRx,
    NicRegister,
    Link,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::Hang,
        Self::Stall,
        Self::LostWakeup,
        Self::SilentTx,
        Self::SilentRx,
        Self::NicRegister,
        Self::Link,
    ];

    /// The name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Stall => "stall",
            Self::LostWakeup => "lost-wakeup",
            Self::SilentTx => "silent-tx",
            Self::SilentRx => "silent-rx",
            Self::NicRegister => "nic-register",
            Self::Link => "link",
        }
    }
}

/// Where in the driver a fault is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Site {
    /// The receive path.
    Rx,
    /// The transmit path.
    Tx,
    /// The main loop.
    Loop,
}

impl Site {
    /// All sites.
    pub const ALL: [Self; 3] = [Self::Rx, Self::Tx, Self::Loop];

    /// The function of the driver that is corrupted.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Rx => "domain_rx_path",
            Self::Tx => "domain_tx_path",
            Self::Loop => "domain_loop_turn",
        }
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::Loop => "loop",
        }
    }
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    /// When it was injected, `CLOCK_MONOTONIC` nanoseconds. Faulty code takes effect when the driver
    /// gets there, see [`microvm::domain::Life::fault_reached_ns`].
    pub at_ns: u64,
    /// Where it is: a path of the driver, a register, the cable.
    pub site: &'static str,
}
