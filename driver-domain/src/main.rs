//! The image of a driver domain that is made to start as the active one. It works as a standby
//! too; what a spare does beyond that is in `spare-domain`.
#![no_std]
#![no_main]

use driver_domain::runtime::{give_up, start};
use driver_domain::serve::serve;
use driver_domain::symbols::domain_loop_turn;
use shared_ring::abi::{ImageKind, ImageNote};

/// What the VMM checks before it runs this image.
#[used]
#[unsafe(link_section = ".note.warmspare")]
static NOTE: ImageNote = ImageNote::of(ImageKind::Driver);

#[unsafe(no_mangle)]
extern "C" fn domain_main() -> ! {
    // SAFETY: called once, by the entry point of this image.
    let error = match unsafe { start() } {
        Ok(mut domain) => serve(&mut domain, domain_loop_turn),
        Err(error) => error,
    };
    // SAFETY: this is a domain image.
    unsafe { give_up(error.code(), format_args!("{error}")) }
}
