//! A worker process: carries out injections one after the other, asked by lines on its standard
//! input. What an injected fault does to the program that runs the driver, it does to a worker, and
//! the campaign goes on.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use super::judge;
use super::order::{Answer, Request};
use super::profile;
use super::record::InjectionRecord;
use super::target::Target;
use super::testbed::Emulated;
use super::trial::{self, TrialError};
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
    let failed = |error: TrialError| Answer::Failed(platform::one_line::one_line(&error));
    match request {
        Request::Profile { period_us } => {
            profile::sample(target, *period_us, folder).map_or_else(failed, Answer::Profile)
        }
        Request::Inject(order) => match trial::carry_out(order, target, &Emulated, folder) {
            Ok(seen) => {
                let mut record: InjectionRecord = judge::record(order, &seen);
                if let Some(dump) = &seen.dump {
                    let dump = format!("core file in {}", dump.display());
                    record.note = Some(match record.note.take() {
                        Some(note) => format!("{note}; {dump}"),
                        None => dump,
                    });
                }
                Answer::Injected(Box::new(record))
            }
            Err(error) => failed(error),
        },
    }
}

/// The folder of the worker with this process id.
pub(super) fn worker_folder(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("warmspare-trial-{process}"))
}

/// A private folder for the socket; removed at the end.
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
