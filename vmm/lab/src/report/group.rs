//! The injections of one campaign under one configuration, counted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::classify::{PaperClass, paper_class};
use super::distribution::{Distribution, Interruption};
use super::format::{NO_NAME, name};
use super::paper::{MEASURED, PaperRow};
use super::statistics::{Proportion, Quantiles};
use crate::injection::{Configuration, FrameCounts, InjectionOutcome, InjectionRecord};

/// The injections of one campaign under one configuration.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Group {
    /// The heading of columns: the configuration, with the campaign where there are several.
    pub(super) label: String,
    /// The campaign's folder.
    pub(super) folder: String,
    /// How the service recovers.
    pub(super) configuration: Configuration,
    /// Injections recorded.
    pub(super) attempted: u64,
    /// Of these, activated: the first denominator.
    pub(super) injected: u64,
    /// Of these, failures that were detected: the second.
    pub(super) detected: u64,
    /// Each class; together they are all that was attempted.
    pub(super) classes: Vec<ClassRow>,
    /// Detected failures after which the service came back; `None` where no recovery is tried.
    pub(super) restored: Option<Proportion>,
    /// Detected failures after which everything was as before, a spare included; `None` where no
    /// recovery is tried.
    pub(super) whole_again: Option<Proportion>,
    /// Of the injected, those that harmed the service or its guest and were not detected.
    pub(super) silent: Option<Proportion>,
    /// Injections during which the machine itself stood still. All other counts include them.
    pub(super) machine_stalled: u64,
    /// Interruptions by detected failures after which the service came back.
    pub(super) interruption: Distribution,
    /// Counts and times by the detector that found the failure.
    pub(super) detectors: Vec<DetectorRow>,
    /// Counts by properties of the fault.
    pub(super) strata: Strata,
    /// Datagrams of all observations.
    pub(super) frames: FrameCounts,
}

/// One class of outcomes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ClassRow {
    /// The class.
    pub(super) class: InjectionOutcome,
    /// Injections in it.
    pub(super) count: u64,
    /// Share of all that were attempted.
    pub(super) of_attempted: Option<Proportion>,
    /// Share of the injected; `None` for a class outside of that denominator.
    pub(super) of_injected: Option<Proportion>,
    /// Share of the detected; `None` for a class outside of that denominator.
    pub(super) of_detected: Option<Proportion>,
}

/// What one detector found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DetectorRow {
    /// The detector's name.
    pub(super) detector: String,
    /// Failures that it found.
    pub(super) count: u64,
    /// From the activation to the verdict.
    pub(super) detect: Option<Quantiles>,
    /// From the verdict to the first frame of the domain that serves then.
    pub(super) switch: Option<Quantiles>,
    /// Of these, while the machine itself stood still.
    pub(super) machine_stalled: u64,
}

/// Counts by properties of the fault.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Strata {
    /// By kind.
    pub(super) kind: Vec<Stratum>,
    /// By function of the driver, most injected first.
    pub(super) function: Vec<Stratum>,
    /// By segment.
    pub(super) segment: Vec<Stratum>,
}

/// Faults that have something in common.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stratum {
    /// What they have in common; `-` where there is no name.
    pub(super) name: String,
    /// Injections recorded.
    pub(super) attempted: u64,
    /// Of these, activated.
    pub(super) injected: u64,
    /// Of these, detected.
    pub(super) detected: u64,
    /// Of the injected, those without any effect.
    pub(super) masked: u64,
    /// Of the injected, those that harmed the service or its guest undetected.
    pub(super) silent: u64,
    /// Share of the injected that were detected.
    pub(super) detected_of_injected: Option<Proportion>,
    /// Of the detected, those after which the service came back.
    pub(super) restored: Option<Proportion>,
    /// The interruptions that these caused.
    pub(super) interruption: Option<Quantiles>,
}

type Records<'a> = Vec<&'a InjectionRecord>;

fn count(records: &[&InjectionRecord], is: impl Fn(&InjectionRecord) -> bool) -> u64 {
    records.iter().filter(|record| is(record)).count() as u64
}

fn stalled(record: &InjectionRecord) -> bool {
    record.machine_stall_ms > 0.0
}

/// A share of detected failures; `None` where no recovery is tried, so that none can fail.
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
    pub(super) fn of(
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
    pub(super) fn class(&self, class: InjectionOutcome) -> Option<&ClassRow> {
        self.classes.iter().find(|row| row.class == class)
    }
}

impl ClassRow {
    /// Returns true if the class is worth a line: it occurred, or it is one that should not occur.
    pub(super) fn is_shown(&self) -> bool {
        self.count > 0 || self.class.is_bad()
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
        let by = |property: &dyn Fn(&InjectionRecord) -> String| {
            let mut groups: BTreeMap<String, Records<'_>> = BTreeMap::new();
            for record in records {
                groups.entry(property(record)).or_default().push(record);
            }
            let row =
                |(name, records): (_, Records<'_>)| Stratum::of(configuration, name, &records);
            let mut rows: Vec<_> = groups.into_iter().map(row).collect();
            rows.sort_by_key(|row| std::cmp::Reverse(row.injected));
            rows
        };
        Self {
            kind: by(&|record| name(&record.kind)),
            function: by(&|record| record.fault.function.clone().unwrap_or_else(|| NO_NAME.into())),
            segment: by(&|record| name(&record.fault.segment)),
        }
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

/// Rows in the form of the paper's table: one for each kind of fault that was injected.
pub(super) fn paper_rows(
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
        let share =
            |class| count(&records, |r| paper_class(r) == Some(class)) as f64 / injected as f64;
        let stratum = Stratum::of(configuration, String::new(), &records);
        let distribution = interruptions(&records);
        PaperRow {
            source: MEASURED,
            configuration: label.into(),
            kind: name(&kind),
            injected,
            crash: share(PaperClass::Crash),
            hang: share(PaperClass::Hang),
            silent: share(PaperClass::Silent),
            not_manifested: share(PaperClass::NotManifested),
            false_failover: share(PaperClass::FalseFailover),
            restored: stratum.restored.map(|proportion| proportion.share),
            restored_low: stratum.restored.map(|proportion| proportion.low),
            under_10_ms: distribution.under_10_ms.map(|proportion| proportion.share),
            mean_us: distribution.all.map(|quantiles| quantiles.mean_us),
        }
    };
    by.into_iter().map(row).collect()
}
