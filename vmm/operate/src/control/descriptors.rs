//! How many open files a running system needs, and how many are left for connections.

use platform::process_limits;
use supervisor::topology::Topology;

/// For what there is once: standard streams, runtime, timers, event file, KVM.
const BASE: u64 = 60;
/// For a domain: its micro-VM, memory, events and NIC, and as many again for the life that is built
/// while the one before is taken down.
const PER_DOMAIN: u64 = 60;
/// For a guest: its socket, the connection, front-ends that wait, memory and rings.
const PER_APP: u64 = 40;
/// Connections that each of the two sockets must be able to have, so that an operator gets through.
const FEWEST_CONNECTIONS: u64 = 8;
/// Most connections of one socket. Streams stay open, so this also bounds subscribers.
const MOST_CONNECTIONS: u64 = 512;

/// Open files that a topology needs.
pub fn needed(topology: &Topology) -> u64 {
    own(topology) + 2 * FEWEST_CONNECTIONS
}

fn own(topology: &Topology) -> u64 {
    BASE + PER_DOMAIN * topology.domains.len() as u64 + PER_APP * topology.apps.len() as u64
}

/// Connections that each of the control socket and the dashboard may have, beside what the system
/// itself needs.
pub(super) fn connections(topology: &Topology) -> usize {
    let limit = process_limits::raise_open_files().unwrap_or(u64::MAX);
    share(limit, own(topology)) as usize
}

fn share(limit: u64, own: u64) -> u64 {
    (limit.saturating_sub(own) / 2).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn connections_leave_the_system_what_it_needs() {
        let own = own(&Topology::demo(Path::new("/tmp/app.sock")));
        assert_eq!(share(u64::MAX, own), MOST_CONNECTIONS);
        let both = 2 * share(1024, own);
        assert!(both + own <= 1024, "{both} connections beside {own}");
        assert_eq!(share(64, own), FEWEST_CONNECTIONS);
    }
}
