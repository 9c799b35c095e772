//! What all parts of the VMM stand on. It knows nothing of NICs, domains or guests.

pub mod accounts;
pub mod budget;
pub mod checksum;
pub mod clock;
pub mod memory;
pub mod one_line;
pub mod priority_mutex;
pub mod process;
pub mod process_limits;
pub mod readiness;
pub mod realtime;
pub mod signals;
pub mod socket_file;
pub mod stderr;
pub mod user_file;
