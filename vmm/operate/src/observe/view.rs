//! What observing asks of a running system.

use std::collections::BTreeMap;

use super::snapshot::{AppView, DomainView};
use supervisor::SystemState;

/// A system that can be observed. Every method reads what the data path writes anyway, and takes
/// no lock that a failover needs.
pub(crate) trait SystemView: Send + Sync {
    /// Name of the topology.
    fn name(&self) -> &str;

    /// Name of the policy: `fast-spare`, `spare` or `reboot`.
    fn policy(&self) -> &str;

    /// Returns true if the threads of the failover path run under real-time scheduling.
    fn is_realtime(&self) -> bool;

    /// The domains, in the topology's order.
    fn domains(&self) -> Vec<DomainView>;

    /// The application guests' sockets, in the topology's order.
    fn apps(&self) -> Vec<AppView>;

    /// State of the whole service.
    fn state(&self) -> SystemState;

    /// What became of the frames of each domain's NIC, in the topology's order. Hardware is asked
    /// for it.
    fn nic_counters(&self) -> Vec<BTreeMap<String, u64>> {
        Vec::new()
    }

    /// Counters of the switchboard by name.
    fn counters(&self) -> BTreeMap<String, u64>;
}
