//! The version of everything in this crate, and how an image carries it.

/// Raised with every change to a shape in this crate.
pub const ABI_VERSION: u32 = 4;

/// Name of the ELF section that holds an [`ImageNote`].
pub const NOTE_SECTION: &str = ".note.warmspare";

/// First word of an [`ImageNote`], "WSPR" in memory.
pub const NOTE_MAGIC: u32 = u32::from_le_bytes(*b"WSPR");

/// What a domain image says of itself: sixteen bytes in [`NOTE_SECTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ImageNote {
    /// [`NOTE_MAGIC`].
    pub magic: u32,
    /// [`ABI_VERSION`] that the image was built with.
    pub abi_version: u32,
    /// See [`ImageKind`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Which program an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ImageKind {
    /// `driver-domain`: made to start as the active domain.
    Driver = 1,
    /// `spare-domain`: made to attach, stand by and take over.
    Spare = 2,
}

impl ImageNote {
    /// The note of an image built with this crate.
    pub const fn of(kind: ImageKind) -> Self {
        Self { magic: NOTE_MAGIC, abi_version: ABI_VERSION, kind: kind as u32, reserved: 0 }
    }

    /// Reads a note from the bytes of its section; `None` if they are too few or not a note.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| {
            let b = bytes.get(4 * i..4 * i + 4)?;
            Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        let note =
            Self { magic: word(0)?, abi_version: word(1)?, kind: word(2)?, reserved: word(3)? };
        (note.magic == NOTE_MAGIC).then_some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_its_section() {
        let mut bytes = Vec::new();
        for word in [NOTE_MAGIC, ABI_VERSION, ImageKind::Spare as u32, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(ImageNote::parse(&bytes), Some(ImageNote::of(ImageKind::Spare)));
        assert_eq!(ImageNote::parse(&bytes[..15]), None);
        bytes[0] ^= 1;
        assert_eq!(ImageNote::parse(&bytes), None);
    }
}
