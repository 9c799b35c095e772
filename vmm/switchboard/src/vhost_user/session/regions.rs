//! The guest's memory, as a front-end shares it: all regions at once, or one after the other.

use std::fs::File;
use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserMemory, VhostUserMemoryRegion};

use super::answer::{RequestError, refused};
use crate::port::{MAX_REGIONS, MappedRegion, RegionSpec};
use crate::vhost_user::message::{BAD_SIZE, ConnectionError, Message};

/// The guest's regions.
pub(super) type Regions = Vec<Arc<MappedRegion>>;

/// All regions, from SET_MEM_TABLE.
pub(super) fn table(message: &Message) -> Result<Regions, RequestError> {
    let head: VhostUserMemory = message.value_at(0).ok_or(BAD_SIZE)?;
    let count = head.num_regions as usize;
    let size = size_of::<VhostUserMemory>() + count * size_of::<VhostUserMemoryRegion>();
    if count > MAX_REGIONS || message.body.len() != size || message.files.len() != count {
        return Err(malformed("memory table and descriptors do not agree"));
    }
    let mut regions = Vec::with_capacity(count);
    for (i, file) in message.files.iter().enumerate() {
        let offset = size_of::<VhostUserMemory>() + i * size_of::<VhostUserMemoryRegion>();
        let region = message.value_at(offset).ok_or(BAD_SIZE)?;
        regions.push(map_region(region, file)?);
    }
    Ok(regions)
}

/// The regions with the one of ADD_MEM_REG.
pub(super) fn with(mut regions: Regions, message: &mut Message) -> Result<Regions, RequestError> {
    let region = single_region(message)?;
    let Some(file) = message.single_file()? else {
        return Err(malformed("a region without a descriptor"));
    };
    regions.push(map_region(region, &File::from(file))?);
    Ok(regions)
}

/// The regions without the one of REM_MEM_REG.
pub(super) fn without(mut regions: Regions, message: &Message) -> Result<Regions, RequestError> {
    let gone = spec_of(single_region(message)?);
    let count = regions.len();
    // The offset in the file is not repeated by all front-ends.
    regions.retain(|region| {
        let spec = region.spec();
        (spec.guest_address, spec.user_address, spec.bytes)
            != (gone.guest_address, gone.user_address, gone.bytes)
    });
    if regions.len() == count {
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

fn map_region(
    region: VhostUserMemoryRegion,
    file: &File,
) -> Result<Arc<MappedRegion>, RequestError> {
    MappedRegion::map(spec_of(region), file).map(Arc::new).map_err(refused)
}

fn malformed(what: &'static str) -> RequestError {
    RequestError::Fatal(ConnectionError::Malformed(what))
}
