//! The pools that faults are drawn from: all places where a kind of fault is possible.

use shared_ring::StatusPage;
use shared_ring::layout as map;

use super::manifest::Profile;
use super::spec::{ByteOrder, FaultSpec, Functions};
use crate::injection::{
    Code, FaultKind, FaultRecord, FaultSegment, Function, GENERAL_REGISTERS, MemoryRange, Mutation,
    NicRegister, Target, TargetError, hex,
};

/// Bytes of the stack, from its top, that faults hit: the driver never reaches those below.
const LIVE_STACK_BYTES: u64 = 2048;
/// Bytes of a receive buffer that hold frames of a campaign.
const FRAME_BYTES: u64 = 128;
/// Bits of an I/O address that faults hit.
const ADDRESS_BITS: u8 = 40;
/// Bytes of a descriptor of the NIC.
const DESCRIPTOR_BYTES: u64 = 16;

/// What one [`FaultSpec`] draws from.
pub(super) enum Pool {
    Code { bytes: Vec<CodeByte>, order: ByteOrder },
    Register { code: Vec<Code>, registers: Vec<&'static str> },
    Data { segments: Vec<DataSegment> },
    Device { segments: Vec<FaultSegment> },
    Mutation { mutations: Vec<PossibleMutation> },
}

/// A byte of an instruction.
pub(super) struct CodeByte {
    code: Code,
    byte: u8,
}

/// A segment, and where it lies.
pub(super) struct DataSegment {
    segment: FaultSegment,
    ranges: Vec<MemoryRange>,
}

/// A mutation, and where it is possible.
pub(super) struct PossibleMutation {
    mutation: Mutation,
    sites: Vec<MutationSite>,
}

/// An instruction at which a mutation is possible, in one of its variants.
#[derive(Clone, Copy)]
struct MutationSite {
    code: Code,
    variant: u32,
}

impl Pool {
    /// The pool of a kind of fault.
    pub(super) fn new(
        fault: &FaultSpec,
        target: &Target,
        profile: Option<&Profile>,
    ) -> Result<Self, TargetError> {
        let code = match fault.functions() {
            Some(functions) => code_of(functions, target, profile)?,
            None => Vec::new(),
        };
        Ok(match fault {
            FaultSpec::Code { order, .. } => {
                Self::Code { bytes: code.iter().flat_map(bytes_of).collect(), order: *order }
            }
            FaultSpec::Register { rip, rflags, .. } => {
                let more = [("rip", *rip), ("rflags", *rflags)];
                let more = more.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name);
                Self::Register {
                    code,
                    registers: GENERAL_REGISTERS.into_iter().chain(more).collect(),
                }
            }
            FaultSpec::Data { segments, .. } => {
                let segments = segments.iter().map(|segment| DataSegment::new(target, *segment));
                Self::Data { segments: segments.filter(|one| !one.ranges.is_empty()).collect() }
            }
            FaultSpec::Device { segments, .. } => Self::Device { segments: segments.clone() },
            FaultSpec::Mutation { mutations, .. } => {
                let mutations = mutations.iter().map(|m| PossibleMutation::new(target, &code, *m));
                Self::Mutation {
                    mutations: mutations.filter(|one| !one.sites.is_empty()).collect(),
                }
            }
        })
    }

    /// Returns true if there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Code { bytes, .. } => bytes.is_empty(),
            Self::Register { code, registers } => code.is_empty() || registers.is_empty(),
            Self::Data { segments } => segments.is_empty(),
            Self::Device { segments } => segments.is_empty(),
            Self::Mutation { mutations } => mutations.is_empty(),
        }
    }

    /// The kind of its faults.
    pub(super) fn kind(&self) -> FaultKind {
        match self {
            Self::Code { .. } => FaultKind::Code,
            Self::Register { .. } => FaultKind::Register,
            Self::Data { .. } => FaultKind::Data,
            Self::Device { .. } => FaultKind::Device,
            Self::Mutation { .. } => FaultKind::Mutation,
        }
    }

    /// Draws a fault, the `turn`th of this pool.
    pub(super) fn draw(
        &self,
        target: &Target,
        turn: u64,
        random: &mut fastrand::Rng,
    ) -> FaultRecord {
        match self {
            Self::Code { bytes, order } => {
                let at = match order {
                    ByteOrder::Random => random.usize(0..bytes.len()),
                    ByteOrder::Each => (turn % bytes.len() as u64) as usize,
                };
                let CodeByte { code, byte } = &bytes[at];
                FaultRecord {
                    byte: Some(*byte),
                    bit: Some(random.u8(0..8)),
                    ..at_code(target, code, FaultSegment::Text)
                }
            }
            Self::Register { code, registers } => {
                let code = one_of(code, random);
                let register = *one_of(registers, random);
                FaultRecord {
                    register: Some(register.into()),
                    // The flags have their meaning in the lower bits.
                    bit: Some(random.u8(0..if register == "rflags" { 22 } else { 64 })),
                    ..at_code(target, code, FaultSegment::Registers)
                }
            }
            Self::Data { segments } => {
                let DataSegment { segment, ranges } = one_of(segments, random);
                FaultRecord {
                    address: Some(byte_of(ranges, random)),
                    bit: Some(random.u8(0..8)),
                    ..FaultRecord::blank(*segment)
                }
            }
            Self::Device { segments } => match *one_of(segments, random) {
                FaultSegment::Descriptor => in_descriptor(random),
                _ => in_nic_register(random),
            },
            Self::Mutation { mutations } => {
                let PossibleMutation { mutation, sites } = one_of(mutations, random);
                mutated(target, *mutation, one_of(sites, random))
            }
        }
    }
}

fn one_of<'a, T>(all: &'a [T], random: &mut fastrand::Rng) -> &'a T {
    &all[random.usize(0..all.len())]
}

/// The instructions of the functions that are asked for.
fn code_of(
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

fn bytes_of(code: &Code) -> impl Iterator<Item = CodeByte> {
    let code = *code;
    (0..code.instruction.len() as u8).map(move |byte| CodeByte { code, byte })
}

impl PossibleMutation {
    fn new(target: &Target, code: &[Code], mutation: Mutation) -> Self {
        let variants = match mutation {
            Mutation::WildPointer => 5,
            Mutation::MissedInterrupt => 2,
            Mutation::InvertedBranch
            | Mutation::SkippedBranch
            | Mutation::OffByOne
            | Mutation::LeakedBuffer => 1,
        };
        let sites = code
            .iter()
            .flat_map(|code| (0..variants).map(|variant| MutationSite { code: *code, variant }))
            .filter(|site| site.apply(target, mutation).is_some());
        Self { mutation, sites: sites.collect() }
    }
}

impl MutationSite {
    fn apply(&self, target: &Target, mutation: Mutation) -> Option<Vec<u8>> {
        let before = target.code_before(&self.code);
        mutation.apply(target, before.as_ref(), &self.code, self.variant)
    }
}

impl DataSegment {
    fn new(target: &Target, segment: FaultSegment) -> Self {
        Self { segment, ranges: ranges(target, segment) }
    }
}

/// Where the bytes of a segment lie.
fn ranges(target: &Target, segment: FaultSegment) -> Vec<MemoryRange> {
    let range = |address, len| MemoryRange { address, len };
    match segment {
        FaultSegment::Stack => vec![range(map::STACK_TOP - LIVE_STACK_BYTES, LIVE_STACK_BYTES)],
        FaultSegment::Status => vec![range(map::STATUS_BASE, size_of::<StatusPage>() as u64)],
        FaultSegment::Ring => {
            let bytes = (map::RING_ENTRIES * shared_ring::entry::ENTRY_BYTES) as u64;
            let bases =
                [map::TX_POST_BASE, map::RX_PROVIDE_BASE, map::TX_DONE_BASE, map::RX_DONE_BASE];
            bases.map(|base| range(base, bytes)).to_vec()
        }
        FaultSegment::Frames => (0..map::RX_BUFFERS as u64)
            .map(|n| range(map::RX_POOL_BASE + n * map::BUFFER_BYTES as u64, FRAME_BYTES))
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

/// The address of a byte in one of these ranges.
fn byte_of(ranges: &[MemoryRange], random: &mut fastrand::Rng) -> u64 {
    let all: u64 = ranges.iter().map(|range| range.len).sum();
    let mut at = random.u64(0..all.max(1));
    for range in ranges {
        if at < range.len {
            return range.address + at;
        }
        at -= range.len;
    }
    0
}

/// A fault at an instruction.
fn at_code(target: &Target, code: &Code, segment: FaultSegment) -> FaultRecord {
    let (symbol, function) = target.symbol(code.address()).unzip();
    FaultRecord {
        address: Some(code.address()),
        symbol,
        function,
        source: target.source(code.address()),
        instruction: Some(target.describe(code)),
        ..FaultRecord::blank(segment)
    }
}

fn mutated(target: &Target, mutation: Mutation, site: &MutationSite) -> FaultRecord {
    let bytes = site.apply(target, mutation).unwrap_or_default();
    FaultRecord {
        mutation: Some(mutation.name().into()),
        bytes: Some(hex(&bytes)),
        ..at_code(target, &site.code, FaultSegment::Text)
    }
}

/// A flipped bit of an address in one of the NIC's descriptors.
fn in_descriptor(random: &mut fastrand::Rng) -> FaultRecord {
    let (ring, descriptors) = match random.bool() {
        true => (map::DMA_RX_RING_OFFSET, map::NIC_RX_DESCRIPTORS),
        false => (map::DMA_TX_RING_OFFSET, map::NIC_TX_DESCRIPTORS),
    };
    let descriptor = random.u64(0..descriptors as u64);
    let bit = random.u8(0..ADDRESS_BITS);
    let word = map::DMA_BASE + ring + descriptor * DESCRIPTOR_BYTES;
    FaultRecord {
        address: Some(word + u64::from(bit / 8)),
        bit: Some(bit % 8),
        ..FaultRecord::blank(FaultSegment::Descriptor)
    }
}

/// A flipped bit of one of the NIC's registers.
fn in_nic_register(random: &mut fastrand::Rng) -> FaultRecord {
    let register = one_of(&NicRegister::ALL, random);
    FaultRecord {
        address: Some(register.offset.into()),
        symbol: Some(register.name.into()),
        bit: Some(random.u8(0..32)),
        ..FaultRecord::blank(FaultSegment::Nic)
    }
}
