//! Programming errors, made of machine code.
//!
//! Each mutation is what a slip in the source would have compiled to, at one instruction; the
//! driver's source holds none of them.
//!
//! | mutation | instruction | becomes |
//! |---|---|---|
//! | inverted branch | a conditional jump | the jump with the opposite condition |
//! | skipped branch | a conditional jump or a call | nothing |
//! | off by one | a comparison with a constant | the constant one more |
//! | wild pointer | an access through a base register | one of the displacement's high bits flipped, or another base |
//! | missed interrupt | a conditional jump right behind a test of memory | always or never taken |
//! | leaked buffer | a store, not to the stack, of a number or a cursor | nothing |

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::kinds::Mutation;
use super::target::{Code, Target};

const NOP: u8 = 0x90;

impl Mutation {
    /// The bytes that replace an instruction, as many as it has; `None` where this mutation is not
    /// possible. `before` is the instruction that precedes it, `variant` chooses among several ways.
    pub(crate) fn apply(
        self,
        target: &Target,
        before: Option<&Code>,
        code: &Code,
        variant: u32,
    ) -> Option<Vec<u8>> {
        let bytes = target.bytes(code);
        let instruction = &code.instruction;
        match self {
            Self::InvertedBranch => inverted(bytes),
            Self::SkippedBranch => {
                let skippable = is_conditional(bytes) || instruction.mnemonic() == Mnemonic::Call;
                skippable.then(|| vec![NOP; bytes.len()])
            }
            Self::OffByOne => off_by_one(instruction, bytes),
            Self::WildPointer => wild(instruction, bytes, variant),
            Self::MissedInterrupt => {
                let tests_memory = before.is_some_and(|before| {
                    let sequel = before.instruction.next_ip() == instruction.ip();
                    sequel && tests_memory(&before.instruction)
                });
                if tests_memory { forced(bytes, variant.is_multiple_of(2)) } else { None }
            }
            Self::LeakedBuffer => is_published(instruction).then(|| vec![NOP; bytes.len()]),
        }
    }
}

/// The index of the opcode byte that holds the condition, in a conditional jump.
fn condition_at(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0x70..=0x7f, _] => Some(0),
        [0x0f, 0x80..=0x8f, _, _, _, _] => Some(1),
        _ => None,
    }
}

fn is_conditional(bytes: &[u8]) -> bool {
    condition_at(bytes).is_some()
}

fn inverted(bytes: &[u8]) -> Option<Vec<u8>> {
    let at = condition_at(bytes)?;
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    Some(changed)
}

/// A conditional jump, made to be taken always or never.
fn forced(bytes: &[u8], taken: bool) -> Option<Vec<u8>> {
    let at = condition_at(bytes)?;
    if !taken {
        return Some(vec![NOP; bytes.len()]);
    }
    let mut changed = bytes.to_vec();
    match at {
        0 => changed[0] = 0xeb,
        // One byte shorter: a nop in front leaves the displacement where it was.
        _ => changed[..2].copy_from_slice(&[NOP, 0xe9]),
    }
    Some(changed)
}

fn offsets(instruction: &Instruction, bytes: &[u8]) -> ConstantOffsets {
    let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
    let again = decoder.decode();
    decoder.get_constant_offsets(&again)
}

fn off_by_one(instruction: &Instruction, bytes: &[u8]) -> Option<Vec<u8>> {
    if instruction.mnemonic() != Mnemonic::Cmp {
        return None;
    }
    let offsets = offsets(instruction, bytes);
    if !offsets.has_immediate() {
        return None;
    }
    let (at, len) = (offsets.immediate_offset(), offsets.immediate_size());
    let mut changed = bytes.to_vec();
    // One more, with a carry.
    for byte in changed.get_mut(at..at + len)? {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    Some(changed)
}

fn accesses_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory)
}

fn wild(instruction: &Instruction, bytes: &[u8], variant: u32) -> Option<Vec<u8>> {
    let based = accesses_memory(instruction) && instruction.memory_base() != Register::None;
    if !based || instruction.mnemonic() == Mnemonic::Lea || instruction.mnemonic() == Mnemonic::Nop
    {
        return None;
    }
    let offsets = offsets(instruction, bytes);
    if offsets.has_displacement() && offsets.displacement_size() > 0 {
        let at = offsets.displacement_offset() + offsets.displacement_size() - 1;
        let mut changed = bytes.to_vec();
        *changed.get_mut(at)? ^= 1 << (2 + variant % 5);
        return Some(changed);
    }
    other_base(instruction, bytes)
}

/// The same access through another register: the low bit of the base in the ModRM or SIB byte.
fn other_base(instruction: &Instruction, bytes: &[u8]) -> Option<Vec<u8>> {
    (1..bytes.len()).find_map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        let mut decoder = Decoder::with_ip(64, &changed, instruction.ip(), DecoderOptions::NONE);
        let other = decoder.decode();
        let alike = other.code() == instruction.code() && other.len() == instruction.len();
        let elsewhere = alike
            && other.memory_base() != instruction.memory_base()
            && other.memory_base() != Register::None
            && other.memory_index() == instruction.memory_index();
        elsewhere.then_some(changed)
    })
}

/// Returns true for a comparison with memory, which others may write.
fn tests_memory(instruction: &Instruction) -> bool {
    let tests = matches!(instruction.mnemonic(), Mnemonic::Test | Mnemonic::Cmp | Mnemonic::Bt);
    tests && accesses_memory(instruction) && !on_stack(instruction)
}

fn on_stack(instruction: &Instruction) -> bool {
    matches!(instruction.memory_base(), Register::RSP | Register::RBP)
}

/// Returns true for a store of a register to memory outside of the stack.
fn is_published(instruction: &Instruction) -> bool {
    let store = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Xchg)
        && instruction.op_count() == 2
        && instruction.op_kind(0) == OpKind::Memory
        && instruction.op_kind(1) == OpKind::Register;
    store && !on_stack(instruction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> Instruction {
        Decoder::with_ip(64, bytes, 0x4_0000, DecoderOptions::NONE).decode()
    }

    #[test]
    fn branches_are_inverted_and_forced() {
        assert_eq!(inverted(&[0x74, 5]), Some(vec![0x75, 5]));
        assert_eq!(inverted(&[0x0f, 0x83, 1, 2, 3, 4]), Some(vec![0x0f, 0x82, 1, 2, 3, 4]));
        assert_eq!(inverted(&[0xeb, 5]), None);
        assert_eq!(forced(&[0x74, 5], true), Some(vec![0xeb, 5]));
        assert_eq!(forced(&[0x0f, 0x83, 1, 2, 3, 4], true), Some(vec![NOP, 0xe9, 1, 2, 3, 4]));
        assert_eq!(forced(&[0x74, 5], false), Some(vec![NOP; 2]));
    }

    #[test]
    fn bounds_are_one_more_with_a_carry() {
        let cmp = [0x83, 0xf8, 0x40]; // cmp eax, 0x40
        assert_eq!(off_by_one(&decoded(&cmp), &cmp), Some(vec![0x83, 0xf8, 0x41]));
        let wide = [0x3d, 0xff, 0x01, 0, 0]; // cmp eax, 0x1ff
        assert_eq!(off_by_one(&decoded(&wide), &wide), Some(vec![0x3d, 0, 0x02, 0, 0]));
        let other = [0x39, 0xd8]; // cmp eax, ebx
        assert_eq!(off_by_one(&decoded(&other), &other), None);
    }

    #[test]
    fn pointers_point_elsewhere_and_the_instruction_stays_the_same() {
        let near = [0x8b, 0x43, 0x10]; // mov eax, [rbx+0x10]
        let changed = wild(&decoded(&near), &near, 0).unwrap();
        assert_ne!(decoded(&changed).memory_displacement64(), 0x10);
        let plain = [0x8b, 0x03]; // mov eax, [rbx]
        let changed = wild(&decoded(&plain), &plain, 0).unwrap();
        assert_eq!(decoded(&changed).memory_base(), Register::RDX);
        let nothing = [0x89, 0xd8]; // mov eax, ebx
        assert_eq!(wild(&decoded(&nothing), &nothing, 0), None);
    }

    #[test]
    fn the_driver_has_places_for_every_mutation() {
        let target = Target::new(guest_images::DRIVER_DOMAIN).unwrap();
        let code = target.code_of(None);
        for mutation in Mutation::ALL {
            let places = code.iter().enumerate().filter(|(n, at)| {
                let before = n.checked_sub(1).map(|n| &code[n]);
                let changed = mutation.apply(&target, before, at, 0);
                let len = changed.as_ref().map(Vec::len);
                assert!(len.is_none_or(|len| len == at.instruction.len()), "{mutation:?}");
                assert!(changed.as_ref().is_none_or(|changed| changed != target.bytes(at)));
                changed.is_some()
            });
            assert!(places.count() > 5, "{mutation:?}");
        }
    }
}
