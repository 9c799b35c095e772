//! The model, driven through its registers as a driver would.

mod bench;
mod control;
mod engine;
mod hostile;
mod link;
mod offload;
mod receive;
mod settings;
mod transmit;
