//! What the language needs where there is no operating system: an entry point, panics, the memory
//! functions that compilers call, and the few ways out of the guest.

use core::arch::{asm, global_asm};
use core::fmt::Write;
use core::panic::PanicInfo;

use app_guest::layout;
use app_guest::pages::{ControlPage, StatusPage, TEXT_BYTES};
use shared_ring::hypercall::{PanicCode, offset};

// The VMM sets RSP to the top of the stack. `main` never returns.
global_asm!(
    ".section .text._start, \"ax\", @progbits",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym crate::guest_main,
);

/// The page that the VMM wrote.
pub(crate) fn control() -> &'static ControlPage {
    // SAFETY: mapped for the guest's whole life, aligned; atomics, valid for every bit pattern.
    unsafe { &*(layout::CONTROL_BASE as *const ControlPage) }
}

/// The page for reports.
pub(crate) fn status() -> &'static StatusPage {
    // SAFETY: mapped for the guest's whole life, aligned; atomics, valid for every bit pattern.
    unsafe { &*(layout::STATUS_BASE as *const StatusPage) }
}

/// Asks something of the VMM, see [`shared_ring::hypercall`].
pub(crate) fn hypercall(call: u64, argument: u32) {
    // SAFETY: a store to a page without memory behind it: it leaves the guest, and the VMM acts.
    // Whatever memory the call is about must be written before, so the compiler is told that the
    // store touches memory.
    unsafe {
        asm!("mov dword ptr [{page}], {argument:e}", page = in(reg) layout::HYPERCALL_BASE + call,
             argument = in(reg) argument, options(nostack, preserves_flags));
    }
}

/// Microseconds since the machine's time stamp counter was 0.
pub(crate) fn now_us(tsc_khz: u64) -> u64 {
    // SAFETY: reads a counter; the VMM leaves CR4.TSD clear.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() };
    // In two steps, so that nothing overflows: whole milliseconds, then the rest.
    ticks / tsc_khz * 1_000 + ticks % tsc_khz * 1_000 / tsc_khz
}

/// Memory at fixed places of the map.
pub(crate) mod memory {
    use app_guest::{canary, layout};
    use core::sync::atomic::{AtomicU64, Ordering};

    /// End of what was handed out, so that nothing is handed out twice.
    static TAKEN_UP_TO: AtomicU64 = AtomicU64::new(layout::QUEUES_BASE);

    /// The next pages of the memory for virtqueues; `None` if there are not so many left.
    pub(crate) fn take_queue_pages(pages: usize) -> Option<&'static mut [u8]> {
        let base = TAKEN_UP_TO.load(Ordering::Relaxed);
        let bytes = (pages as u64).checked_mul(layout::PAGE_BYTES)?;
        let end = layout::QUEUES_BASE + layout::QUEUES_BYTES;
        (base <= end && bytes <= end - base).then(|| take(base, bytes))
    }

    /// An area of the memory map above the image. Areas must be taken in rising order.
    ///
    /// # Panics
    /// The area was taken before, or lies outside RAM.
    pub(crate) fn take(base: u64, bytes: u64) -> &'static mut [u8] {
        let taken = TAKEN_UP_TO.swap(base + bytes, Ordering::Relaxed);
        assert!(base >= taken && base + bytes <= layout::RAM_BYTES, "{base:#x} is taken");
        // SAFETY: mapped read-write for the guest's whole life, zeroed by the VMM, and above every
        // area that was handed out so far, so nothing else refers to it.
        unsafe { core::slice::from_raw_parts_mut(base as *mut u8, bytes as usize) }
    }

    /// A word of the canary area as it stands now.
    pub(crate) fn canary_word(index: usize) -> u64 {
        assert!(index < canary::WORDS);
        // SAFETY: in the area, which is mapped and aligned; volatile, as nobody but a fault
        // changes it and the compiler must not conclude that nothing does.
        unsafe { (layout::CANARY_BASE as *const u64).add(index).read_volatile() }
    }
}

/// Text of a panic, cut at the size of its place in the status page.
struct Text {
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Text { bytes: [0; TEXT_BYTES], len: 0 };
    // Never fails: what does not fit is cut.
    let _ = write!(text, "{info}");
    status().set_text(&text.bytes[..text.len]);
    loop {
        // The VMM does not come back from this.
        hypercall(offset::PANIC, PanicCode::Panic as u32);
    }
}

/// Named by the precompiled `core`; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// C's `memcpy`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller promises both areas; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

/// C's `memmove`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the caller promises both areas; a forward copy does not overwrite what it has
        // still to read, as the target begins before the source or past its end.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: as promised by the caller; backward, since the target begins within the source. The
    // direction flag is put back.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") len => _,
             inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
             inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// C's `memset`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller promises the area; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") value as u8,
             options(nostack, preserves_flags));
    }
    to
}

/// C's `memcmp`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for place in 0..len {
        // SAFETY: within both areas, as promised by the caller.
        let (l, r) = unsafe { (left.add(place).read_volatile(), right.add(place).read_volatile()) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// `memcmp` for equality only, which compilers call too.
///
/// # Safety
/// As `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the same promise.
    unsafe { memcmp(left, right, len) }
}
