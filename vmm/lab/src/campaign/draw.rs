//! The list of faults: what the *n*th fault of a campaign is, as a function of the seed, *n*, the
//! driver's image and the profile, and of nothing else.

use std::sync::Arc;

use shared_ring::StatusPage;
use shared_ring::layout as map;

use super::manifest::Profile;
use super::mutate::Mutation;
use super::place::{self, NicRegister};
use super::record::{FaultKind, FaultRecord, FaultSegment};
use super::spec::{CampaignSpec, Configuration, FaultSpec, Functions, Order};
use super::target::{Code, Function, Target, TargetError, hex};

/// The stretch of the traffic in which a fault is armed, microseconds after redundancy.
const MOMENT_US: std::ops::Range<u64> = 2_000..20_000;
/// Bytes of the stack, from its top, that faults strike: below is what the driver never reaches.
const LIVE_STACK_BYTES: u64 = 2048;
/// Bytes of a receive buffer that hold frames of a campaign.
const FRAME_BYTES: u64 = 128;
/// Bits of an I/O address that faults strike.
const ADDRESS_BITS: u8 = 40;

/// A fault, drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Number of the injection, from 1.
    pub id: u64,
    /// How the service recovers.
    pub configuration: Configuration,
    /// What kind.
    pub kind: FaultKind,
    /// The fault.
    pub fault: FaultRecord,
    /// When it is armed, microseconds after redundancy.
    pub moment_us: u64,
}

/// What one [`FaultSpec`] draws from.
enum Pool {
    Code { bytes: Vec<(Code, u8)>, order: Order },
    Register { code: Vec<Code>, registers: Vec<&'static str> },
    Data { segments: Vec<(FaultSegment, Vec<(u64, u64)>)> },
    Device { segments: Vec<FaultSegment> },
    Mutation { places: Vec<(Mutation, Vec<(Code, u32)>)> },
}

/// The list of a campaign's faults.
pub struct Faults {
    target: Arc<Target>,
    seed: u64,
    configurations: Vec<Configuration>,
    /// Each with its weight.
    pools: Vec<(u64, Pool)>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    /// A function is unknown.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing to strike.
    #[error("faults[{0}]: there is no place for such a fault in these functions: name others")]
    Empty(usize),
}

impl Faults {
    /// The list.
    ///
    /// # Errors
    /// A function is unknown, or has no place for a fault of its kind.
    pub fn new(
        spec: &CampaignSpec,
        target: Arc<Target>,
        profile: Option<&Profile>,
    ) -> Result<Self, DrawError> {
        let mut pools = Vec::with_capacity(spec.faults.len());
        for (n, fault) in spec.faults.iter().enumerate() {
            let pool = pool(fault, &target, profile)?;
            if pool.is_empty() {
                return Err(DrawError::Empty(n));
            }
            pools.push((u64::from(fault.weight()), pool));
        }
        let (seed, configurations) = (spec.seed, spec.configurations.clone());
        Ok(Self { target, seed, configurations, pools })
    }

    /// The injection with this number, from 1.
    pub fn injection(&self, id: u64) -> Drawn {
        let index = id.saturating_sub(1);
        let configurations = self.configurations.len() as u64;
        let (n, configuration) = (index / configurations, (index % configurations) as usize);
        // The same fault under each configuration.
        let mut random = fastrand::Rng::with_seed(mixed(self.seed, n));
        let (pool, turn) = self.pool(n);
        let moment_us = random.u64(MOMENT_US);
        let (kind, fault) = self.draw(pool, turn, &mut random);
        Drawn { id, configuration: self.configurations[configuration], kind, fault, moment_us }
    }

    /// Which pool the `n`th fault comes from, and its number in that pool. The pools take turns: in
    /// each round each has as many as its weight.
    fn pool(&self, n: u64) -> (&Pool, u64) {
        let round: u64 = self.pools.iter().map(|(weight, _)| weight).sum();
        let mut place = spread(n % round, round);
        for (weight, pool) in &self.pools {
            if place < *weight {
                return (pool, n / round * weight + place);
            }
            place -= weight;
        }
        // The weights add up to the round.
        (&self.pools[0].1, n)
    }

    fn draw(&self, pool: &Pool, turn: u64, random: &mut fastrand::Rng) -> (FaultKind, FaultRecord) {
        match pool {
            Pool::Code { bytes, order } => {
                let at = match order {
                    Order::Random => random.usize(0..bytes.len()),
                    Order::Each => (turn % bytes.len() as u64) as usize,
                };
                let (code, byte) = &bytes[at];
                let fault = FaultRecord {
                    byte: Some(*byte),
                    bit: Some(random.u8(0..8)),
                    ..self.at_code(code, FaultSegment::Text)
                };
                (FaultKind::Code, fault)
            }
            Pool::Register { code, registers } => {
                let code = &code[random.usize(0..code.len())];
                let register = registers[random.usize(0..registers.len())];
                let fault = FaultRecord {
                    register: Some(register.into()),
                    // The flags have their meaning in the lower bits.
                    bit: Some(random.u8(0..if register == "rflags" { 22 } else { 64 })),
                    ..self.at_code(code, FaultSegment::Registers)
                };
                (FaultKind::Register, fault)
            }
            Pool::Data { segments } => {
                let (segment, ranges) = &segments[random.usize(0..segments.len())];
                let fault = FaultRecord {
                    address: Some(byte_of(ranges, random)),
                    bit: Some(random.u8(0..8)),
                    ..place::blank(*segment)
                };
                (FaultKind::Data, fault)
            }
            Pool::Device { segments } => {
                let segment = segments[random.usize(0..segments.len())];
                (FaultKind::Device, device(segment, random))
            }
            Pool::Mutation { places } => {
                let (mutation, places) = &places[random.usize(0..places.len())];
                let (code, variant) = places[random.usize(0..places.len())];
                (FaultKind::Mutation, self.mutation(*mutation, &code, variant))
            }
        }
    }

    fn mutation(&self, mutation: Mutation, code: &Code, variant: u32) -> FaultRecord {
        let before = self.target.code_before(code);
        let bytes = mutation.apply(&self.target, before.as_ref(), code, variant);
        FaultRecord {
            mutation: Some(mutation.name().into()),
            bytes: Some(hex(&bytes.unwrap_or_default())),
            ..self.at_code(code, FaultSegment::Text)
        }
    }

    fn at_code(&self, code: &Code, segment: FaultSegment) -> FaultRecord {
        at_code(&self.target, code, segment)
    }
}

/// A record of an instruction.
pub(super) fn at_code(target: &Target, code: &Code, segment: FaultSegment) -> FaultRecord {
    let (symbol, function) = target.symbol(code.address()).unzip();
    FaultRecord {
        address: Some(code.address()),
        symbol,
        function,
        source: target.source(code.address()),
        instruction: Some(target.describe(code)),
        ..place::blank(segment)
    }
}

impl Pool {
    fn is_empty(&self) -> bool {
        match self {
            Self::Code { bytes, .. } => bytes.is_empty(),
            Self::Register { code, registers } => code.is_empty() || registers.is_empty(),
            Self::Data { segments } => segments.is_empty(),
            Self::Device { segments } => segments.is_empty(),
            Self::Mutation { places } => places.is_empty(),
        }
    }
}

fn pool(fault: &FaultSpec, target: &Target, profile: Option<&Profile>) -> Result<Pool, DrawError> {
    let code = match fault.functions() {
        Some(functions) => code(functions, target, profile)?,
        None => Vec::new(),
    };
    Ok(match fault {
        FaultSpec::Code { order, .. } => {
            let bytes_of = |code: &Code| {
                let code = *code;
                (0..code.instruction.len() as u8).map(move |byte| (code, byte))
            };
            Pool::Code { bytes: code.iter().flat_map(bytes_of).collect(), order: *order }
        }
        FaultSpec::Register { rip, rflags, .. } => {
            let more = [("rip", *rip), ("rflags", *rflags)];
            let more = more.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name);
            Pool::Register { code, registers: place::GENERAL.into_iter().chain(more).collect() }
        }
        FaultSpec::Data { segments, .. } => {
            let ranges = segments.iter().map(|segment| (*segment, ranges(target, *segment)));
            Pool::Data { segments: ranges.filter(|(_, ranges)| !ranges.is_empty()).collect() }
        }
        FaultSpec::Device { segments, .. } => Pool::Device { segments: segments.clone() },
        FaultSpec::Mutation { mutations, .. } => {
            let places = mutations.iter().map(|m| (*m, places(target, &code, *m)));
            Pool::Mutation { places: places.filter(|(_, places)| !places.is_empty()).collect() }
        }
    })
}

fn code(
    functions: &Functions,
    target: &Target,
    profile: Option<&Profile>,
) -> Result<Vec<Code>, TargetError> {
    let named = |names: &mut dyn Iterator<Item = &String>| -> Result<Vec<Function>, TargetError> {
        names.map(|name| target.function(name).cloned()).collect()
    };
    let chosen = match functions {
        Functions::Text => None,
        Functions::Named(names) => Some(named(&mut names.iter())?),
        Functions::Profile => {
            let functions = profile.map_or(&[][..], |profile| &profile.functions);
            Some(named(&mut functions.iter().map(|function| &function.name))?)
        }
    };
    Ok(target.code_of(chosen.as_deref()))
}

/// Where a mutation is possible, in each of its ways.
fn places(target: &Target, code: &[Code], mutation: Mutation) -> Vec<(Code, u32)> {
    let ways = match mutation {
        Mutation::WildPointer => 5,
        Mutation::MissedInterrupt => 2,
        Mutation::InvertedBranch
        | Mutation::SkippedBranch
        | Mutation::OffByOne
        | Mutation::LeakedBuffer => 1,
    };
    let possible = |(code, variant): &(Code, u32)| {
        let before = target.code_before(code);
        mutation.apply(target, before.as_ref(), code, *variant).is_some()
    };
    code.iter().flat_map(|code| (0..ways).map(|n| (*code, n))).filter(possible).collect()
}

/// Where the bytes of a segment lie: addresses and lengths.
fn ranges(target: &Target, segment: FaultSegment) -> Vec<(u64, u64)> {
    match segment {
        FaultSegment::Stack => vec![(map::STACK_TOP - LIVE_STACK_BYTES, LIVE_STACK_BYTES)],
        FaultSegment::Status => vec![(map::STATUS_BASE, size_of::<StatusPage>() as u64)],
        FaultSegment::Ring => {
            let bytes = (map::RING_ENTRIES * shared_ring::entry::ENTRY_BYTES) as u64;
            let bases =
                [map::TX_POST_BASE, map::RX_PROVIDE_BASE, map::TX_DONE_BASE, map::RX_DONE_BASE];
            bases.map(|base| (base, bytes)).to_vec()
        }
        FaultSegment::Frames => (0..map::RX_BUFFERS as u64)
            .map(|n| (map::RX_POOL_BASE + n * map::BUFFER_BYTES as u64, FRAME_BYTES))
            .collect(),
        FaultSegment::Text
        | FaultSegment::Rodata
        | FaultSegment::Data
        | FaultSegment::Bss
        | FaultSegment::Nic
        | FaultSegment::Descriptor
        | FaultSegment::Registers => target.segment(segment),
    }
}

fn byte_of(ranges: &[(u64, u64)], random: &mut fastrand::Rng) -> u64 {
    let all: u64 = ranges.iter().map(|(_, len)| len).sum();
    let mut at = random.u64(0..all.max(1));
    for (base, len) in ranges {
        if at < *len {
            return base + at;
        }
        at -= len;
    }
    0
}

fn device(segment: FaultSegment, random: &mut fastrand::Rng) -> FaultRecord {
    const DESCRIPTOR_BYTES: u64 = 16;
    if segment == FaultSegment::Descriptor {
        let (ring, descriptors) = match random.bool() {
            true => (map::DMA_RX_RING_OFFSET, map::NIC_RX_DESCRIPTORS),
            false => (map::DMA_TX_RING_OFFSET, map::NIC_TX_DESCRIPTORS),
        };
        let descriptor = random.u64(0..descriptors as u64);
        let bit = random.u8(0..ADDRESS_BITS);
        let word = map::DMA_BASE + ring + descriptor * DESCRIPTOR_BYTES;
        let address = word + u64::from(bit / 8);
        return FaultRecord { address: Some(address), bit: Some(bit % 8), ..place::blank(segment) };
    }
    let registers = NicRegister::ALL;
    let register = registers[random.usize(0..registers.len())];
    FaultRecord {
        address: Some(register.offset.into()),
        symbol: Some(register.name.into()),
        bit: Some(random.u8(0..32)),
        ..place::blank(FaultSegment::Nic)
    }
}

/// Neighbouring numbers give unlike seeds (SplitMix64's finaliser).
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
