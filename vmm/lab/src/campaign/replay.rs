//! One recorded injection once more.

use std::path::{Path, PathBuf};

use super::crew::Worker;
use super::error::{CampaignError, io};
use super::order::Order;
use super::record::InjectionRecord;
use super::results;
use super::run::{carry_out, check_image, log};
use super::target::Target;

/// A recorded injection, and the same again.
#[derive(Debug, serde::Serialize)]
pub struct Replayed {
    /// As it is recorded.
    pub recorded: InjectionRecord,
    /// As it went now.
    pub again: InjectionRecord,
    /// Where the failed domain's remains are, if they were asked for.
    pub dumps: Option<PathBuf>,
}

/// Repeats an injection: the same fault at the same place, at the same activation. What comes of it
/// may differ, as far as it hangs on the moment.
///
/// # Errors
/// There is no such record, its image is another one, or it cannot be carried out.
pub fn replay(folder: &Path, id: u64, debug: bool) -> Result<Replayed, CampaignError> {
    let manifest = results::read_manifest(folder)?;
    let target = Target::new(guest_images::DRIVER_DOMAIN)?;
    check_image(&folder.display().to_string(), &manifest, &target)?;
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
    let order = Order { dumps: dumps.clone(), ..Order::again(&manifest.campaign, &recorded) };
    let mut worker = Worker::new(log(folder)?);
    let again = carry_out(&mut worker, order)?;
    Ok(Replayed { recorded, again, dumps })
}
