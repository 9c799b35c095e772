//! A worker process: carries out injections one after the other, as lines on its standard input ask.
//! What an injected fault does to the program that runs the driver, it does to a worker, and the
//! campaign goes on.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use super::profile;
use super::worker_protocol::{Answer, Request, worker_folder};
use crate::injection::{self, Emulated, InjectionRecord, Target, TrialError, TrialOrder};
use platform::one_line::one_line;
use platform::signals::Termination;

/// Serves until its standard input ends.
///
/// # Errors
/// Input or output fails, or the images are damaged.
pub fn serve_worker() -> Result<(), std::io::Error> {
    // A signal from the terminal is for the campaign, which ends its workers itself.
    let _signals = Termination::block()?;
    let target = Target::new(guest_images::DRIVER_DOMAIN).map_err(std::io::Error::other)?;
    let folder = Folder::new()?;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(request) => answer(&request, &target, &folder.0),
            Err(error) => Answer::Failed(error.to_string()),
        };
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: &Request, target: &Target, folder: &Path) -> Answer {
    match request {
        Request::Profile { period_us } => profile::sample(target, *period_us, folder)
            .map_or_else(|error| Answer::Failed(one_line(&error)), Answer::Profile),
        Request::Inject(order) => match carry_out(order, target, folder) {
            Ok(record) => Answer::Injected(Box::new(record)),
            Err(error) => Answer::Failed(one_line(&error)),
        },
    }
}

fn carry_out(
    order: &TrialOrder,
    target: &Target,
    folder: &Path,
) -> Result<InjectionRecord, TrialError> {
    let seen = injection::carry_out(order, target, &Emulated, folder)?;
    let mut record = injection::judge(order, &seen);
    if let Some(dump) = &seen.dump {
        let dump = format!("core file in {}", dump.display());
        record.note = Some(match record.note.take() {
            Some(note) => format!("{note}; {dump}"),
            None => dump,
        });
    }
    Ok(record)
}

/// A private folder for the socket, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = worker_folder(std::process::id());
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
