//! The guest's memory, as a front-end shares it: all regions at once, or one after the other.
//!
//! A region whose file is not memory of this machine, such as an NVDIMM's on a disk, is *left out*:
//! known, so that the front-end can take it away again, and never mapped. The guest's other memory
//! serves it; a frame that lies in what was left out is a malformed one.

use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserMemory, VhostUserMemoryRegion};

use super::answer::{RequestError, refused};
use crate::port::{
    Foreign, GuestMemoryError, MAX_MAPPED_BYTES, MAX_REGIONS, MappedRegion, RegionSpec,
};
use crate::vhost_user::message::{BAD_SIZE, ConnectionError, Message};

/// The guest's regions.
#[derive(Clone, Debug, Default)]
pub(super) struct Regions {
    mapped: Vec<Arc<MappedRegion>>,
    left_out: Vec<RegionSpec>,
}

impl Regions {
    /// Those that are memory.
    pub(super) fn mapped(&self) -> &[Arc<MappedRegion>] {
        &self.mapped
    }

    /// The first of those that are not.
    pub(super) fn left_out(&self) -> Option<&RegionSpec> {
        self.left_out.first()
    }

    /// Bytes of those that are memory.
    pub(super) fn mapped_bytes(&self) -> u64 {
        self.mapped.iter().map(|region| region.spec().bytes).sum()
    }

    /// Adds one. Beyond `room` bytes in all, none is mapped.
    fn add(&mut self, spec: RegionSpec, file: &Foreign, room: u64) -> Result<(), RequestError> {
        if self.mapped.len() + self.left_out.len() == MAX_REGIONS {
            return Err(refused(GuestMemoryError::Table));
        }
        if spec.bytes > room.saturating_sub(self.mapped_bytes()) {
            return Err(refused(GuestMemoryError::TooMuch));
        }
        match MappedRegion::map(spec, file) {
            Ok(region) => self.mapped.push(Arc::new(region)),
            Err(GuestMemoryError::NotMemory) => self.left_out.push(spec),
            Err(error) => return Err(refused(error)),
        }
        Ok(())
    }
}

/// All regions, from SET_MEM_TABLE, where a log of `log_bytes` is mapped too.
pub(super) fn table(message: &Message, log_bytes: u64) -> Result<Regions, RequestError> {
    let head: VhostUserMemory = message.value_at(0).ok_or(BAD_SIZE)?;
    let count = head.num_regions as usize;
    let size = size_of::<VhostUserMemory>() + count * size_of::<VhostUserMemoryRegion>();
    if count > MAX_REGIONS || message.body.len() != size || message.files.len() != count {
        return Err(malformed("memory table and descriptors do not agree"));
    }
    let mut regions = Regions::default();
    for (i, file) in message.files.iter().enumerate() {
        let offset = size_of::<VhostUserMemory>() + i * size_of::<VhostUserMemoryRegion>();
        let region = message.value_at(offset).ok_or(BAD_SIZE)?;
        regions.add(spec_of(region), file, MAX_MAPPED_BYTES.saturating_sub(log_bytes))?;
    }
    if regions.mapped.is_empty() && regions.left_out().is_some() {
        return Err(refused(GuestMemoryError::NotMemory));
    }
    Ok(regions)
}

/// The regions with the one of ADD_MEM_REG.
pub(super) fn with(
    mut regions: Regions,
    message: &mut Message,
    log_bytes: u64,
) -> Result<Regions, RequestError> {
    let region = single_region(message)?;
    let Some(file) = message.single_file()? else {
        return Err(malformed("a region without a descriptor"));
    };
    regions.add(spec_of(region), &file, MAX_MAPPED_BYTES.saturating_sub(log_bytes))?;
    Ok(regions)
}

/// The regions without the one of REM_MEM_REG.
pub(super) fn without(mut regions: Regions, message: &Message) -> Result<Regions, RequestError> {
    let gone = spec_of(single_region(message)?);
    let count = |regions: &Regions| regions.mapped.len() + regions.left_out.len();
    let before = count(&regions);
    // The offset in the file is not repeated by all front-ends.
    let stays = |spec: &RegionSpec| {
        (spec.guest_address, spec.user_address, spec.bytes)
            != (gone.guest_address, gone.user_address, gone.bytes)
    };
    regions.mapped.retain(|region| stays(region.spec()));
    regions.left_out.retain(stays);
    if count(&regions) == before {
        return Err(refused("no such region"));
    }
    Ok(regions)
}

/// The region of ADD_MEM_REG and REM_MEM_REG, behind eight bytes of padding.
fn single_region(message: &Message) -> Result<VhostUserMemoryRegion, ConnectionError> {
    const PADDING: usize = 8;
    if message.body.len() != PADDING + size_of::<VhostUserMemoryRegion>() {
        return Err(BAD_SIZE);
    }
    message.value_at(PADDING).ok_or(BAD_SIZE)
}

fn spec_of(region: VhostUserMemoryRegion) -> RegionSpec {
    RegionSpec {
        guest_address: region.guest_phys_addr,
        bytes: region.memory_size,
        user_address: region.user_addr,
        file_offset: region.mmap_offset,
    }
}

fn malformed(what: &'static str) -> RequestError {
    RequestError::Fatal(ConnectionError::Malformed(what))
}
