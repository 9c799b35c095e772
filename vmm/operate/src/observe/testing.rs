//! A made-up system for tests of what is shown of a system.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use super::observer::Observer;
use super::received_event::{FailoverFacts, ReceivedEvent};
use super::recorder::Recorder;
use super::snapshot::{AppView, DomainView, NicView, RingDepths};
use super::view::SystemView;
use platform::clock::monotonic_ns;
use supervisor::{RoleState, SystemState};

/// Two domains whose roles a test sets.
pub(crate) struct FakeSystem {
    roles: Mutex<[(RoleState, u32); 2]>,
    links: Mutex<[bool; 2]>,
}

const NAMES: [&str; 2] = ["a", "b"];

impl FakeSystem {
    /// An observed system, `a` active and `b` standing by.
    pub(crate) fn observed() -> (Arc<Self>, Observer) {
        let (fake, observer) = Self::failed();
        for (name, role) in [("a", RoleState::Active), ("b", RoleState::Standby)] {
            let at_ns = monotonic_ns();
            fake.report(
                &observer.recorder,
                ReceivedEvent::Ready { domain: name.into(), role, at_ns },
            );
        }
        (fake, observer)
    }

    /// An observed system before anything has happened.
    pub(crate) fn failed() -> (Arc<Self>, Observer) {
        let roles = Mutex::new([(RoleState::Failed, 1); 2]);
        let fake = Arc::new(Self { roles, links: Mutex::new([true; 2]) });
        let observer = Observer::new(fake.clone());
        (fake, observer)
    }

    /// Something happens, and the recorder is told of it.
    pub(crate) fn report(&self, recorder: &Recorder, event: ReceivedEvent) {
        self.happen(&event);
        recorder.record(event);
    }

    /// Something happens, and the recorder is not told of it yet.
    pub(crate) fn happen(&self, event: &ReceivedEvent) {
        let place = |name: &str| NAMES.iter().position(|known| *known == name).unwrap();
        let mut roles = self.roles.lock().unwrap();
        match event {
            ReceivedEvent::Ready { domain, role, .. } => roles[place(domain)].0 = *role,
            ReceivedEvent::Quarantined { domain, .. } => {
                roles[place(domain)].0 = RoleState::Quarantined
            }
            ReceivedEvent::Failover(facts) => {
                let from = &mut roles[place(&facts.from)];
                *from = (RoleState::Failed, from.1 + 1);
                if let Some(to) = &facts.to {
                    roles[place(to)].0 = RoleState::Active;
                }
            }
            ReceivedEvent::Link { nic, up } => {
                self.links.lock().unwrap()[place(nic.trim_start_matches("nic-"))] = *up;
            }
            _ => {}
        }
    }

    /// The active domain crashed `detect_us` ago and was found to have now; the other takes over.
    pub(crate) fn crash(&self, observer: &Observer, cause: &'static str, detect_us: u64) {
        let roles = *self.roles.lock().unwrap();
        let from = usize::from(roles[1].0 == RoleState::Active);
        let epoch = roles[from].1;
        let names = NAMES;
        let now_ns = monotonic_ns();
        let recorder = &observer.recorder;
        self.report(
            recorder,
            ReceivedEvent::Failover(FailoverFacts {
                from: names[from].into(),
                epoch,
                was_active: true,
                to: Some(names[1 - from].into()),
                cause,
                evidence: "invalid opcode at 0x41234 <domain_rx_path+0x14>".into(),
                entered_ns: now_ns - detect_us * 1000,
                felt_ns: now_ns - detect_us * 1000,
                verdict_ns: now_ns,
                released_ns: now_ns + 60_000,
                first_sent_ns: Some(now_ns + 310_000),
                resent: 2,
                poisoned: 0,
                salvaged: 1,
                crash_summary: "invalid opcode".into(),
            }),
        );
        let domain = names[from].into();
        let ready =
            ReceivedEvent::Ready { domain, role: RoleState::Standby, at_ns: now_ns + 14_000_000 };
        self.report(recorder, ready);
    }
}

/// A domain in this role, with its link up or down.
pub(crate) fn domain(name: &str, role: RoleState, link_up: bool) -> DomainView {
    let counted = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    };
    DomainView {
        name: name.into(),
        role,
        epoch: 1,
        healthy: link_up,
        aside: false,
        nic: NicView {
            name: format!("nic-{name}"),
            link_up: Some(link_up),
            counters: BTreeMap::new(),
            present: true,
            trouble: None,
        },
        heartbeat: monotonic_ns() / 1_000_000,
        parked: role == RoleState::Standby,
        attach: "reattach".into(),
        cpu_seconds: Some(if role == RoleState::Active { 1.5 } else { 0.0 }),
        exits: counted(&[("waits", 100), ("register-stores", 7)]),
        driver: counted(&[("tx_frames", 1000), ("rx_frames", 1001)]),
        rings: RingDepths { tx_post: 1, tx_done: 0, rx_provide: 512, rx_done: 2 },
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
        let links = *self.links.lock().unwrap();
        let view =
            |((name, (role, epoch)), link_up)| DomainView { epoch, ..domain(name, role, link_up) };
        NAMES.into_iter().zip(roles).zip(links).map(view).collect()
    }

    fn apps(&self) -> Vec<AppView> {
        let refused = [("pause".to_owned(), 2)].into();
        let (socket, macs) = ("/run/fake.sock".into(), vec!["52:54:00:00:00:09".into()]);
        vec![AppView { socket, connected: true, waiting: 1, macs, refused, ..AppView::default() }]
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
