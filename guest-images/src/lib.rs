//! The guests, built for bare metal by this crate's build script and embedded: ELF files with
//! symbols and debug information.

/// Page-aligned, so that an ELF reader can look at headers in place.
#[repr(C, align(4096))]
struct Aligned<T: ?Sized>(T);

macro_rules! embed {
    ($image:literal) => {{
        static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(env!($image)));
        &IMAGE.0
    }};
}

/// The domain made to start as the active one.
pub static DRIVER_DOMAIN: &[u8] = embed!("DRIVER_DOMAIN_IMAGE");

/// The domain made to stand by and take over.
pub static SPARE_DOMAIN: &[u8] = embed!("SPARE_DOMAIN_IMAGE");

/// The application guest of the demo.
pub static APP_GUEST: &[u8] = embed!("APP_GUEST_IMAGE");
