//! A short campaign on real NICs, with the same faults and the same judgement of outcomes as on
//! emulated ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use lab::campaign::{
    CampaignSpec, Configuration, Emulated, InProcessCampaign, InjectionOutcome, InjectionRecord,
    Testbed,
};
use nic::pci::PciAddress;
use nic::wire::Wire;
use serde_json::{Map, Value, json};
use supervisor::Wires;
use supervisor::topology::{NicSpec, Topology};
use warmspare_tests::emulation;

use super::service::nics;
use crate::report::Report;
use crate::wire::SenderWire;

const INJECTIONS: u64 = 20;
/// How much slower this machine is taken to be: its processors are emulated, see [`emulation`].
const SLOWNESS: u32 = 10;

/// A testbed of this machine's NICs and the sender's host.
struct RealNics([PciAddress; 2]);

impl Testbed for RealNics {
    fn topology(&self, configuration: Configuration, folder: &Path) -> Topology {
        let mut topology = Emulated.topology(configuration, folder);
        topology.detect = emulation::PATIENT;
        for (domain, nic) in topology.domains.iter_mut().zip(self.0) {
            domain.nic = NicSpec::Vfio(nic);
        }
        topology
    }

    fn wire(&self, _: &mut Wires) -> io::Result<Arc<dyn Wire>> {
        Ok(SenderWire::open().map_err(io::Error::other)?)
    }

    fn slowness(&self) -> u32 {
        SLOWNESS
    }
}

fn spec() -> Value {
    let functions = json!({ "named": ["domain_loop_turn", "domain_rx_path", "domain_tx_path"] });
    json!({
        "name": "nested",
        "seed": 3,
        "faults": [
            { "code": { "weight": 4, "functions": functions } },
            { "register": { "weight": 2, "functions": functions } },
            { "mutation": { "weight": 2, "functions": functions } },
            { "data": {} },
            { "device": {} },
        ],
        "until": { "injections": INJECTIONS },
        "period_us": 2000,
        "observe_ms": 500,
        "reach_ms": 200,
    })
}

/// No fault harms the application, every fault that is detected is recovered from, and no sound
/// domain is judged to have failed. Faults that are not detected are reported but not judged: an
/// emulated network loses a datagram now and then by itself.
pub(super) fn campaign(_: &Report) -> Result<Value> {
    let testbed = RealNics(nics()?);
    let spec = CampaignSpec::parse("the nested campaign", &spec().to_string())?;
    let direct = InProcessCampaign::new(spec, &testbed, PathBuf::from("/tmp"))?;
    let mut counts = Map::new();
    let mut bad = Vec::new();
    let mut undetected = Vec::new();
    for id in 1..=INJECTIONS {
        let record = direct.inject(id)?;
        let count = counts.entry(record.outcome.name()).or_insert(json!(0));
        *count = json!(count.as_u64().unwrap_or(0) + 1);
        match record.outcome {
            InjectionOutcome::Corrupted
            | InjectionOutcome::Unrecovered
            | InjectionOutcome::FalseFailover => bad.push(line(&record)),
            _ if record.is_bad() => undetected.push(line(&record)),
            _ => {}
        }
    }
    ensure!(bad.is_empty(), "harm: {bad:?}; all: {counts:?}");
    Ok(json!({ "injections": INJECTIONS, "outcomes": counts, "to_be_looked_into": undetected }))
}

fn line(record: &InjectionRecord) -> String {
    let symbol = record.fault.symbol.as_deref().unwrap_or("memory");
    let note = record.note.as_deref().unwrap_or_default();
    let (id, kind, outcome) = (record.id, record.kind, record.outcome.name());
    format!("{id} {kind:?} at {symbol}: {outcome} ({note})")
}
