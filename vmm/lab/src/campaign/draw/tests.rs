//! Tests of the list of faults.

use std::collections::HashSet;

use shared_ring::layout as map;

use super::super::manifest::ProfiledFunction;
use super::*;
use crate::injection::FaultSegment;

fn target() -> Arc<Target> {
    Arc::new(Target::new(guest_images::DRIVER_DOMAIN).unwrap())
}

fn spec(text: &str) -> CampaignSpec {
    CampaignSpec::parse("test", text).unwrap()
}

fn faults(text: &str) -> FaultList {
    let function = ProfiledFunction { name: "domain_rx_path".into(), samples: 1, bytes: 1 };
    let profile = Profile { functions: vec![function], ..Profile::default() };
    FaultList::new(&spec(text), target(), Some(&profile)).unwrap()
}

const ALL_KINDS: &str = r#"{
    "seed": 7, "until": {"injections": 100}, "configurations": ["fast-spare", "reboot"],
    "faults": [
        {"code": {"weight": 3}}, {"register": {"rip": true, "rflags": true}}, {"data": {}},
        {"device": {}}, {"mutation": {"weight": 2}}
    ]
}"#;

#[test]
fn the_same_seed_gives_the_same_list() {
    let (one, other) = (faults(ALL_KINDS), faults(ALL_KINDS));
    for id in 1..400 {
        assert_eq!(one.injection(id), other.injection(id));
    }
    let unlike = faults(&ALL_KINDS.replace("\"seed\": 7", "\"seed\": 8"));
    let differs = |id: &u64| one.injection(*id).fault != unlike.injection(*id).fault;
    assert!((1..100).filter(differs).count() > 90);
}

#[test]
fn each_configuration_gets_the_same_faults() {
    let faults = faults(ALL_KINDS);
    for id in (1..200).step_by(2) {
        let (spare, reboot) = (faults.injection(id), faults.injection(id + 1));
        assert_eq!((spare.fault, spare.moment_us), (reboot.fault, reboot.moment_us));
        assert_eq!(spare.configuration, Configuration::FastSpare);
        assert_eq!(reboot.configuration, Configuration::Reboot);
    }
}

#[test]
fn a_round_has_each_kind_as_often_as_its_weight() {
    let faults = faults(ALL_KINDS);
    for round in 0..20 {
        let kinds: Vec<_> =
            (0..8).map(|n| faults.injection(1 + 2 * (8 * round + n)).kind).collect();
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!(count(FaultKind::Code), 3);
        assert_eq!(count(FaultKind::Mutation), 2);
        assert_eq!(count(FaultKind::Register), 1);
        assert_eq!(count(FaultKind::Data), 1);
        assert_eq!(count(FaultKind::Device), 1);
    }
}

#[test]
fn every_byte_in_turn_is_every_byte() {
    let faults = faults(
        r#"{"until": {"injections": 1},
            "faults": [{"code": {"functions": {"named": ["domain_tx_path"]}, "order": "each"}}]}"#,
    );
    let len = target().function("domain_tx_path").unwrap().len;
    let place = |id| {
        let fault = faults.injection(id).fault;
        fault.address.unwrap() + u64::from(fault.byte.unwrap())
    };
    let hit: HashSet<u64> = (1..=len).map(place).collect();
    assert_eq!(hit.len() as u64, len);
}

#[test]
fn data_faults_lie_in_the_segments_asked_for() {
    let faults = faults(
        r#"{"until": {"injections": 1}, "faults": [{"data": {"segments": ["status", "stack"]}}]}"#,
    );
    for id in 1..100 {
        let fault = faults.injection(id).fault;
        let range = match fault.segment {
            FaultSegment::Status => map::STATUS_BASE..map::STATUS_BASE + map::PAGE_BYTES,
            FaultSegment::Stack => map::STACK_BASE..map::STACK_TOP,
            other => panic!("{other:?} was not asked for"),
        };
        assert!(range.contains(&fault.address.unwrap()));
    }
}

#[test]
fn an_unknown_function_is_named() {
    let spec = spec(
        r#"{"until": {"injections": 1},
            "faults": [{"code": {"functions": {"named": ["domain_xy_path"]}}}]}"#,
    );
    let error = FaultList::new(&spec, target(), None).err().unwrap();
    assert!(error.to_string().contains("`domain_xy_path`"), "{error}");
}

#[test]
fn the_examples_are_sound() {
    for text in [
        include_str!("../../../../../examples/campaign-smoke.json"),
        include_str!("../../../../../examples/campaign-code-and-register.json"),
    ] {
        CampaignSpec::parse("an example", text).unwrap();
    }
}
