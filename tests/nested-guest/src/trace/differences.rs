//! Where the emulated NIC and QEMU's igb may differ, and why.

/// A label of a trace under which the two NICs read differently.
pub(crate) struct Difference {
    /// Name of the trace.
    pub(crate) trace: &'static str,
    /// Label within the trace.
    pub(crate) label: &'static str,
    /// Why the two NICs differ there.
    pub(crate) reason: &'static str,
}

const NO_PADDING: &str = "with TCTL.PSP the i210 pads to 60 bytes, and so does the emulated NIC; \
    QEMU ignores the bit and sends what there is (Linux pads in software)";

/// All expected differences.
pub(crate) const EXPECTED: [Difference; 5] = [
    Difference { trace: "short", label: "59 bytes", reason: NO_PADDING },
    Difference { trace: "short", label: "20 bytes", reason: NO_PADDING },
    Difference {
        trace: "tail-while-off",
        label: "TDT after on",
        reason: "the i210 loses a tail that is written while the queue is off, and so does the \
            emulated NIC; QEMU keeps it, though it sends nothing before the next doorbell",
    },
    Difference {
        trace: "segmentation",
        label: "segment 3",
        reason: "the last segment carries the FIN and PSH of the frame on the i210 and on the \
            emulated NIC; QEMU clears them in every segment",
    },
    Difference {
        trace: "segmentation",
        label: "GPTC",
        reason: "the i210 counts every segment, and so does the emulated NIC; QEMU counts the frame \
            before segmentation: a driver that segments cannot be confirmed by this counter there",
    },
];
