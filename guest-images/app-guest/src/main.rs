//! Placeholder, replaced by the first real code.
#![no_std]
#![no_main]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Named by the unwind tables of the precompiled core library.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
