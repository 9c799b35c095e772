//! `cargo xtask nested`: QEMU emulates a machine with an IOMMU and two igb NICs, for the tests that
//! need real VFIO.
//!
//! ```text
//! this machine                         QEMU (TCG), Linux inside
//! ------------                         --------------------------------------------------
//! xtask ── results (virtio-serial) ──  init: loads modules, runs the steps, reports
//!       ── QMP: set_link ────────────  igb nic0 ─┐
//!                                      igb nic1 ─┼─ one emulated Ethernet (a hub)
//!                                      virtio-net sender ─┘  the "sender host": its own Linux
//! ```
//!
//! Everything that is fetched or built is kept under `target/nested`. Only the installation of
//! QEMU, where it is missing, needs root.

pub(crate) mod apt;
pub(crate) mod cpio;
pub(crate) mod image;
pub(crate) mod kernel;
pub mod left_out;
mod machine;
pub(crate) mod modules;
pub mod protocol;
pub(crate) mod qemu;
pub(crate) mod qmp;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::workspace;
use machine::{Machine, Order};
use protocol::{FromGuest, Summary, ToGuest};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct NestedArgs {
    /// Kernel image to boot instead of the distribution's
    #[arg(long, requires = "modules", value_name = "VMLINUZ")]
    kernel: Option<PathBuf>,
    /// Folder of that kernel's modules (lib/modules/RELEASE)
    #[arg(long, requires = "kernel", value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Run only the steps with these names
    #[arg(long = "step", value_name = "STEP")]
    steps: Vec<String>,
    /// Run the integration tests inside as well, as on a machine with /dev/kvm
    #[arg(long)]
    tests: bool,
    /// Seconds from starting the machine to its verdict
    #[arg(
        long,
        value_name = "S",
        default_value_t = 720,
        default_value_if("tests", "true", "1000")
    )]
    timeout_s: u64,
}

/// Builds the initramfs, boots the machine, and waits for its verdict.
///
/// # Errors
/// Something is missing and cannot be fetched, or a step failed.
pub fn run(args: &NestedArgs) -> Result<()> {
    let cache = workspace().join("target/nested");
    std::fs::create_dir_all(&cache).context("target/nested cannot be created")?;
    let start = Instant::now();
    let qemu = qemu::find_or_install(&cache)?;
    let kernel = match (&args.kernel, &args.modules) {
        (Some(image), Some(modules)) => kernel::given(image, modules)?,
        _ => kernel::fetch(&cache)?,
    };
    let initramfs = image::build(&kernel, &cache, args.tests)?;
    println!("nested: ready to boot after {:.1} s", start.elapsed().as_secs_f64());
    let end = Instant::now() + Duration::from_secs(args.timeout_s);
    let mut progress = Progress { left: args.steps.clone(), ..Progress::default() };
    let verdict = loop {
        let order = Order {
            qemu: &qemu,
            kernel: &kernel.image,
            initramfs: &initramfs,
            console: &cache.join(format!("console{}.log", progress.suffix())),
            log: &cache.join(format!("qemu{}.log", progress.suffix())),
            steps: &progress.left.clone(),
        };
        let mut machine = Machine::boot(&order)?;
        let verdict = converse(&mut machine, end, &mut progress);
        let died = if verdict.is_err() { machine.cause_of_death() } else { None };
        match died {
            Some(cause) if progress.may_go_on() => progress.died(&cause, &machine.last_words()),
            _ => break verdict.with_context(|| machine.last_words()),
        }
    };
    println!("{}", progress.verdict());
    println!("nested: {:.1} s in all", start.elapsed().as_secs_f64());
    verdict
}

/// How many machines may die through QEMU's own faults in one run. Each is followed by another
/// machine, which runs the steps that are left; a step that fails is not repeated. Before two of
/// QEMU's faults were worked around (see [`protocol::PROCESSORS`] and `eim`), QEMU 10.0.2 ended
/// every second machine: by its own assertion in `iotlb_to_section`, by a reset without any message
/// of the kernel, or by a lost interrupt.
const DEATHS: usize = 4;

/// Progress of a run, over all its machines.
#[derive(Default)]
struct Progress {
    /// Steps that have not ended yet. Until the machine has named its steps, an empty list means
    /// all.
    left: Vec<String>,
    passed: BTreeSet<String>,
    failed: Vec<String>,
    deaths: Vec<String>,
    summaries: Vec<(String, Summary)>,
}

impl Progress {
    /// Suffix of the log files' names: each machine of a run has its own files.
    fn suffix(&self) -> String {
        if self.deaths.is_empty() { String::new() } else { format!("-{}", self.deaths.len() + 1) }
    }

    fn step(&mut self, name: &str, ok: bool) {
        self.left.retain(|left| left != name);
        if ok {
            self.passed.insert(name.to_owned());
        } else {
            self.failed.push(name.to_owned());
        }
    }

    fn may_go_on(&self) -> bool {
        self.deaths.len() < DEATHS && self.failed.is_empty() && !self.left.is_empty()
    }

    fn died(&mut self, cause: &str, last_words: &str) {
        println!("nested: THE MACHINE ITSELF DIED: {cause}; STARTED AGAIN FOR {:?}", self.left);
        println!("{last_words}");
        self.deaths.push(cause.to_owned());
    }

    fn verdict(&self) -> serde_json::Value {
        let (passed, failed) = (self.passed.len(), &self.failed);
        json!({ "kind": "verdict", "passed": passed, "failed": failed, "machines_died": self.deaths })
    }
}

/// Prints what the machine reports and does what it asks for, until it sends its verdict.
fn converse(machine: &mut Machine, end: Instant, progress: &mut Progress) -> Result<()> {
    loop {
        match machine.next(end)? {
            FromGuest::Hello { kernel, steps } => {
                println!("nested: Linux {kernel} is up");
                progress.left = steps;
            }
            row @ FromGuest::Failover(_) => println!("{}", serde_json::to_string(&row)?),
            FromGuest::Step { name, ok, ms, detail } => {
                progress.step(&name, ok);
                progress.summaries.extend(summaries_of(&name, &detail));
                println!("{}", serde_json::to_string(&FromGuest::Step { name, ok, ms, detail })?);
            }
            FromGuest::SetLink { nic, up } => {
                let reply = match machine.set_link(&nic, up) {
                    Ok(()) => ToGuest::Done,
                    Err(error) => ToGuest::Refused { why: format!("{error:#}") },
                };
                machine.reply(&reply)?;
            }
            FromGuest::Verdict { failed, .. } => {
                print_table(&progress.summaries);
                if failed.is_empty() {
                    println!("nested: all {} steps passed", progress.passed.len());
                    return Ok(());
                }
                let steps = progress.passed.len() + failed.len();
                bail!("{} of {steps} steps failed: {}", failed.len(), failed.join(", "))
            }
        }
    }
}

/// The summaries of a step's failovers, if it had any.
fn summaries_of(step: &str, detail: &serde_json::Value) -> Vec<(String, Summary)> {
    let list = detail.get("summary").cloned().unwrap_or_default();
    let list: Vec<Summary> = serde_json::from_value(list).unwrap_or_default();
    list.into_iter().map(|summary| (step.to_owned(), summary)).collect()
}

fn print_table(summaries: &[(String, Summary)]) {
    if summaries.is_empty() {
        return;
    }
    println!("\nnested: medians, on emulated processors (10 to 50 times slower than real ones)");
    println!("{:<10} {}", "step", Summary::head());
    for (step, summary) in summaries {
        println!("{step:<10} {}", summary.line());
    }
    println!();
}
