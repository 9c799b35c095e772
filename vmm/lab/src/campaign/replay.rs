//! Repeats one recorded injection.

use std::path::{Path, PathBuf};

use super::draw::DrawnFault;
use super::error::{CampaignError, io};
use super::results;
use super::setup::{check_image, worker_log};
use super::worker_handle::WorkerHandle;
use crate::injection::{InjectionRecord, Target, TrialOrder};

/// A recorded injection, and the same again.
#[derive(Debug, serde::Serialize)]
pub struct Replayed {
    /// The record in the folder.
    pub recorded: InjectionRecord,
    /// The record of the repetition.
    pub again: InjectionRecord,
    /// Where the failed domain's core file is, if it was asked for.
    pub dumps: Option<PathBuf>,
}

/// Repeats an injection: the same fault at the same place, at the same activation. Its outcome may
/// differ, as far as it depends on the moment.
///
/// # Errors
/// There is no such record, its image is another one, or the injection cannot be carried out.
pub fn replay(folder: &Path, id: u64, debug: bool) -> Result<Replayed, CampaignError> {
    let manifest = results::read_manifest(folder)?;
    let target = Target::new(guest_images::DRIVER_DOMAIN)?;
    check_image(folder, &manifest, &target)?;
    let records = results::read_records(folder)?.records;
    let ids = || records.iter().map(|record| record.id);
    let (first, last) = (ids().min().unwrap_or(0), ids().max().unwrap_or(0));
    let recorded = records.into_iter().find(|record| record.id == id);
    let recorded = recorded.ok_or_else(|| {
        let folder = folder.display().to_string();
        CampaignError::NoRecord { folder, id, first, last }
    })?;
    let dumps = debug.then(|| std::path::absolute(folder.join(format!("replay-{id}"))));
    let dumps = dumps.transpose().map_err(io("find the folder"))?;
    let order = TrialOrder {
        seed: recorded.seed,
        dumps: dumps.clone(),
        ..DrawnFault::of(&recorded).order(&manifest.campaign)
    };
    let again = WorkerHandle::new(worker_log(folder)?).inject(&order)?;
    Ok(Replayed { recorded, again, dumps })
}
