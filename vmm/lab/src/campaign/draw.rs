//! The list of faults: what the *n*th fault of a campaign is, as a function of the seed, *n*, the
//! driver's image and the profile, and of nothing else.

use std::sync::Arc;

use super::manifest::Profile;
use super::pools::Pool;
use super::spec::CampaignSpec;
use crate::injection::{
    Configuration, FaultKind, FaultRecord, InjectionRecord, Target, TargetError, TrialOrder,
};

/// The stretch of the traffic in which a fault is armed, microseconds after redundancy.
const MOMENT_US: std::ops::Range<u64> = 2_000..20_000;

/// A fault, drawn from the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DrawnFault {
    /// Number of the injection, from 1.
    pub(super) id: u64,
    /// How the service recovers.
    pub(super) configuration: Configuration,
    /// The fault's kind.
    pub(super) kind: FaultKind,
    /// The fault itself.
    pub(super) fault: FaultRecord,
    /// When it is armed, microseconds after redundancy.
    pub(super) moment_us: u64,
}

impl DrawnFault {
    /// The fault that led to a record.
    pub(super) fn of(record: &InjectionRecord) -> Self {
        Self {
            id: record.id,
            configuration: record.configuration,
            kind: record.kind,
            fault: record.fault.clone(),
            moment_us: record.moment_us,
        }
    }

    /// The order to inject it in a campaign.
    pub(super) fn order(self, spec: &CampaignSpec) -> TrialOrder {
        TrialOrder {
            id: self.id,
            seed: spec.seed,
            configuration: self.configuration,
            kind: self.kind,
            fault: self.fault,
            moment_us: self.moment_us,
            period_us: spec.period_us,
            observe_ms: spec.observe_ms,
            reach_ms: spec.reach_ms,
            dumps: None,
        }
    }
}

/// The list of a campaign's faults.
pub(super) struct FaultList {
    target: Arc<Target>,
    seed: u64,
    configurations: Vec<Configuration>,
    pools: Vec<WeightedPool>,
}

/// A pool, and how many faults of each round come from it.
struct WeightedPool {
    weight: u64,
    pool: Pool,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// A function is unknown.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A kind of fault has no place in the functions that it names.
    #[error("faults[{0}]: there is no place for such a fault in these functions: name others")]
    Empty(usize),
}

impl FaultList {
    /// The list of a campaign.
    ///
    /// # Errors
    /// A function is unknown, or has no place for a fault of its kind.
    pub(super) fn new(
        spec: &CampaignSpec,
        target: Arc<Target>,
        profile: Option<&Profile>,
    ) -> Result<Self, DrawError> {
        let mut pools = Vec::with_capacity(spec.faults.len());
        for (n, fault) in spec.faults.iter().enumerate() {
            let pool = Pool::new(fault, &target, profile)?;
            if pool.is_empty() {
                return Err(DrawError::Empty(n));
            }
            pools.push(WeightedPool { weight: fault.weight().into(), pool });
        }
        let (seed, configurations) = (spec.seed, spec.configurations.clone());
        Ok(Self { target, seed, configurations, pools })
    }

    /// The injection with this number, from 1.
    pub(super) fn injection(&self, id: u64) -> DrawnFault {
        let index = id.saturating_sub(1);
        let configurations = self.configurations.len() as u64;
        let (n, configuration) = (index / configurations, (index % configurations) as usize);
        // The same fault under each configuration.
        let mut random = fastrand::Rng::with_seed(mixed(self.seed, n));
        let Turn { pool, turn } = self.turn(n);
        let moment_us = random.u64(MOMENT_US);
        let fault = pool.draw(&self.target, turn, &mut random);
        let (kind, configuration) = (pool.kind(), self.configurations[configuration]);
        DrawnFault { id, configuration, kind, fault, moment_us }
    }

    /// Which pool the `n`th fault comes from. The pools take turns: in each round each has as many
    /// as its weight.
    fn turn(&self, n: u64) -> Turn<'_> {
        let round: u64 = self.pools.iter().map(|pool| pool.weight).sum();
        let mut place = spread(n % round, round);
        for WeightedPool { weight, pool } in &self.pools {
            if place < *weight {
                return Turn { pool, turn: n / round * weight + place };
            }
            place -= weight;
        }
        // Not reached: the weights add up to the round.
        Turn { pool: &self.pools[0].pool, turn: n }
    }
}

/// A pool that is to draw.
struct Turn<'a> {
    pool: &'a Pool,
    /// Number of the fault among those of the pool, from 0.
    turn: u64,
}

/// A seed of which neighbouring numbers give unlike values (SplitMix64's finaliser).
fn mixed(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Position `place` of a round, taken in strides, so that the kinds of a round are mixed and a
/// campaign that ends in the middle of one has had some of each.
fn spread(place: u64, round: u64) -> u64 {
    let coprime = |stride: &u64| gcd(*stride, round) == 1;
    let stride = (round * 5 / 8 + 1..).find(coprime).unwrap_or(1);
    place * stride % round
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
