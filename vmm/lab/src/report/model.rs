//! The content of a report, in the form that JSON has.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::folder::Folder;
use super::group::{self, Group};
use super::paper::{self, PaperRow};
use super::statistics;
use super::worst::{self, Candidate, WorstRow};
use crate::injection::{Configuration, InjectionRecord};

/// [`Report::schema`] of the reports that this program writes. Keys of this schema stay.
const REPORT_SCHEMA: &str = "warmspare.report/1";

/// Everything that a report holds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub(super) schema: &'static str,
    /// The confidence of all intervals.
    pub(super) confidence: f64,
    /// The campaigns that it is about.
    pub(super) campaigns: Vec<CampaignView>,
    /// One group for each campaign and configuration.
    pub(super) groups: Vec<Group>,
    /// Our figures and the paper's, in the form of the paper's Table III.
    pub(super) paper_table: Vec<PaperRow>,
    /// Injections whose outcome needs a closer look.
    pub(super) to_look_into: u64,
    /// The worst injections, beginning with those.
    pub(super) worst: Vec<WorstRow>,
}

/// A campaign, as a report describes it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CampaignView {
    /// Its folder.
    pub(super) folder: String,
    /// Its name.
    pub(super) name: String,
    /// Its campaign file.
    pub(super) file: String,
    /// Its seed.
    pub(super) seed: u64,
    /// Version of the program that ran it.
    pub(super) version: String,
    /// Revision of the sources, if known.
    pub(super) revision: Option<String>,
    /// When it began, RFC 3339.
    pub(super) began: String,
    /// Worker processes; with more than one, times are not reliable.
    pub(super) jobs: u32,
    /// The machine's CPU.
    pub(super) cpu: String,
    /// Its processors.
    pub(super) processors: u32,
    /// Whether real-time scheduling was permitted.
    pub(super) realtime: bool,
    /// Injections recorded.
    pub(super) recorded: u64,
    /// Whether the last line is incomplete and left out.
    pub(super) torn: bool,
    /// If there is a profile: share of the samples in the chosen functions.
    pub(super) profile_sample_share: Option<f64>,
    /// If there is a profile: share of the driver's code that the chosen functions are.
    pub(super) profile_code_share: Option<f64>,
}

impl CampaignView {
    fn of(folder: &Folder) -> Self {
        let manifest = &folder.manifest;
        Self {
            folder: folder.path.display().to_string(),
            name: manifest.campaign.name.clone(),
            file: manifest.file.clone(),
            seed: manifest.campaign.seed,
            version: manifest.version.clone(),
            revision: manifest.revision.clone(),
            began: manifest.began.clone(),
            jobs: manifest.jobs,
            cpu: manifest.machine.cpu.clone(),
            processors: manifest.machine.processors,
            realtime: manifest.machine.realtime,
            recorded: folder.records.len() as u64,
            torn: folder.torn_line.is_some(),
            profile_sample_share: manifest.profile.as_ref().map(|profile| profile.sample_share),
            profile_code_share: manifest.profile.as_ref().map(|profile| profile.code_share),
        }
    }
}

/// The records of one group, before they are counted.
struct Part<'a> {
    label: String,
    folder: &'a Path,
    configuration: Configuration,
    records: Vec<&'a InjectionRecord>,
}

impl Report {
    /// Makes the report of some folders, in their order.
    pub fn of(folders: &[Folder]) -> Self {
        let parts = parts(folders);
        let rows = parts
            .iter()
            .flat_map(|part| group::paper_rows(&part.label, part.configuration, &part.records));
        let records = || parts.iter().flat_map(|part| part.candidates());
        Self {
            schema: REPORT_SCHEMA,
            confidence: statistics::CONFIDENCE,
            campaigns: folders.iter().map(CampaignView::of).collect(),
            paper_table: rows.chain(paper::rows()).collect(),
            to_look_into: records().filter(|one| one.record.is_bad()).count() as u64,
            worst: worst::worst(records()),
            groups: parts.iter().map(Part::group).collect(),
        }
    }

    /// The report as one line of JSON.
    ///
    /// # Errors
    /// It cannot fail: all keys are strings.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

impl Part<'_> {
    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        let (group, folder) = (self.label.as_str(), self.folder);
        self.records.iter().map(move |record| Candidate { group, folder, record })
    }

    fn group(&self) -> Group {
        let folder = self.folder.display().to_string();
        Group::of(self.label.clone(), folder, self.configuration, &self.records)
    }
}

fn parts(folders: &[Folder]) -> Vec<Part<'_>> {
    let names = names(folders);
    let mut parts = Vec::new();
    for (folder, name) in folders.iter().zip(names) {
        let mut by: BTreeMap<Configuration, Vec<&InjectionRecord>> = BTreeMap::new();
        for record in &folder.records {
            by.entry(record.configuration).or_default().push(record);
        }
        parts.extend(by.into_iter().map(|(configuration, records)| Part {
            label: format!("{name}{}", configuration.name()),
            folder: &folder.path,
            configuration,
            records,
        }));
    }
    parts
}

/// The prefix of each folder's configurations, to tell campaigns apart: nothing for a single one.
fn names(folders: &[Folder]) -> Vec<String> {
    if folders.len() < 2 {
        return vec![String::new(); folders.len()];
    }
    let last = |folder: &Folder| {
        let name = folder.path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_else(|| folder.path.display().to_string())
    };
    let names: Vec<String> = folders.iter().map(last).collect();
    let name = |(n, name): (usize, &String)| {
        if names.iter().filter(|other| *other == name).count() > 1 {
            return format!("{} ", folders[n].path.display());
        }
        format!("{name} ")
    };
    names.iter().enumerate().map(name).collect()
}
