//! The micro-VM.
