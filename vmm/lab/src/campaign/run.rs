//! The course of a campaign.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::book::{self, Book};
use super::crew::{Reply, Worker};
use super::draw::Faults;
use super::error::{CampaignError, io};
use super::manifest::{MANIFEST_SCHEMA, Manifest};
use super::office::Office;
use super::order::{Answer, Order, Request};
use super::record::InjectionRecord;
use super::spec::{CampaignSpec, FaultSpec, Functions};
use super::target::Target;
use super::{machine, tally::Tally};
use platform::signals::Termination;

/// How often in a row an injection is tried that could not be carried out at all.
pub(super) const ATTEMPTS: u32 = 3;
/// Between two looks at signals and the display.
const LOOK: Duration = Duration::from_millis(100);

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The campaign file.
    pub file: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Go on with what is there.
    pub resume: bool,
    /// Worker processes.
    pub jobs: u32,
    /// Whether to show progress.
    pub progress: bool,
}

/// How a campaign ended.
#[derive(Debug)]
pub struct Ended {
    /// What is recorded now.
    pub tally: Tally,
    /// Stopped by a signal, before its end.
    pub interrupted: bool,
}

/// Runs a campaign, or goes on with one.
///
/// # Errors
/// See [`CampaignError`]. What was recorded stays recorded.
pub fn run(config: &RunConfig) -> Result<Ended, CampaignError> {
    let spec = CampaignSpec::load(&config.file)?;
    let target = Arc::new(Target::new(guest_images::DRIVER_DOMAIN)?);
    check_functions(config, &spec, &target)?;
    let signals = Termination::block().map_err(io("block signals"))?;
    platform::signals::ignore_file_size_signal();
    let (book, records, manifest) = open(config, &spec, &target)?;
    let faults = Faults::new(&manifest.campaign, target, manifest.profile.as_ref());
    let faults = faults.map_err(|source| CampaignError::Draw {
        file: config.file.display().to_string(),
        source,
    })?;
    let spec = CampaignSpec { until: spec.until, ..manifest.campaign };
    let office = Office::new(spec, faults, book, &records, config.progress);
    let interrupted = work(&office, config, &signals)?;
    Ok(Ended { tally: office.close()?, interrupted })
}

/// Names of functions are checked before anything is made.
fn check_functions(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Arc<Target>,
) -> Result<(), CampaignError> {
    let named = spec.faults.iter().filter_map(|fault| match fault.functions() {
        Some(Functions::Named(names)) => Some(names),
        Some(Functions::Profile | Functions::Text) | None => None,
    });
    for name in named.flatten() {
        target.function(name).map_err(|error| CampaignError::Draw {
            file: config.file.display().to_string(),
            source: error.into(),
        })?;
    }
    Ok(())
}

fn open(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Target,
) -> Result<(Book, Vec<InjectionRecord>, Manifest), CampaignError> {
    let there = config.out.join(book::MANIFEST_FILE).exists();
    let (book, records) = match (config.resume, there) {
        (true, true) => Book::open(&config.out)?,
        // Stopped before it had begun, or never there: a new one.
        (true, false) | (false, _) => (Book::create(&config.out)?, Vec::new()),
    };
    let file = config.file.display().to_string();
    let folder = config.out.display().to_string();
    if there {
        let mut manifest = book::read_manifest(&config.out)?;
        check_image(&folder, &manifest, target)?;
        if (CampaignSpec { until: manifest.campaign.until, ..spec.clone() }) != manifest.campaign {
            return Err(CampaignError::Changed { file, folder });
        }
        if manifest.campaign.until != spec.until {
            manifest.campaign.until = spec.until;
            book::write_manifest(&config.out, &manifest)?;
        }
        return Ok((book, records, manifest));
    }
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA.into(),
        campaign: spec.clone(),
        file,
        version: env!("CARGO_PKG_VERSION").into(),
        revision: machine::revision(),
        image: target.build_id(),
        began: operate::observe::wall_clock_now(),
        jobs: config.jobs,
        machine: machine::this(),
        profile: profile(config, spec)?,
    };
    book::write_manifest(&config.out, &manifest)?;
    Ok((book, records, manifest))
}

/// An address means nothing in another image.
pub(super) fn check_image(
    folder: &str,
    manifest: &Manifest,
    target: &Target,
) -> Result<(), CampaignError> {
    let is = target.build_id();
    if manifest.image == is {
        return Ok(());
    }
    let (folder, was) = (folder.to_owned(), manifest.image.clone());
    Err(CampaignError::Image { folder, was, is })
}

/// Samples the driver, if a kind of fault asks for it.
fn profile(
    config: &RunConfig,
    spec: &CampaignSpec,
) -> Result<Option<super::manifest::Profile>, CampaignError> {
    let asked = |fault: &FaultSpec| fault.functions() == Some(&Functions::Profile);
    if !spec.faults.iter().any(asked) {
        return Ok(None);
    }
    if config.progress {
        eprintln!("warmspare: sampling the driver under traffic");
    }
    let mut worker = Worker::new(log(&config.out)?);
    let request = Request::Profile { period_us: spec.period_us };
    match worker.ask(&request).map_err(io("start a worker"))? {
        Reply::Answer(Answer::Profile(profile)) if !profile.functions.is_empty() => {
            Ok(Some(profile))
        }
        Reply::Answer(Answer::Failed(why)) | Reply::Lost(why) => Err(CampaignError::Profile(why)),
        Reply::Answer(_) => Err(CampaignError::Profile("it was never found running".into())),
    }
}

/// Where workers write their messages.
pub(super) fn log(folder: &Path) -> Result<File, CampaignError> {
    let open = OpenOptions::new().append(true).create(true).open(folder.join("log.txt"));
    open.map_err(io("open the log of the workers"))
}

/// Has the injections done; whether a signal ended it.
fn work(office: &Office, config: &RunConfig, signals: &Termination) -> Result<bool, CampaignError> {
    let logs = (0..config.jobs).map(|_| log(&config.out)).collect::<Result<Vec<_>, _>>()?;
    let mut interrupted = false;
    std::thread::scope(|scope| {
        let desks: Vec<_> = logs
            .into_iter()
            .map(|log| scope.spawn(move || office.serve(Worker::new(log))))
            .collect();
        while desks.iter().any(|desk| !desk.is_finished()) {
            if signals.wait(LOOK) && !interrupted {
                interrupted = true;
                office.stop("stopping after the injections under way; go on with --resume");
            }
            if interrupted {
                // The signal stays readable: do not spin on it.
                std::thread::sleep(LOOK);
            }
            office.show();
        }
    });
    Ok(interrupted)
}

/// One injection; a worker that is lost is an outcome, since the fault did that.
pub(super) fn carry_out(
    worker: &mut Worker,
    order: Order,
) -> Result<InjectionRecord, CampaignError> {
    let id = order.id;
    let request = Request::Inject(Box::new(order.clone()));
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        match worker.ask(&request).map_err(io("run a worker"))? {
            Reply::Answer(Answer::Injected(record)) => return Ok(*record),
            Reply::Answer(Answer::Failed(reason)) => why = reason,
            Reply::Answer(Answer::Profile(_)) => why = "the worker answers another question".into(),
            Reply::Lost(reason) => return Ok(order.lost(reason)),
        }
    }
    Err(CampaignError::Trial { id, why })
}
