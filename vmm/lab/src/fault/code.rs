//! Faults in the driver's code.

use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use shared_ring::layout::{
    DMA_BASE, DMA_RX_RING_OFFSET, HYPERCALL_BASE, NIC_RX_DESCRIPTORS, STATUS_BASE,
};
use shared_ring::{StatusPage, hypercall};

use super::cause::{Injected, Site};
use super::error::FaultError;
use microvm::domain::{DomainSlot, Life};
use microvm::kvm::{Image, Symbol};
use platform::clock::monotonic_ns;

/// `ud2`, an instruction that always faults, as the little-endian word its two bytes make.
const UD2: u16 = u16::from_le_bytes([0x0f, 0x0b]);
/// `jmp` to itself.
const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];

/// What the transmit path adds to the last descriptor of each frame, as it stands in its code: end
/// of packet, report status (i210 datasheet §7.2.2.3).
const TRANSMIT_CONSTANT: u32 = 0x0900_0000;
/// Bits of it that a fault flips. Without end of packet, the frame never becomes complete; without
/// the other bit, the descriptor has no known type. The NIC reports both as done.
const TRANSMIT_FLIPS: [u32; 2] = [1 << 24, 1 << 22];

fn symbol(image: &Image, name: &'static str) -> Result<Symbol, FaultError> {
    image.symbol(name).ok_or(FaultError::NoSymbol(name))
}

/// Overwrites the first instruction of a site's function in a running domain. Returns the time of
/// the store, `CLOCK_MONOTONIC` nanoseconds; the fault takes effect when the driver gets there.
///
/// # Errors
/// See [`FaultError`].
pub fn corrupt_code(slot: &DomainSlot, image: &Image, site: Site) -> Result<u64, FaultError> {
    let name = site.symbol();
    let symbol = symbol(image, name)?;
    // One aligned store: the vCPU sees the old instruction or the new one, never half of each.
    let code = slot
        .ram
        .shape::<AtomicU16>(symbol.address)
        .map_err(|source| FaultError::Memory { symbol: name, source })?;
    let at_ns = monotonic_ns();
    code.store(UD2, Ordering::SeqCst);
    Ok(at_ns)
}

/// Overwrites the beginning of a function at the moment at which the driver calls it.
fn replace(life: &Life, site: Site, code: &[u8]) -> Result<Injected, FaultError> {
    let name = site.symbol();
    let symbol = symbol(life.image(), name)?;
    let at_ns = monotonic_ns();
    let set = life.inject(symbol.address, code);
    set.map_err(|source| FaultError::Trap { symbol: name, source })?;
    Ok(Injected { at_ns, site: site.name() })
}

/// Makes the driver loop without end.
pub(super) fn hang(life: &Life, site: Site) -> Result<Injected, FaultError> {
    replace(life, site, &JUMP_TO_ITSELF)
}

/// Makes the driver count its heartbeat up and serve nothing, with parking or without.
pub(super) fn stall(life: &Life, variant: usize) -> Result<Injected, FaultError> {
    let mut code = Code::with_status_in_rax();
    let turn = code.len();
    code.beat();
    if variant.is_multiple_of(2) {
        code.push(&[0xf3, 0x90]); // pause
    } else {
        code.park();
    }
    code.jump_back(turn);
    replace(life, Site::Loop, &code.bytes)
}

/// Makes the receive path discard what the NIC received, count the heartbeat up, and park.
pub(super) fn drop_received(life: &Life) -> Result<Injected, FaultError> {
    const DESCRIPTOR_BYTES: u32 = 16;
    const STATUS_OFFSET: u32 = 8;
    let first = (DMA_BASE + DMA_RX_RING_OFFSET) as u32 + STATUS_OFFSET;
    let end = first + NIC_RX_DESCRIPTORS as u32 * DESCRIPTOR_BYTES;
    let mut code = Code::with_status_in_rax();
    let turn = code.len();
    code.beat();
    code.push(&[0xb9]); // mov ecx, first
    code.push(&first.to_le_bytes());
    let next = code.len();
    code.push(&[0x83, 0x21, 0xfe]); // and dword [rcx], not done
    code.push(&[0x83, 0xc1, DESCRIPTOR_BYTES as u8]); // add ecx, 16
    code.push(&[0x81, 0xf9]); // cmp ecx, end
    code.push(&end.to_le_bytes());
    code.branch_back(0x75, next); // jne next
    code.park();
    code.jump_back(turn);
    replace(life, Site::Rx, &code.bytes)
}

/// Flips one bit in the transmit path, after which the NIC does not send the frames that the driver
/// claims to have sent.
pub(super) fn drop_transmitted(
    slot: &DomainSlot,
    image: &Image,
    variant: usize,
) -> Result<Injected, FaultError> {
    let name = Site::Tx.symbol();
    let symbol = symbol(image, name)?;
    let (constant, bit) = (TRANSMIT_CONSTANT, TRANSMIT_FLIPS[variant % TRANSMIT_FLIPS.len()]);
    let memory = |source| FaultError::Memory { symbol: name, source };
    let mut text = vec![0; symbol.len as usize];
    slot.ram.read(symbol.address, &mut text).map_err(memory)?;
    let offset = text.windows(4).position(|bytes| bytes == constant.to_le_bytes());
    let offset = offset.ok_or(FaultError::NoConstant { symbol: name, constant })?;
    let byte = u64::from(bit.trailing_zeros() / 8);
    let at = symbol.address + offset as u64 + byte;
    let code = slot.ram.shape::<AtomicU8>(at).map_err(memory)?;
    let at_ns = monotonic_ns();
    code.fetch_xor((bit >> (8 * byte)) as u8, Ordering::SeqCst);
    Ok(Injected { at_ns, site: Site::Tx.name() })
}

/// A few instructions of x86-64.
struct Code {
    bytes: Vec<u8>,
}

impl Code {
    /// Code that begins with the status page's address in RAX and the WAIT call's in RDX.
    fn with_status_in_rax() -> Self {
        let mut code = Self { bytes: Vec::new() };
        code.push(&[0xb8]); // mov eax, status page
        code.push(&(STATUS_BASE as u32).to_le_bytes());
        code.push(&[0xba]); // mov edx, WAIT
        code.push(&((HYPERCALL_BASE + hypercall::offset::WAIT) as u32).to_le_bytes());
        code
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Counts the heartbeat up, as the driver does.
    fn beat(&mut self) {
        const { assert!(std::mem::offset_of!(StatusPage, heartbeat) == 0) };
        self.push(&[0x48, 0xff, 0x00]); // inc qword [rax]
    }

    /// Parks, with the flag set meanwhile, as the driver does.
    fn park(&mut self) {
        const PARKED: u8 = std::mem::offset_of!(StatusPage, parked) as u8;
        self.push(&[0xc7, 0x40, PARKED, 1, 0, 0, 0]); // mov dword [rax + parked], 1
        self.push(&[0x89, 0x02]); // mov [rdx], eax
        self.push(&[0xc7, 0x40, PARKED, 0, 0, 0, 0]); // mov dword [rax + parked], 0
    }

    fn jump_back(&mut self, to: usize) {
        self.branch_back(0xeb, to);
    }

    /// A short branch; its offset counts from its end.
    fn branch_back(&mut self, opcode: u8, to: usize) {
        let distance = self.len() + 2 - to;
        self.push(&[opcode, (distance as u8).wrapping_neg()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microvm::domain::MAX_FAULTY_BYTES;
    use microvm::kvm::{Segment, SegmentProtection};

    #[test]
    fn the_driver_images_have_what_faults_corrupt() {
        for bytes in [guest_images::DRIVER_DOMAIN, guest_images::SPARE_DOMAIN] {
            let image = Image::parse(bytes).unwrap();
            for site in Site::ALL {
                let symbol = symbol(&image, site.symbol()).unwrap();
                assert!(symbol.len as usize > MAX_FAULTY_BYTES, "{symbol:?}");
            }
            let tx = symbol(&image, Site::Tx.symbol()).unwrap();
            let holds = |s: &&Segment| (s.address..s.address + s.len).contains(&tx.address);
            let text = image.segments().iter().find(holds).unwrap();
            assert_eq!(text.protection, SegmentProtection::ReadExecute);
        }
    }

    #[test]
    fn branches_lead_back_to_where_they_should() {
        let mut code = Code { bytes: vec![0x90; 5] };
        code.jump_back(5);
        assert_eq!(code.bytes[5..], JUMP_TO_ITSELF);
        code.branch_back(0x75, 0);
        assert_eq!(code.bytes[7..], [0x75, 0u8.wrapping_sub(9)]);
    }
}
