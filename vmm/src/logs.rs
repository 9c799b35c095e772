//! What goes to standard error: text for people, or one JSON object a line. A thread of its own
//! writes it ([`platform::stderr`]), so that nothing waits for a reader.

use std::fmt::Arguments;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use platform::one_line::printable;
use platform::stderr::{self, Stderr};
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

/// How long the end of the program waits for its last lines. A reader that is only slow gets them.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Begins to log. Called once, at the start of the program.
pub(crate) fn init(format: LogFormat) {
    stderr::start(match format {
        LogFormat::Text => stderr::text_loss_line,
        LogFormat::Json => json_loss_line,
    });
    std::panic::set_hook(Box::new(tell_panic));
    // A log or an event file that reaches a limit of sizes costs lines, like a full disk.
    platform::signals::ignore_file_size_signal();
    let wanted = std::env::var(LEVELS).unwrap_or_default();
    let (levels, mistake) = match filter(&wanted) {
        Ok(levels) => (levels, None),
        Err(error) => (Targets::new().with_default(DEFAULT_LEVEL), Some(error)),
    };
    // The levels are those of `levels`.
    let base = tracing_subscriber::fmt().with_writer(|| Stderr).with_max_level(Level::TRACE);
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
    let what = printable(&what.to_string());
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::info!(target: NOTICES, "{what}"),
        false => stderr::tell(format_args!("{what}")),
    }
}

/// Tells why the program ends.
pub(crate) fn failure(why: &str) {
    let why = printable(why);
    match AS_JSON.load(Ordering::Relaxed) {
        true => tracing::error!(target: NOTICES, "{why}"),
        false => stderr::tell(format_args!("{why}")),
    }
}

/// Waits for the last lines before the program ends, for a bounded time.
pub(crate) fn flush() {
    stderr::flush(FLUSH_LIMIT);
}

/// A loss of lines, in the shape of a message of `tracing`.
fn json_loss_line(count: u64) -> String {
    let message = format!("{count} lines of this log were lost, because they could not be written");
    let timestamp = operate::observe::wall_clock_now();
    let line = serde_json::json!({
        "timestamp": timestamp,
        "level": "WARN",
        "fields": { "message": message, "lines": count },
        "target": NOTICES,
    });
    format!("{line}\n")
}

/// Tells a panic like any other message. The standard library's own hook would write by itself, and
/// wait for a stuck reader.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let what = panic.payload_as_str().unwrap_or("a value that is not text");
    let place = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
    failure(&format!("defect: the thread {name} has panicked{place}: {what}"));
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        stderr::put(&format!("{trace}\n"));
    }
    // The end of the main thread is the end of the program.
    if name == "main" {
        flush();
    }
}

/// [`tell`] with the arguments of `format!`.
macro_rules! notice {
    ($($what:tt)*) => { $crate::logs::tell(format_args!($($what)*)) };
}
pub(crate) use notice;

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
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
