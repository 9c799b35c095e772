//! `warmspare report`: what campaigns say, and how sure one may be of it.
//!
//! ```text
//!  folder ──▶ group (judge, statistics, distribution) ──▶ Report ─┬▶ text
//!  paper ───────────────────────────────────────────────▶         ├▶ JSON
//!  worst ───────────────────────────────────────────────▶         └▶ html (plot)
//! ```
//!
//! Nothing is left out of a count because it looks odd: interruptions during which the machine
//! itself stood still are marked and stay in.

pub mod distribution;
pub mod folder;
pub mod group;
mod html;
pub mod judge;
mod markup;
pub mod paper;
mod plot;
pub mod statistics;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod words;
pub mod worst;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::injection::{Configuration, InjectionRecord};
pub use folder::{Folder, FolderError};
use group::Group;
use paper::PaperRow;
use worst::WorstRow;

/// [`Report::schema`] of the reports that this program writes. Keys of this schema stay.
pub const REPORT_SCHEMA: &str = "warmspare.report/1";

/// Everything there is to say about some campaigns.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// How sure each interval is to hold the true share.
    pub confidence: f64,
    /// The campaigns.
    pub campaigns: Vec<CampaignView>,
    /// One for each campaign and configuration.
    pub groups: Vec<Group>,
    /// Ours and the paper's, in the manner of the paper's Table III.
    pub paper_table: Vec<PaperRow>,
    /// Injections whose outcome asks to be looked into.
    pub to_look_into: u64,
    /// The worst injections, these first.
    pub worst: Vec<WorstRow>,
}

/// What a campaign is.
#[derive(Clone, Debug, Serialize)]
pub struct CampaignView {
    /// Its folder.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// Its campaign file.
    pub file: String,
    /// Its seed.
    pub seed: u64,
    /// Version of the program that ran it.
    pub version: String,
    /// Revision of the sources, if known.
    pub revision: Option<String>,
    /// When it began, RFC 3339.
    pub began: String,
    /// Worker processes; with more than one, times say little.
    pub jobs: u32,
    /// The machine's CPU.
    pub cpu: String,
    /// Its processors.
    pub processors: u32,
    /// Whether real-time scheduling was permitted.
    pub realtime: bool,
    /// Injections recorded.
    pub recorded: u64,
    /// Whether the last line was torn and is left out.
    pub torn: bool,
    /// Of the profile, if there is one: share of the samples in the chosen functions.
    pub profile_sample_share: Option<f64>,
    /// Likewise: share of the driver's code that these are.
    pub profile_code_share: Option<f64>,
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
    /// Of some folders; their order is that of the report.
    pub fn of(folders: &[Folder]) -> Self {
        let parts = parts(folders);
        let rows = parts
            .iter()
            .flat_map(|part| group::paper_rows(&part.label, part.configuration, &part.records));
        let records = || {
            parts.iter().flat_map(|part| {
                part.records.iter().map(|record| (part.label.as_str(), part.folder, *record))
            })
        };
        Self {
            schema: REPORT_SCHEMA,
            confidence: statistics::CONFIDENCE,
            campaigns: folders.iter().map(CampaignView::of).collect(),
            paper_table: rows.chain(paper::rows()).collect(),
            to_look_into: records().filter(|(_, _, r)| r.is_bad()).count() as u64,
            worst: worst::worst(records()),
            groups: parts.iter().map(Part::group).collect(),
        }
    }

    /// As one line of JSON.
    ///
    /// # Errors
    /// There are none: all its keys are strings.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

impl Part<'_> {
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

/// What stands before a configuration, to tell campaigns apart: nothing where there is only one.
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
