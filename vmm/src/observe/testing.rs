//! A made-up system for tests of what shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use super::snapshot::{DomainView, NicView, RingDepths};
use super::{FailoverFacts, Heard, Observer, SystemView};
use crate::clock::monotonic_ns;
use crate::supervisor::{RoleState, SystemState};

/// Two domains whose roles a test sets.
pub(crate) struct FakeSystem {
    roles: Mutex<[(RoleState, u32); 2]>,
}

impl FakeSystem {
    /// An observed system, `a` active and `b` standing by.
    pub(crate) fn observed() -> (Arc<Self>, Observer) {
        let roles = Mutex::new([(RoleState::Active, 1), (RoleState::Standby, 1)]);
        let fake = Arc::new(Self { roles });
        let observer = Observer::new(fake.clone());
        for (name, role) in [("a", RoleState::Active), ("b", RoleState::Standby)] {
            let at_ns = monotonic_ns();
            observer.recorder.hear(Heard::Ready { domain: name.into(), role, at_ns });
        }
        (fake, observer)
    }

    /// Lets a domain crash and the other one take over; `detect_us` before now.
    pub(crate) fn crash(&self, observer: &Observer, cause: &'static str, detect_us: u64) {
        let mut roles = self.roles.lock().unwrap();
        let from = usize::from(roles[1].0 == RoleState::Active);
        roles[from] = (RoleState::Standby, roles[from].1 + 1);
        roles[1 - from].0 = RoleState::Active;
        let epoch = roles[from].1 - 1;
        drop(roles);
        let names = ["a", "b"];
        let now_ns = monotonic_ns();
        observer.recorder.hear(Heard::Failover(FailoverFacts {
            from: names[from].into(),
            epoch,
            was_active: true,
            to: Some(names[1 - from].into()),
            cause,
            evidence: "invalid opcode at 0x41234 <domain_rx_path+0x14>".into(),
            entered_ns: now_ns - detect_us * 1000,
            verdict_ns: now_ns,
            released_ns: now_ns + 60_000,
            first_sent_ns: Some(now_ns + 310_000),
            resent: 2,
            poisoned: 0,
            salvaged: 1,
            epitaph: "invalid opcode".into(),
        }));
        let domain = names[from].into();
        let ready = Heard::Ready { domain, role: RoleState::Standby, at_ns: now_ns + 14_000_000 };
        observer.recorder.hear(ready);
    }
}

impl SystemView for FakeSystem {
    fn name(&self) -> &str {
        "fake"
    }

    fn policy(&self) -> &str {
        "fast-spare"
    }

    fn is_realtime(&self) -> bool {
        true
    }

    fn domains(&self) -> Vec<DomainView> {
        let roles = *self.roles.lock().unwrap();
        let counted = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
        };
        let view = |(name, (role, epoch)): (&str, (RoleState, u32))| DomainView {
            name: name.into(),
            role,
            epoch,
            healthy: true,
            nic: NicView { name: format!("nic-{name}"), link_up: Some(true) },
            heartbeat: monotonic_ns() / 1_000_000,
            parked: role == RoleState::Standby,
            attach: "reattach".into(),
            cpu_seconds: Some(if role == RoleState::Active { 1.5 } else { 0.0 }),
            exits: counted(&[("waits", 100), ("register-stores", 7)]),
            driver: counted(&[("tx_frames", 1000), ("rx_frames", 1001)]),
            rings: RingDepths { tx_post: 1, tx_done: 0, rx_provide: 512, rx_done: 2 },
        };
        ["a", "b"].into_iter().zip(roles).map(view).collect()
    }

    fn state(&self) -> SystemState {
        SystemState::Normal
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let now_ms = monotonic_ns() / 1_000_000;
        let counters = [
            ("tx_frames", now_ms),
            ("tx_bytes", now_ms * 90),
            ("rx_frames", now_ms),
            ("rx_bytes", now_ms * 100),
            ("tx_unconfirmed", now_ms % 3),
            ("tx_resent", 2),
        ];
        counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }
}
