//! The cost of a running warmspare: memory, processor time, and the time until it serves.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{BenchArgs, Figure, usage};
use crate::program;

const GROUP: &str = "cost";
/// Time over which one value of processor time is measured.
const LOOK: Duration = Duration::from_secs(2);
/// Time until everything has started.
const SETTLE: Duration = Duration::from_secs(2);

/// `warmspare` with these arguments and no output; killed when dropped.
struct Program(Child);

impl Program {
    fn start(arguments: &[&str]) -> Result<Self> {
        let child = Command::new(program())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("warmspare cannot be started")?;
        Ok(Self(child))
    }

    /// Returns the share of one core that it uses, in percent, over [`LOOK`].
    fn load(&self) -> f64 {
        let before = usage::process_ns(self.0.id());
        std::thread::sleep(LOOK);
        let ns = usage::process_ns(self.0.id()) - before;
        ns as f64 / LOOK.as_nanos() as f64 * 100.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a demo, and returns its report.
pub(super) fn demo(arguments: &[&str]) -> Result<Value> {
    let output = Command::new(program())
        .args(["demo", "--format", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("the demo cannot be started")?;
    ensure!(!output.stdout.is_empty(), "the demo has failed: {:?}", output.status);
    serde_json::from_slice(&output.stdout).context("the demo's report")
}

/// The values of one key in all rows of a report.
pub(super) fn column(report: &Value, key: &str) -> Vec<f64> {
    let rows = report["failovers"].as_array().into_iter().flatten();
    rows.filter_map(|row| row[key].as_f64()).collect()
}

pub(super) fn run(args: &BenchArgs) -> Result<Vec<Figure>> {
    let mut spare = Vec::new();
    let mut alone = Vec::new();
    for _ in 0..args.runs {
        spare.push(demo(&["--faults", "3"])?);
        alone.push(demo(&["--faults", "3", "--policy", "reboot"])?);
    }
    let number = |reports: &[Value], path: &str| -> Vec<f64> {
        reports.iter().filter_map(|report| report.pointer(path)?.as_f64()).collect()
    };
    let vmm = number(&spare, "/memory/vmm_rss_kib");
    let single = number(&alone, "/memory/vmm_rss_kib");
    let difference = vmm.iter().zip(&single).map(|(two, one)| two - one).collect();
    let redundant = spare.iter().flat_map(|report| column(report, "redundant_again_ms")).collect();
    let (idle, busy) = loads(args)?;
    let row = |row, figure, values| Figure::new(GROUP, row, figure, values);
    Ok(vec![
        row("memory", ("VMM with two domains", "KiB"), vmm),
        row("memory", ("VMM with one domain", "KiB"), single),
        row("memory", ("the spare, resident", "KiB"), difference),
        row("memory", ("RAM of a domain", "KiB"), number(&spare, "/memory/domain_kib")),
        row("processor", ("idle", "% of a core"), idle),
        row("processor", ("1,000 frames/s each way, sender included", "% of a core"), busy),
        row("time", ("start to first echo", "ms"), number(&spare, "/first_echo_ms")),
        row("time", ("failure to redundancy", "ms"), redundant),
    ])
}

/// Measures processor time at rest, and with an echo each millisecond.
fn loads(args: &BenchArgs) -> Result<(Vec<f64>, Vec<f64>)> {
    let folder = std::env::temp_dir().join(format!("warmspare-cost-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let topology = supervisor::topology::Topology::demo(&folder.join("app.sock"));
    let file = folder.join("topology.json");
    std::fs::write(&file, serde_json::to_string(&topology)?)?;
    let path = file.to_str().context("a folder whose name is no text")?.to_owned();
    let measure = |arguments: &[&str]| -> Result<Vec<f64>> {
        let program = Program::start(arguments)?;
        std::thread::sleep(SETTLE);
        Ok((0..args.runs).map(|_| program.load()).collect())
    };
    let loads = measure(&["run", &path])
        .and_then(|idle| Ok((idle, measure(&["demo", "--faults", "1", "--stay"])?)));
    let _ = std::fs::remove_dir_all(&folder);
    loads
}
