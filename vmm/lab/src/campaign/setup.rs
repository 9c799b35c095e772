//! What a campaign needs before its first injection: its folder, its manifest, the workers' log.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::config::RunConfig;
use super::error::{CampaignError, io};
use super::machine;
use super::manifest::{MANIFEST_SCHEMA, Manifest, Profile};
use super::results::{self, OpenedStore, ResultStore};
use super::spec::{CampaignSpec, FaultSpec, Functions};
use super::worker_handle::{Reply, WorkerHandle};
use super::worker_protocol::{Answer, Request};
use crate::injection::{InjectionRecord, Target};

/// A campaign that is ready to go on.
pub(super) struct OpenCampaign {
    pub(super) store: ResultStore,
    /// The injections that are recorded already.
    pub(super) records: Vec<InjectionRecord>,
    pub(super) manifest: Manifest,
}

/// Opens the folder of a campaign, or makes a new one.
pub(super) fn open(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Target,
) -> Result<OpenCampaign, CampaignError> {
    let exists = config.out.join(results::MANIFEST_FILE).exists();
    let OpenedStore { store, records } = match (config.resume, exists) {
        (true, true) => ResultStore::open(&config.out)?,
        // A campaign that was stopped before it had begun counts as a new one.
        (true, false) | (false, _) => {
            OpenedStore { store: ResultStore::create(&config.out)?, records: Vec::new() }
        }
    };
    let manifest = match exists {
        true => resumed_manifest(config, spec, target)?,
        false => new_manifest(config, spec, target)?,
    };
    Ok(OpenCampaign { store, records, manifest })
}

/// The manifest of a campaign that goes on; only its end may have changed.
fn resumed_manifest(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Target,
) -> Result<Manifest, CampaignError> {
    let mut manifest = results::read_manifest(&config.out)?;
    check_image(&config.out, &manifest, target)?;
    if (CampaignSpec { until: manifest.campaign.until, ..spec.clone() }) != manifest.campaign {
        return Err(CampaignError::Changed {
            file: config.file.display().to_string(),
            folder: config.out.display().to_string(),
        });
    }
    if manifest.campaign.until != spec.until {
        manifest.campaign.until = spec.until;
        results::write_manifest(&config.out, &manifest)?;
    }
    Ok(manifest)
}

fn new_manifest(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Target,
) -> Result<Manifest, CampaignError> {
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA.into(),
        campaign: spec.clone(),
        file: config.file.display().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        revision: machine::revision(),
        image: target.build_id(),
        began: operate::observe::wall_clock_now(),
        jobs: config.jobs,
        machine: machine::this(),
        profile: profile(config, spec)?,
    };
    results::write_manifest(&config.out, &manifest)?;
    Ok(manifest)
}

/// Checks that a campaign's faults were drawn for this image: an address means nothing in another.
pub(super) fn check_image(
    folder: &Path,
    manifest: &Manifest,
    target: &Target,
) -> Result<(), CampaignError> {
    let is = target.build_id();
    if manifest.image == is {
        return Ok(());
    }
    let (folder, was) = (folder.display().to_string(), manifest.image.clone());
    Err(CampaignError::Image { folder, was, is })
}

/// Samples the driver, if a kind of fault asks for it.
fn profile(config: &RunConfig, spec: &CampaignSpec) -> Result<Option<Profile>, CampaignError> {
    let asks = |fault: &FaultSpec| fault.functions() == Some(&Functions::Profile);
    if !spec.faults.iter().any(asks) {
        return Ok(None);
    }
    if config.progress {
        platform::stderr::tell(format_args!("sampling the driver under traffic"));
    }
    let mut worker = WorkerHandle::new(worker_log(&config.out)?);
    let request = Request::Profile { period_us: spec.period_us };
    match worker.ask(&request).map_err(io("start a worker"))? {
        Reply::Answer(Answer::Profile(profile)) if !profile.functions.is_empty() => {
            Ok(Some(profile))
        }
        Reply::Answer(Answer::Failed(why)) | Reply::Lost(why) => Err(CampaignError::Profile(why)),
        Reply::Answer(_) => Err(CampaignError::Profile("it was never found running".into())),
    }
}

/// The file that workers write their messages to.
pub(super) fn worker_log(folder: &Path) -> Result<File, CampaignError> {
    let open = OpenOptions::new().append(true).create(true).open(folder.join("log.txt"));
    open.map_err(io("open the log of the workers"))
}
