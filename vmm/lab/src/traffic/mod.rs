//! The world outside: a sender on the wire that keeps its own books, and the application guest in a
//! process of its own. The demo, the campaigns and the tests take their truth from here.

mod app_process;
mod frame;
mod ledger;
mod sender;

pub use app_process::{AppProcess, PARENT_WATCH_OPTION};
pub use frame::Addresses;
pub use ledger::{Gap, Gaps, Ledger, percentile};
pub use sender::Sender;
