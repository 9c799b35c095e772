//! The steps of a nested run, in order. Each step is independent of the outcome of the others,
//! except that steps with NICs need the NICs bound.

mod aim;
mod basics;
mod campaign;
mod devices;
mod failover;
mod frames;
mod isolation;
mod leak;
mod outcomes;
mod removal;
mod scene;
mod service;
mod tests;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use warmspare_tests::nested::protocol::FromGuest;

use crate::report::Report;
use crate::sys;
use crate::watchdog::Watchdog;

/// A step of this crate. It returns what it measured, or why it failed.
type OwnStep = fn(&Report) -> Result<Value>;
/// Any step: one of this crate, or a test program.
type Step = Box<dyn Fn(&Report) -> Result<Value>>;

const STEPS: [(&str, OwnStep); 20] = [
    ("modules", basics::modules),
    ("kvm", basics::kvm),
    ("devices", devices::list_and_refuse),
    ("bind", devices::bind),
    ("open", devices::open),
    ("frames", frames::frames),
    ("filters", frames::filters),
    ("cable", frames::cable),
    ("confinement", isolation::confinement),
    ("quiesce", isolation::quiesce),
    ("reset", isolation::reset),
    ("trace", trace::compare),
    ("failover", failover::pair),
    ("causes", failover::causes),
    ("policies", failover::policies),
    ("shared", failover::shared),
    ("removal", removal::removal),
    ("aim", aim::aim),
    ("leak", leak::leak),
    ("campaign", campaign::campaign),
];
/// Steps that always run, because the others need them.
const ALWAYS: [&str; 2] = ["modules", "bind"];

/// Returns the steps that were asked for and those that they need, in order, unknown ones last.
pub(crate) fn chosen() -> Vec<String> {
    let asked = sys::boot_argument("warmspare.steps");
    let asked: Option<Vec<&str>> = asked.as_deref().map(|names| names.split(',').collect());
    let wanted = |name: &String| {
        let name = name.as_str();
        ALWAYS.contains(&name) || asked.as_ref().is_none_or(|asked| asked.contains(&name))
    };
    let own = STEPS.iter().map(|(name, _)| (*name).to_owned());
    let known = own.chain(tests::steps()).filter(wanted);
    let unknown = asked.iter().flatten().filter(|name| step(name).is_none());
    known.chain(unknown.map(|name| (*name).to_owned())).collect()
}

fn step(name: &str) -> Option<Step> {
    if let Some((_, own)) = STEPS.iter().find(|(known, _)| *known == name) {
        return Some(Box::new(own));
    }
    let program = tests::program_of(name)?;
    Some(Box::new(move |_| tests::run(&program)))
}

/// Runs these steps. Returns how many passed, and which failed.
pub(crate) fn run_all(report: &Arc<Report>, names: &[String]) -> Result<(usize, Vec<String>)> {
    let mut passed = 0;
    let mut failed = Vec::new();
    for name in names {
        let Some(step) = step(name) else {
            failed.push(format!("{name} (there is no such step)"));
            continue;
        };
        let start = Instant::now();
        let _watchdog = Watchdog::over(report, name, deadline_of(name));
        let result = catch_unwind(AssertUnwindSafe(|| step(report)))
            .unwrap_or_else(|panic| Err(anyhow!("it panicked: {}", text_of(&*panic))));
        let ms = start.elapsed().as_secs_f64() * 1000.0;
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        report.say(&FromGuest::Step { name: name.clone(), ok, ms, detail })?;
        if ok {
            passed += 1;
        } else {
            failed.push(name.clone());
        }
    }
    Ok((passed, failed))
}

/// Returns how long a step may take: a few times what it takes on two busy processors.
fn deadline_of(step: &str) -> Duration {
    let own = Duration::from_secs(match step {
        "failover" | "causes" | "policies" | "shared" | "removal" | "aim" | "leak" | "campaign" => {
            240
        }
        _ => 60,
    });
    match tests::program_of(step) {
        Some(_) => tests::PROGRAM_DEADLINE + own,
        None => own,
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Converts a duration to milliseconds, for reports.
fn ms(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Repeats an action and returns the mean time of one repetition, in nanoseconds.
fn cost_ns(times: u32, mut action: impl FnMut()) -> u128 {
    let start = Instant::now();
    for _ in 0..times {
        action();
    }
    start.elapsed().as_nanos() / u128::from(times)
}
