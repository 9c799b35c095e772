use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use RoleEvent::{Fault, GiveUp, Ready, Rebuild, Retire, TakeOver};

/// How long the table may be locked by somebody else.
const PATIENCE: Duration = Duration::from_secs(5);

fn table() -> DomainTable {
    DomainTable::new(2, Limits::default()).unwrap()
}

/// Counts what is logged, and makes sure that the table is not locked then.
#[derive(Clone)]
struct Log {
    table: Arc<DomainTable>,
    lines: Arc<AtomicUsize>,
    text: Arc<Mutex<String>>,
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let (table, (tell, told)) = (self.table.clone(), channel());
        std::thread::spawn(move || {
            drop(table.lock());
            tell.send(())
        });
        told.recv_timeout(PATIENCE)
            .expect("the table must not be locked while something is logged");
        let mut text = self.text.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        self.lines.fetch_add(1, Ordering::SeqCst);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_change_is_published_when_the_lock_is_released() {
    let table = table();
    let mut locked = table.lock();
    for event in [Rebuild, Ready, TakeOver] {
        locked.step(1, event).unwrap();
    }
    locked[1].standing.proof = Proof::Failed;
    assert_eq!(table.published(1), table.published(0));
    drop(locked);
    let expected = Published {
        role: RoleState::Active,
        epoch: 1,
        proof: Proof::Failed,
        aside: false,
        held_until_ns: 0,
    };
    assert_eq!(table.published(1), expected);
    assert_eq!(table.published(0).role, RoleState::Failed);
}

#[test]
fn each_life_has_an_epoch_of_its_own_and_owes_a_drill() {
    let table = table();
    let mut locked = table.lock();
    for epoch in 1..4 {
        locked[0].standing.drilled(None);
        locked.step(0, Rebuild).unwrap();
        assert_eq!(locked[0].epoch(), epoch);
        assert!(locked[0].standing.owes_drill);
        for event in [Ready, TakeOver, Retire, Fault, GiveUp] {
            locked.step(0, event).unwrap();
            assert_eq!(locked[0].epoch(), epoch, "{event:?} begins no life");
        }
    }
}

#[test]
fn a_drill_that_failed_stays_known_through_every_life_until_one_passes() {
    let mut standing = Standing::NEW;
    standing.drilled(Some(Blame::Wire));
    for event in [Rebuild, Ready, TakeOver, Fault, Rebuild, Ready] {
        standing.step(event).unwrap();
        assert_eq!(standing.proof, Proof::Failed, "{event:?}");
    }
    standing.drilled(Some(Blame::Active));
    assert_eq!(standing.proof, Proof::Failed, "nobody was there to answer");
    assert!(standing.drilled(None));
    assert_eq!(standing.proof, Proof::Given);
    standing.drilled(Some(Blame::Active));
    assert_eq!(standing.proof, Proof::Missing);
}

#[test]
fn hardware_has_to_prove_itself_in_each_life_and_after_each_loss_of_its_link() {
    let mut standing = Standing { must_prove: true, ..Standing::NEW };
    standing.step(Rebuild).unwrap();
    assert_eq!(standing.proof, Proof::Missing);
    standing.drilled(None);
    assert_eq!((standing.proof, standing.owes_drill), (Proof::Given, false));
    standing.owe_drill();
    assert_eq!((standing.proof, standing.owes_drill), (Proof::Missing, true));
}

#[test]
fn an_illegal_step_is_refused_and_logged_without_the_lock() {
    let table = Arc::new(table());
    let log = Log { table: table.clone(), lines: Arc::default(), text: Arc::default() };
    let (lines, text) = (log.lines.clone(), log.text.clone());
    tracing::subscriber::with_default(log, || {
        let mut locked = table.lock();
        locked.step(0, Rebuild).unwrap();
        let before = locked[0].standing;

        let refused = locked.step(0, TakeOver);

        let expected = IllegalTransition { state: RoleState::Restarting, event: TakeOver };
        assert_eq!(refused, Err(expected));
        assert_eq!(locked[0].standing, before);
        assert_eq!(lines.load(Ordering::SeqCst), 0, "nothing is logged with the table locked");
    });
    assert_eq!(lines.load(Ordering::SeqCst), 1);
    let text = text.lock().unwrap();
    assert!(text.contains("domain=0"), "{text}");
    assert!(text.contains("a domain that is Restarting has no step TakeOver"), "{text}");
}

#[test]
fn legal_steps_are_not_logged() {
    let table = Arc::new(table());
    let log = Log { table: table.clone(), lines: Arc::default(), text: Arc::default() };
    let lines = log.lines.clone();
    tracing::subscriber::with_default(log, || table.lock().step(0, Rebuild).unwrap());
    assert_eq!(lines.load(Ordering::SeqCst), 0);
}
