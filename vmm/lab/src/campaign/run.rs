//! The course of a campaign.

use std::sync::Arc;
use std::time::Duration;

use super::config::RunConfig;
use super::draw::FaultList;
use super::error::{CampaignError, io};
use super::scheduler::Scheduler;
use super::setup::{self, OpenCampaign, worker_log};
use super::spec::{CampaignSpec, Functions};
use super::tally::Tally;
use super::worker_handle::WorkerHandle;
use crate::injection::Target;
use platform::signals::Termination;

/// How long the main thread waits for a signal before it updates the display.
const DISPLAY_PERIOD: Duration = Duration::from_millis(100);

/// How a campaign ended.
#[derive(Debug)]
pub struct Ended {
    /// Counts of the injections that are recorded now.
    pub tally: Tally,
    /// Whether a signal stopped it before its end.
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
    let OpenCampaign { store, records, manifest } = setup::open(config, &spec, &target)?;
    let faults = FaultList::new(&manifest.campaign, target, manifest.profile.as_ref());
    let faults = faults.map_err(|source| CampaignError::Draw {
        file: config.file.display().to_string(),
        source,
    })?;
    let spec = CampaignSpec { until: spec.until, ..manifest.campaign };
    let scheduler = Scheduler::new(spec, faults, store, &records, config.progress);
    let interrupted = run_workers(&scheduler, config, &signals)?;
    Ok(Ended { tally: scheduler.finish()?, interrupted })
}

/// Checks the names of functions, before any file is made.
fn check_functions(
    config: &RunConfig,
    spec: &CampaignSpec,
    target: &Target,
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

/// Has the injections carried out by a pool of workers, each with a thread that asks it. Returns
/// true if a signal ended it.
fn run_workers(
    scheduler: &Scheduler,
    config: &RunConfig,
    signals: &Termination,
) -> Result<bool, CampaignError> {
    let logs = (0..config.jobs).map(|_| worker_log(&config.out)).collect::<Result<Vec<_>, _>>()?;
    let mut interrupted = false;
    std::thread::scope(|scope| {
        let pool: Vec<_> = logs
            .into_iter()
            .map(|log| scope.spawn(move || scheduler.drive(WorkerHandle::new(log))))
            .collect();
        while pool.iter().any(|thread| !thread.is_finished()) {
            if signals.wait(DISPLAY_PERIOD) && !interrupted {
                interrupted = true;
                scheduler.stop("stopping after the injections under way; go on with --resume");
            }
            if interrupted {
                // The signal stays readable, so `wait` no longer waits.
                std::thread::sleep(DISPLAY_PERIOD);
            }
            scheduler.show_progress();
        }
    });
    Ok(interrupted)
}
