//! Comparison of the emulated NIC with QEMU's igb.

use anyhow::{Context, Result, ensure};
use nic::discovery;
use nic::vfio::VfioNic;
use serde_json::{Value, json};

use crate::report::Report;
use crate::trace::{self, Difference, EXPECTED, Notes, TRACES};

/// Runs every trace on both NICs. Every difference must be expected, and every expected difference
/// must show.
pub(super) fn compare(_: &Report) -> Result<Value> {
    let address = discovery::list()?.first().context("no NIC")?.address;
    let mut compared = 0;
    let mut wrong = Vec::new();
    let mut expected = Vec::new();
    for (name, run) in TRACES {
        let emulated = trace::on_emulated(run).with_context(|| format!("{name}, emulated"))?;
        let nic = VfioNic::open(address)?;
        let real = trace::on_real(&nic, run).with_context(|| format!("{name}, igb"))?;
        ensure!(
            emulated.len() == real.len(),
            "{name}: notes of different length: emulated {emulated:?}, igb {real:?}"
        );
        compared += real.len();
        let listed: Vec<_> = EXPECTED.iter().filter(|known| known.trace == name).collect();
        judge(name, &emulated, &real, &listed, &mut wrong);
        expected.extend(listed.iter().map(
            |known| json!({ "trace": known.trace, "label": known.label, "reason": known.reason }),
        ));
    }
    ensure!(wrong.is_empty(), "{} of {compared} differ: {}", wrong.len(), wrong.join("; "));
    Ok(json!({ "compared": compared, "differences": expected }))
}

fn judge(
    name: &str,
    emulated: &Notes,
    real: &Notes,
    listed: &[&Difference],
    wrong: &mut Vec<String>,
) {
    for ((label, ours), (_, theirs)) in emulated.iter().zip(real) {
        let is_listed = listed.iter().any(|known| known.label == label);
        match (ours == theirs, is_listed) {
            (false, false) => {
                wrong.push(format!("{name}/{label}: emulated `{ours}`, igb `{theirs}`"));
            }
            (true, true) => wrong.push(format!("{name}/{label}: listed, but both say `{ours}`")),
            _ => {}
        }
    }
    for known in listed {
        if !emulated.iter().any(|(label, _)| label == known.label) {
            wrong.push(format!("{name}/{}: listed, but no such label", known.label));
        }
    }
}
