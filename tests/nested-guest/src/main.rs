//! Init of the nested machine: sets Linux up, runs the steps, reports each of them, and switches
//! the machine off.

mod link;
mod report;
mod rig;
mod steps;
mod sys;
mod trace;
mod watchdog;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use report::Report;
use warmspare_tests::nested::protocol::FromGuest;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("nested-init: this is the init of the nested machine: cargo xtask nested");
        return ExitCode::from(2);
    }
    if let Err(error) = run() {
        eprintln!("nested-init: {error:#}");
    }
    sys::power_off();
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    sys::mount_all()?;
    sys::set_up("lo", true)?;
    let report = Arc::new(Report::open()?);
    let steps = steps::chosen();
    report.say(&FromGuest::Hello { kernel: sys::kernel_release(), steps: steps.clone() })?;
    let (passed, failed) = steps::run_all(&report, &steps)?;
    report.say(&FromGuest::Verdict { passed, failed })?;
    report.drain();
    Ok(())
}
