//! What goes to standard error: as text for people, or one JSON object a line.

use std::fmt::Arguments;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object with `timestamp`, `level`, `target` and `fields.message`.
    Json,
}

static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Variable of the environment with the level, or levels by part.
const LEVELS: &str = "WARMSPARE_LOG";

/// Begins to log. Once, at the start of the program.
pub(crate) fn init(format: LogFormat) {
    let levels = EnvFilter::try_from_env(LEVELS).unwrap_or_else(|_| EnvFilter::new("warn"));
    let base = tracing_subscriber::fmt().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            base.with_target(false).with_ansi(colours).with_env_filter(levels).init();
        }
        LogFormat::Json => {
            AS_JSON.store(true, Ordering::Relaxed);
            // Notices are no matter of levels: text has them always, too.
            let levels = match "warmspare::notice=info".parse() {
                Ok(notices) => levels.add_directive(notices),
                Err(_) => levels,
            };
            base.json().with_env_filter(levels).init();
        }
    }
}

/// Tells whoever started the program something, on standard error.
pub(crate) fn tell(what: Arguments<'_>) {
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::info!(target: "warmspare::notice", "{what}"),
        false => eprintln!("warmspare: {what}"),
    }
}

/// Tells why the program ends.
pub(crate) fn failure(why: &str) {
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::error!(target: "warmspare::notice", "{why}"),
        false => eprintln!("warmspare: {why}"),
    }
}

/// [`tell`] of what `format!` takes.
macro_rules! notice {
    ($($what:tt)*) => { $crate::logs::tell(format_args!($($what)*)) };
}
pub(crate) use notice;
