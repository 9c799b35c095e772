//! The symbols that only a bare image may define: on the host they are the C library's.

use core::arch::{asm, naked_asm};
use core::panic::PanicInfo;

use shared_ring::hypercall::PanicCode;
use shared_ring::layout::{
    CONTROL_BASE, DMA_BASE, DMA_BYTES, IMAGE_BASE, LOG_BASE, LOG_BYTES, PAGE_BYTES, STATUS_BASE,
    TX_POST_BASE,
};

use super::give_up;

unsafe extern "C" {
    /// The program of the image.
    fn domain_main() -> !;
    /// What lies behind the image, see its link layout.
    static image_end: u8;
}

/// Entry point. A zero return address and frame pointer end the debugger's backtrace here.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "cld",
        "call {prefault}",
        "call {main}",
        "ud2",
        prefault = sym prefault_pages,
        main = sym domain_main,
    )
}

/// Reads a byte of each page that the driver works with, its code included. A first access has to be
/// resolved by the hypervisor, and for a standby most of them would come in its takeover.
extern "C" fn prefault_pages() {
    let pages = [
        (IMAGE_BASE, (&raw const image_end).addr() as u64),
        (CONTROL_BASE, CONTROL_BASE + PAGE_BYTES),
        (STATUS_BASE, LOG_BASE + LOG_BYTES),
        (TX_POST_BASE, DMA_BASE + DMA_BYTES),
    ];
    for (from, to) in pages {
        for page in (from..to).step_by(PAGE_BYTES as usize) {
            // SAFETY: the layout maps all of it for the life of the domain, readable; an access as
            // small as this one cannot be torn, whoever else writes there.
            unsafe { (page as *const u8).read_volatile() };
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: this is a domain image.
    unsafe { give_up(PanicCode::Panic, format_args!("{info}")) }
}

/// Named by the unwind tables of the precompiled core library; nothing ever unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// # Safety
/// As for C: `n` bytes at both, not overlapping.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: copies within what the caller promises; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") n => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As for C: `n` bytes at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= n {
        // SAFETY: upwards never overwrites a byte before it is read, unless `to` lies inside.
        return unsafe { memcpy(to, from, n) };
    }
    // SAFETY: copies within what the caller promises, downwards, and clears the direction flag
    // again. `n` is not zero here, so both last bytes exist.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") n => _,
            inout("rdi") to.add(n - 1) => _, inout("rsi") from.add(n - 1) => _, options(nostack));
    }
    to
}

/// # Safety
/// As for C: `n` bytes at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    // SAFETY: writes within what the caller promises; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") n => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As for C: `n` bytes at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    for i in 0..n {
        // SAFETY: within what the caller promises. Volatile, or the compiler would make this loop a
        // call of memcmp.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

/// # Safety
/// As for `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { memcmp(a, b, n) }
}
