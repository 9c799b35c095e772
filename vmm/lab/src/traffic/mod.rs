//! The world outside of the system: a sender on the wire that counts for itself, and the application
//! guest in a process of its own. The demo, the campaigns and the tests measure here.

mod app_process;
mod frame;
mod ledger;
mod sender;

pub use app_process::{AppProcess, PARENT_WATCH_OPTION};
pub use frame::Addresses;
pub use ledger::{Gap, Gaps, Ledger, percentile};
pub use sender::Sender;
