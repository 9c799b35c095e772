//! The injections of one campaign under one configuration, counted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::distribution::{Distribution, Interruption};
use super::judge;
use super::paper::PaperRow;
use super::statistics::{Proportion, Quantiles};
use crate::injection::{Configuration, FrameCounts, InjectionOutcome, InjectionRecord};

/// What a stratum without a name is called.
const NO_NAME: &str = "-";

/// All of one campaign under one configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// As it stands over columns: the configuration, with the campaign where there are several.
    pub label: String,
    /// The campaign's folder.
    pub folder: String,
    /// How the service recovers.
    pub configuration: Configuration,
    /// Injections recorded.
    pub attempted: u64,
    /// Of these, activated: the first denominator.
    pub injected: u64,
    /// Of these, failures that were detected: the second.
    pub detected: u64,
    /// Each class; together they are all that was attempted.
    pub classes: Vec<ClassRow>,
    /// Detected failures after which the service came back; `None` where no recovery is tried.
    pub restored: Option<Proportion>,
    /// Detected failures after which all was as before, a spare included; likewise.
    pub whole_again: Option<Proportion>,
    /// Of the injected, those that harmed the service or its guest and were not detected.
    pub silent: Option<Proportion>,
    /// Injections during which the machine itself stood still. They count everywhere.
    pub machine_stalled: u64,
    /// Interruptions by detected failures after which the service came back.
    pub interruption: Distribution,
    /// By the detector that found the failure.
    pub detectors: Vec<DetectorRow>,
    /// By the nature of the fault.
    pub strata: Strata,
    /// Datagrams of all observations.
    pub frames: FrameCounts,
}

/// One class of outcomes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClassRow {
    /// The class.
    pub class: InjectionOutcome,
    /// Injections in it.
    pub count: u64,
    /// Share of all that were attempted.
    pub of_attempted: Option<Proportion>,
    /// Share of the injected; `None` for a class outside of that denominator.
    pub of_injected: Option<Proportion>,
    /// Share of the detected; likewise.
    pub of_detected: Option<Proportion>,
}

/// What one detector found.
#[derive(Clone, Debug, Serialize)]
pub struct DetectorRow {
    /// Its name.
    pub detector: String,
    /// Failures that it found.
    pub count: u64,
    /// From the activation to the verdict.
    pub detect: Option<Quantiles>,
    /// From the verdict to the first frame of the domain that serves then.
    pub switch: Option<Quantiles>,
    /// Of these, while the machine itself stood still.
    pub machine_stalled: u64,
}

/// The same counts, by properties of the fault.
#[derive(Clone, Debug, Serialize)]
pub struct Strata {
    /// By kind.
    pub kind: Vec<Stratum>,
    /// By function of the driver, most injected first.
    pub function: Vec<Stratum>,
    /// By segment.
    pub segment: Vec<Stratum>,
}

/// Faults that have something in common.
#[derive(Clone, Debug, Serialize)]
pub struct Stratum {
    /// What they have in common; `-` where there is no name.
    pub name: String,
    /// Injections recorded.
    pub attempted: u64,
    /// Of these, activated.
    pub injected: u64,
    /// Of these, detected.
    pub detected: u64,
    /// Of the injected, those of which nothing came.
    pub masked: u64,
    /// Of the injected, those that harmed the service or its guest undetected.
    pub silent: u64,
    /// Share of the injected that were detected.
    pub detected_of_injected: Option<Proportion>,
    /// Of the detected, those after which the service came back.
    pub restored: Option<Proportion>,
    /// Interruptions by these.
    pub interruption: Option<Quantiles>,
}

type Records<'a> = Vec<&'a InjectionRecord>;

fn count(records: &[&InjectionRecord], is: impl Fn(&InjectionRecord) -> bool) -> u64 {
    records.iter().filter(|record| is(record)).count() as u64
}

fn stalled(record: &InjectionRecord) -> bool {
    record.machine_stall_ms > 0.0
}

/// Where nothing is tried, nothing can fail.
fn of_tried(configuration: Configuration, count: u64, detected: u64) -> Option<Proportion> {
    (configuration != Configuration::None).then(|| Proportion::new(count, detected)).flatten()
}

fn interruptions(records: &[&InjectionRecord]) -> Distribution {
    let restored = records.iter().filter(|record| record.is_restored());
    Distribution::of(restored.filter_map(|record| {
        Some(Interruption { us: record.interruption_us?, stalled: stalled(record) })
    }))
}

impl Group {
    /// Counts records that have the folder and the configuration in common.
    pub fn of(
        label: String,
        folder: String,
        configuration: Configuration,
        records: &[&InjectionRecord],
    ) -> Self {
        let (injected, detected) = (
            count(records, InjectionRecord::is_injected),
            count(records, InjectionRecord::is_detected),
        );
        let tried = |count| of_tried(configuration, count, detected);
        Self {
            label,
            folder,
            configuration,
            attempted: records.len() as u64,
            injected,
            detected,
            classes: InjectionOutcome::ALL.map(|class| class_row(class, records)).to_vec(),
            restored: tried(count(records, InjectionRecord::is_restored)),
            whole_again: tried(count(records, |record| record.outcome.is_recovered())),
            silent: Proportion::new(count(records, InjectionRecord::is_silent), injected),
            machine_stalled: count(records, stalled),
            interruption: interruptions(records),
            detectors: detectors(records),
            strata: Strata::of(configuration, records),
            frames: frames(records),
        }
    }

    /// The counts of one class.
    pub fn class(&self, class: InjectionOutcome) -> Option<&ClassRow> {
        self.classes.iter().find(|row| row.class == class)
    }
}

fn class_row(class: InjectionOutcome, records: &[&InjectionRecord]) -> ClassRow {
    let of = |is: fn(&InjectionRecord) -> bool| {
        let inside = count(records, |record| record.outcome == class && is(record));
        Proportion::new(inside, count(records, is))
    };
    ClassRow {
        class,
        count: count(records, |record| record.outcome == class),
        of_attempted: of(|_| true),
        of_injected: of(InjectionRecord::is_injected)
            .filter(|_| class != InjectionOutcome::NotActivated),
        of_detected: of(InjectionRecord::is_detected).filter(|_| class.can_be_detected()),
    }
}

fn detectors(records: &[&InjectionRecord]) -> Vec<DetectorRow> {
    let mut by: BTreeMap<&str, Records<'_>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_detected()) {
        let name = record.verdict.as_ref().map_or(NO_NAME, |verdict| verdict.cause.as_str());
        by.entry(name).or_default().push(record);
    }
    let row = |(name, found): (&str, Records<'_>)| {
        let verdicts = || found.iter().filter_map(|record| record.verdict.as_ref());
        DetectorRow {
            detector: name.into(),
            count: found.len() as u64,
            detect: Quantiles::of(verdicts().map(|verdict| verdict.detect_us)),
            switch: Quantiles::of(verdicts().filter_map(|verdict| verdict.switch_us)),
            machine_stalled: count(&found, stalled),
        }
    };
    let mut rows: Vec<_> = by.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}

impl Strata {
    fn of(configuration: Configuration, records: &[&InjectionRecord]) -> Self {
        let by = |name: &dyn Fn(&InjectionRecord) -> String| {
            let mut groups: BTreeMap<String, Records<'_>> = BTreeMap::new();
            for record in records {
                groups.entry(name(record)).or_default().push(record);
            }
            let row =
                |(name, records): (_, Records<'_>)| Stratum::of(configuration, name, &records);
            let mut rows: Vec<_> = groups.into_iter().map(row).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.injected));
            rows
        };
        Self {
            kind: by(&|record| word(&record.kind)),
            function: by(&|record| record.fault.function.clone().unwrap_or_else(|| NO_NAME.into())),
            segment: by(&|record| word(&record.fault.segment)),
        }
    }
}

/// A name as it stands in files.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => NO_NAME.into(),
    }
}

impl Stratum {
    fn of(configuration: Configuration, name: String, records: &[&InjectionRecord]) -> Self {
        let (injected, detected) = (
            count(records, InjectionRecord::is_injected),
            count(records, InjectionRecord::is_detected),
        );
        let restored = count(records, InjectionRecord::is_restored);
        Self {
            name,
            attempted: records.len() as u64,
            injected,
            detected,
            masked: count(records, |record| record.outcome == InjectionOutcome::Masked),
            silent: count(records, InjectionRecord::is_silent),
            detected_of_injected: Proportion::new(detected, injected),
            restored: of_tried(configuration, restored, detected),
            interruption: interruptions(records).all,
        }
    }
}

fn frames(records: &[&InjectionRecord]) -> FrameCounts {
    records.iter().fold(FrameCounts::default(), |sum, record| FrameCounts {
        sent: sum.sent.saturating_add(record.frames.sent),
        received: sum.received.saturating_add(record.frames.received),
        lost: sum.lost.saturating_add(record.frames.lost),
        duplicated: sum.duplicated.saturating_add(record.frames.duplicated),
        corrupted: sum.corrupted.saturating_add(record.frames.corrupted),
    })
}

/// Rows in the manner of the paper: one for each kind of fault that was injected.
pub fn paper_rows(
    label: &str,
    configuration: Configuration,
    records: &[&InjectionRecord],
) -> Vec<PaperRow> {
    let mut by: BTreeMap<_, Records<'_>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_injected()) {
        by.entry(record.kind).or_default().push(record);
    }
    let row = |(kind, records): (_, Records<'_>)| {
        let injected = records.len() as u64;
        let share = |class| {
            count(&records, |r| judge::paper_class(r) == Some(class)) as f64 / injected as f64
        };
        let stratum = Stratum::of(configuration, String::new(), &records);
        let distribution = interruptions(&records);
        PaperRow {
            source: "measured",
            configuration: label.into(),
            kind: word(&kind),
            injected,
            crash: share(judge::PaperClass::Crash),
            hang: share(judge::PaperClass::Hang),
            silent: share(judge::PaperClass::Silent),
            not_manifested: share(judge::PaperClass::NotManifested),
            false_failover: share(judge::PaperClass::FalseFailover),
            restored: stratum.restored.map(|proportion| proportion.share),
            restored_low: stratum.restored.map(|proportion| proportion.low),
            under_10_ms: distribution.under_10_ms.map(|proportion| proportion.share),
            mean_us: distribution.all.map(|quantiles| quantiles.mean_us),
        }
    };
    by.into_iter().map(row).collect()
}
