//! What goes to standard error: text for people, or one JSON object a line.

use std::fmt::Arguments;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Environment variable with the level, or with levels by module.
const LEVELS: &str = "WARMSPARE_LOG";
/// The level of every module for which the variable names none.
const DEFAULT_LEVEL: Level = Level::WARN;
/// Target of notices, which are told at every level.
const NOTICES: &str = "warmspare::notice";

/// Begins to log. Called once, at the start of the program.
pub(crate) fn init(format: LogFormat) {
    let wanted = std::env::var(LEVELS).unwrap_or_default();
    let (levels, mistake) = match filter(&wanted) {
        Ok(levels) => (levels, None),
        Err(error) => (Targets::new().with_default(DEFAULT_LEVEL), Some(error)),
    };
    // The levels are those of `levels`.
    let base = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(Level::TRACE);
    match format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            base.with_target(false).with_ansi(colours).finish().with(levels).init();
        }
        LogFormat::Json => {
            AS_JSON.store(true, Ordering::Relaxed);
            // In text, notices are printed at every level, too.
            let levels = levels.with_target(NOTICES, Level::INFO);
            base.json().finish().with(levels).init();
        }
    }
    if let Some(error) = mistake {
        tracing::warn!(%error, "{LEVELS} is not understood, so the default is used");
    }
}

/// The filter for a value of the variable: comma-separated levels, or modules with levels. What it
/// says goes before the default level.
fn filter(wanted: &str) -> Result<Targets, ParseError> {
    match wanted.trim() {
        "" => Ok(Targets::new().with_default(DEFAULT_LEVEL)),
        wanted => format!("{DEFAULT_LEVEL},{wanted}").parse(),
    }
}

/// Tells the user who started the program something, on standard error.
pub(crate) fn tell(what: Arguments<'_>) {
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::info!(target: NOTICES, "{what}"),
        false => eprintln!("warmspare: {what}"),
    }
}

/// Tells why the program ends.
pub(crate) fn failure(why: &str) {
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::error!(target: NOTICES, "{why}"),
        false => eprintln!("warmspare: {why}"),
    }
}

/// [`tell`] with the arguments of `format!`.
macro_rules! notice {
    ($($what:tt)*) => { $crate::logs::tell(format_args!($($what)*)) };
}
pub(crate) use notice;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The module whose messages the document's example asks for, as its messages name it.
    fn documented_module() -> &'static str {
        let path = std::any::type_name::<switchboard::vhost_user::VhostUserError>();
        path.rsplit_once("::").unwrap().0
    }

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is printed of some messages with this value of the variable.
    fn printed(wanted: &str) -> String {
        let output = Output::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(Level::TRACE)
            .finish()
            .with(filter(wanted).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "switchboard::vhost_user::session", "request");
            tracing::debug!(target: "switchboard::worker", "detail");
            tracing::info!(target: "supervisor::system", "progress");
            tracing::warn!(target: "supervisor::system", "trouble");
        });
        String::from_utf8(output.0.lock().unwrap().clone()).unwrap()
    }

    fn shows(wanted: &str, messages: &[&str]) {
        let text = printed(wanted);
        for message in ["request", "detail", "progress", "trouble"] {
            let expected = messages.contains(&message);
            assert_eq!(text.contains(message), expected, "{wanted:?}: {message} in {text}");
        }
    }

    #[test]
    fn warnings_are_shown_unless_the_variable_says_otherwise() {
        shows("", &["trouble"]);
        shows("info", &["progress", "trouble"]);
        shows("error", &[]);
        shows("supervisor=error", &[]);
        assert!(filter("switchboard=loud").is_err());
    }

    #[test]
    fn the_documents_example_asks_for_a_module_that_exists() {
        let text = include_str!("../../docs/operation.md");
        let section = text.split("## Log levels").nth(1).unwrap();
        let example = section.split('`').find(|word| word.ends_with("=debug")).unwrap();
        let module = example.trim_end_matches("=debug");
        assert!(documented_module().starts_with(module), "{module}, {}", documented_module());
        shows(example, &["request", "trouble"]);
    }
}
