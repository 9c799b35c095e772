//! Every number of a report, against records that are made up here.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::testing::{found, injected, record};
use super::{Folder, FolderError, Report};
use crate::campaign::{Manifest, ResultsError};
use crate::injection::{
    Configuration, FaultKind, FaultSegment, InjectionOutcome as Outcome, InjectionRecord,
};

fn manifest() -> Manifest {
    let manifest = json!({
        "schema": "warmspare.campaign/1",
        "campaign": { "name": "made up", "faults": [{ "code": {} }], "until": { "injections": 9 } },
        "file": "made-up.json",
        "version": "0.0.0",
        "revision": null,
        "image": "00",
        "began": "2000-01-01T00:00:00Z",
        "jobs": 1,
        "machine": { "cpu": "none", "processors": 2, "kernel": "none", "realtime": true },
    });
    serde_json::from_value(manifest).unwrap()
}

fn folder(path: &str, records: Vec<InjectionRecord>) -> Folder {
    Folder { path: path.into(), manifest: manifest(), records, torn_line: None }
}

/// Of each class at least one: 13 attempted, 11 injected, 8 detected.
fn one_of_each() -> Vec<InjectionRecord> {
    let mut corrupted = injected(12, Outcome::Corrupted);
    corrupted.note = Some("a foreign frame".into());
    let mut unrecovered = found(10, Outcome::Unrecovered, "hang", 0.0);
    unrecovered.interruption_us = None;
    let mut stalled = found(4, Outcome::Hang, "hang", 12_000.0);
    stalled.machine_stall_ms = 9.5;
    vec![
        record(1),
        injected(2, Outcome::Masked),
        found(3, Outcome::Crash, "crash", 2000.0),
        stalled,
        found(5, Outcome::Stall, "ring-stall", 9000.0),
        found(6, Outcome::Silence, "silent-transmit", 9900.0),
        found(7, Outcome::Protocol, "protocol", 1500.0),
        found(8, Outcome::Link, "link", 400.0),
        found(9, Outcome::Degraded, "crash", 3000.0),
        unrecovered,
        injected(11, Outcome::SilentFailure),
        corrupted,
        // Without a fault: in no denominator.
        InjectionRecord { outcome: Outcome::FalseFailover, ..record(13) },
    ]
}

#[test]
fn both_denominators_are_counted() {
    let report = Report::of(&[folder("c", one_of_each())]);
    let group = &report.groups[0];
    assert_eq!((group.attempted, group.injected, group.detected), (13, 11, 8));
    assert_eq!(group.label, "fast-spare");
    let count = |p: Option<super::statistics::Proportion>| p.map(|p| (p.count, p.of));
    assert_eq!(count(group.restored), Some((7, 8)));
    assert_eq!(count(group.whole_again), Some((6, 8)));
    assert_eq!(count(group.silent), Some((2, 11)));
    assert_eq!(group.machine_stalled, 1);
    for row in &group.classes {
        assert_eq!((row.class, row.count), (row.class, 1));
        assert_eq!(count(row.of_attempted), Some((1, 13)));
    }
    let of_injected = |class| count(group.class(class).unwrap().of_injected);
    assert_eq!(of_injected(Outcome::NotActivated), None);
    assert_eq!(of_injected(Outcome::Masked), Some((1, 11)));
    assert_eq!(of_injected(Outcome::FalseFailover), Some((0, 11)));
    let of_detected = |class| count(group.class(class).unwrap().of_detected);
    assert_eq!(of_detected(Outcome::Masked), None);
    assert_eq!(of_detected(Outcome::Crash), Some((1, 8)));
    assert_eq!(of_detected(Outcome::Unrecovered), Some((1, 8)));
    assert_eq!(of_detected(Outcome::Corrupted), Some((0, 8)), "nothing detected this one");
    assert_eq!((group.frames.sent, group.frames.lost), (130, 13));
}

#[test]
fn interruptions_are_those_of_services_that_came_back() {
    let report = Report::of(&[folder("c", one_of_each())]);
    let lengths = &report.groups[0].interruption;
    let all = lengths.all.unwrap();
    assert_eq!((all.count, all.min_us, all.p50_us, all.max_us), (7, 400.0, 3000.0, 12_000.0));
    assert_eq!(lengths.without_machine_stalls.unwrap().count, 6);
    let under = lengths.under_10_ms.unwrap();
    assert_eq!((under.count, under.of), (6, 7));
    assert_eq!(lengths.bins_10_ms.iter().map(|bin| bin.count).collect::<Vec<_>>(), [6, 1]);
    assert_eq!(lengths.bins_10_ms[1].stalled, 1);
}

#[test]
fn detectors_have_their_own_times() {
    let report = Report::of(&[folder("c", one_of_each())]);
    let rows = &report.groups[0].detectors;
    let crash = rows.iter().find(|row| row.detector == "crash").unwrap();
    // Numbers 3 and 9: a thousand microseconds each to find, a hundred to switch.
    assert_eq!((crash.count, crash.machine_stalled), (2, 0));
    assert_eq!(crash.detect.map(|q| (q.p50_us, q.max_us)), Some((3000.0, 9000.0)));
    assert_eq!(crash.switch.map(|q| (q.p50_us, q.max_us)), Some((300.0, 900.0)));
    let hang = rows.iter().find(|row| row.detector == "hang").unwrap();
    assert_eq!((hang.count, hang.machine_stalled), (2, 1));
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 8);
}

#[test]
fn the_papers_columns_are_filled_by_what_detected_it() {
    let report = Report::of(&[folder("c", one_of_each())]);
    let row = report.paper_table.iter().find(|row| row.source == "measured").unwrap();
    assert_eq!((row.kind.as_str(), row.injected), ("code", 11));
    let of_eleven = |share: f64| (share * 11.0).round() as u64;
    // Crash: crash, protocol, and the degraded one, which a crash had found.
    assert_eq!(of_eleven(row.crash), 3);
    assert_eq!(of_eleven(row.hang), 5);
    assert_eq!(of_eleven(row.silent), 2);
    assert_eq!(of_eleven(row.not_manifested), 1);
    assert_eq!(row.restored, Some(7.0 / 8.0));
    assert_eq!(report.paper_table.iter().filter(|row| row.source == "paper").count(), 5);
}

#[test]
fn where_no_recovery_is_tried_none_has_failed() {
    let mut unrecovered = found(1, Outcome::Unrecovered, "crash", 0.0);
    unrecovered.configuration = Configuration::None;
    unrecovered.interruption_us = None;
    let report = Report::of(&[folder("c", vec![unrecovered])]);
    let group = &report.groups[0];
    assert_eq!((group.detected, group.restored, group.whole_again), (1, None, None));
    assert_eq!(report.paper_table[0].crash, 1.0);
    assert_eq!((report.to_look_into, report.worst.len()), (0, 0));
}

#[test]
fn strata_are_by_kind_function_and_segment() {
    let mut records = one_of_each();
    records[2].kind = FaultKind::Data;
    records[2].fault.function = None;
    records[2].fault.segment = FaultSegment::Bss;
    let strata = &Report::of(&[folder("c", records)]).groups[0].strata;
    let row = |rows: &[super::group::Stratum], name: &str| {
        let row = rows.iter().find(|row| row.name == name).unwrap();
        (row.attempted, row.injected, row.detected, row.masked, row.silent)
    };
    assert_eq!(row(&strata.kind, "code"), (12, 10, 7, 1, 2));
    assert_eq!(row(&strata.kind, "data"), (1, 1, 1, 0, 0));
    assert_eq!(row(&strata.segment, "bss"), (1, 1, 1, 0, 0));
    assert_eq!(row(&strata.function, "made_up"), (12, 10, 7, 1, 2));
    assert_eq!(row(&strata.function, "-"), (1, 1, 1, 0, 0));
}

#[test]
fn the_worst_come_by_severity_and_then_by_interruption() {
    let report = Report::of(&[folder("my runs", one_of_each())]);
    assert_eq!(report.to_look_into, 5);
    let ids: Vec<_> = report.worst.iter().map(|row| row.id).collect();
    assert_eq!(ids, [12, 11, 10, 13, 9, 4, 6, 5, 3, 7, 8]);
    let first = &report.worst[0];
    assert_eq!(first.replay, "warmspare campaign replay 'my runs' 12");
    assert_eq!((first.place.as_str(), first.change.as_str()), ("made_up+0xc", "byte 1 bit 3"));
    assert_eq!(first.note.as_deref(), Some("a foreign frame"));
    assert_eq!(report.worst[5].machine_stall_ms, 9.5);
}

#[test]
fn no_more_than_twenty_are_shown() {
    let many = (1..=50).map(|id| found(id, Outcome::Crash, "crash", id as f64)).collect();
    let report = Report::of(&[folder("c", many)]);
    let ids: Vec<_> = report.worst.iter().map(|row| row.id).collect();
    assert_eq!(ids, (31..=50).rev().collect::<Vec<_>>());
}

#[test]
fn campaigns_and_configurations_stand_side_by_side() {
    let mut spare = found(2, Outcome::Crash, "crash", 3000.0);
    spare.configuration = Configuration::Spare;
    let both = vec![found(1, Outcome::Crash, "crash", 2000.0), spare];
    let one = vec![found(1, Outcome::Crash, "crash", 2000.0)];
    let folders = [folder("a/x", both), folder("b/y", one.clone()), folder("c/y", one)];
    let report = Report::of(&folders);
    let labels: Vec<_> = report.groups.iter().map(|group| group.label.as_str()).collect();
    assert_eq!(labels, ["x fast-spare", "x spare", "b/y fast-spare", "c/y fast-spare"]);
    assert!(report.text().contains("side by side"));
    assert!(report.html().contains("Side by side"));
}

#[test]
fn text_fits_a_terminal_of_a_hundred_columns() {
    let mut long = one_of_each();
    long[2].fault.function = Some("a::very::long::name".repeat(9));
    let folders = [folder("a", long), folder("b", one_of_each())];
    let text = Report::of(&folders).text();
    for line in text.lines().filter(|line| !line.contains("campaign replay")) {
        assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
    }
    assert!(text.contains("13 attempted, 11 injected (activated), 8 detected"), "{text}");
    assert!(text.contains("warmspare campaign replay a 12"));
    assert!(text.contains("░ 1 stalled"), "machine stalls are marked");
}

#[test]
fn the_page_is_one_file_and_has_the_same_numbers() {
    let mut records = one_of_each();
    records[11].note = Some("<script>alert(1)</script>".into());
    let html = Report::of(&[folder("c", records)]).html();
    assert!(html.contains("Service back after 7 of 8 detected failures"));
    assert!(html.contains("5 outcomes need a closer look"));
    assert!(html.contains("warmspare campaign replay c 12"));
    assert!(html.contains("&lt;script&gt;alert(1)"));
    assert_eq!(html.matches("<script>").count(), 1, "our own");
    for foreign in ["http://", "https://", "src=", "@import", "url(h"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn keys_of_the_json_are_stable() {
    let text = Report::of(&[folder("c", one_of_each())]).json().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(json["schema"], "warmspare.report/1");
    assert_eq!(keys(&json), "campaigns confidence groups paper_table schema to_look_into worst");
    assert_eq!(
        keys(&json["groups"][0]),
        "attempted classes configuration detected detectors folder frames injected interruption \
         label machine_stalled restored silent strata whole_again"
    );
    assert_eq!(keys(&json["groups"][0]["restored"]), "count high low of share");
    assert_eq!(
        keys(&json["groups"][0]["interruption"]),
        "all bins_10_ms bins_500_us under_10_ms without_machine_stalls"
    );
    assert_eq!(json["groups"][0]["classes"][10]["class"], "silent-failure");
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warmspare-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("campaign.json"), json!(manifest()).to_string()).unwrap();
        Self(path)
    }

    fn load(&self, injections: &str) -> Result<Folder, FolderError> {
        std::fs::write(self.0.join("injections.jsonl"), injections).unwrap();
        Folder::load(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn lines(records: &[InjectionRecord]) -> String {
    records.iter().map(|record| json!(record).to_string() + "\n").collect()
}

#[test]
fn lengths_beyond_all_reason_end_in_a_page() {
    let mut records = vec![found(1, Outcome::Crash, "crash", 1.7e308)];
    records.push(found(2, Outcome::Crash, "crash", f64::MAX));
    for record in &mut records {
        record.frames.sent = u64::MAX;
    }
    let report = Report::of(&[folder("c", records)]);
    assert!(report.html().contains("</svg>"));
    assert_eq!(report.groups[0].frames.sent, u64::MAX);
}

#[test]
fn a_folder_is_read_as_it_was_written() {
    let scratch = Scratch::new("read");
    let records = one_of_each();
    let folder = scratch.load(&lines(&records)).unwrap();
    assert_eq!((folder.records, folder.torn_line), (records, None));
}

#[test]
fn a_torn_last_line_is_left_out_and_told() {
    let scratch = Scratch::new("torn");
    let text = lines(&one_of_each());
    for cut in 0..40 {
        let folder = scratch.load(&text[..text.len() - 1 - cut]).unwrap();
        assert_eq!((folder.records.len(), folder.torn_line), (12, Some(13)));
        assert!(folder.warning().unwrap().contains("injections.jsonl:13: "));
    }
}

#[test]
fn whatever_else_is_wrong_is_told_with_its_place() {
    let scratch = Scratch::new("wrong");
    let good = lines(&one_of_each());
    let says = |text: &str| scratch.load(text).unwrap_err().to_string();
    let middle = says(&good.replacen("{\"", "{", 1));
    assert!(middle.contains("injections.jsonl:1: "), "{middle}");
    let schema = says(&good.replacen("injection/1", "injection/9", 1));
    assert!(schema.contains("`warmspare.injection/9`"), "{schema}");
    let strange = says("{\"schema\":\"other/1\"}\n");
    assert!(strange.contains("`other/1`"), "{strange}");
    let twice = says(&(good.clone() + good.lines().next().unwrap() + "\n"));
    assert!(twice.contains("14: injection 1 stands in line 1"), "{twice}");
    assert!(matches!(scratch.load(""), Err(FolderError::Empty(_))));
    assert!(matches!(scratch.load("{\"sch"), Err(FolderError::Empty(_))), "a torn line alone");
    assert!(matches!(Folder::load(Path::new("/no/such")), Err(FolderError::Missing(_))));
    std::fs::remove_file(scratch.0.join("campaign.json")).unwrap();
    assert!(matches!(scratch.load(&good), Err(FolderError::Results(ResultsError::Missing(_)))));
}

fn any_record() -> impl Strategy<Value = InjectionRecord> {
    let outcome = proptest::sample::select(Outcome::ALL.to_vec());
    let configurations = [
        Configuration::FastSpare,
        Configuration::Spare,
        Configuration::Reboot,
        Configuration::None,
    ];
    let configuration = proptest::sample::select(configurations.to_vec());
    let kind = proptest::sample::select(vec![FaultKind::Code, FaultKind::Data, FaultKind::Device]);
    let length = proptest::option::of(0.0_f64..1e7);
    (outcome, configuration, kind, any::<bool>(), any::<bool>(), length).prop_map(
        |(outcome, configuration, kind, activated, verdict, interruption_us)| {
            let found = found(1, outcome, "crash", 0.0);
            let verdict = found.verdict.clone().filter(|_| verdict);
            InjectionRecord { activated, configuration, kind, verdict, interruption_us, ..found }
        },
    )
}

proptest! {
    /// Whatever is recorded, possible or not: classes are all, and each part is a part of the whole.
    #[test]
    fn classes_sum_up(mut records in proptest::collection::vec(any_record(), 1..60)) {
        (1..).zip(&mut records).for_each(|(id, record)| record.id = id);
        let all = records.len() as u64;
        let report = Report::of(&[folder("c", records)]);
        prop_assert_eq!(report.groups.iter().map(|group| group.attempted).sum::<u64>(), all);
        for group in &report.groups {
            let sum = |of: fn(&super::group::ClassRow) -> u64| -> u64 {
                group.classes.iter().map(of).sum()
            };
            prop_assert_eq!(sum(|row| row.count), group.attempted);
            prop_assert_eq!(sum(|row| row.of_injected.map_or(0, |p| p.count)), group.injected);
            prop_assert_eq!(sum(|row| row.of_detected.map_or(0, |p| p.count)), group.detected);
            for strata in [&group.strata.kind, &group.strata.function, &group.strata.segment] {
                prop_assert_eq!(strata.iter().map(|s| s.attempted).sum::<u64>(), group.attempted);
                prop_assert_eq!(strata.iter().map(|s| s.injected).sum::<u64>(), group.injected);
                prop_assert_eq!(strata.iter().map(|s| s.detected).sum::<u64>(), group.detected);
            }
            let found: u64 = group.detectors.iter().map(|row| row.count).sum();
            prop_assert_eq!(found, group.detected);
            prop_assert!(group.detected <= group.injected && group.injected <= group.attempted);
        }
        for row in report.paper_table {
            let sum = row.crash + row.hang + row.silent + row.not_manifested + row.false_failover;
            prop_assert!((sum - 1.0).abs() < 0.0015, "{}: {}", row.configuration, sum);
        }
    }
}
