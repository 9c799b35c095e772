//! The guest's memory, as a front-end shares it: all regions at once, or one after the other.

use std::fs::File;
use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserMemory, VhostUserMemoryRegion};

use super::{Answer, Refusal, Session};
use crate::command::RingChange;
use crate::port::{GuestMemory, MAX_REGIONS, MappedRegion, RegionSpec};
use crate::vhost_user::message::{BAD_SIZE, ConnectionError, Message};

impl Session {
    pub(super) fn set_memory(
        &mut self,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let head: VhostUserMemory = message.value_at(0).ok_or(BAD_SIZE)?;
        let count = head.num_regions as usize;
        let size = size_of::<VhostUserMemory>() + count * size_of::<VhostUserMemoryRegion>();
        if count > MAX_REGIONS || message.body.len() != size || message.files.len() != count {
            return Err(ConnectionError::Malformed("memory table and descriptors do not agree"));
        }
        let mut regions = Vec::with_capacity(count);
        for (i, file) in message.files.iter().enumerate() {
            let offset = size_of::<VhostUserMemory>() + i * size_of::<VhostUserMemoryRegion>();
            let region = message.value_at(offset).ok_or(BAD_SIZE)?;
            match map_region(region, file) {
                Ok(region) => regions.push(region),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(self.use_regions(regions))
    }

    pub(super) fn add_region(
        &mut self,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let region = single_region(message)?;
        let Some(file) = message.single_file()? else {
            return Err(ConnectionError::Malformed("a region without a descriptor"));
        };
        Ok(map_region(region, &File::from(file)).and_then(|region| {
            let mut regions = self.regions.clone();
            regions.push(region);
            self.use_regions(regions)
        }))
    }

    pub(super) fn remove_region(
        &mut self,
        message: &mut Message,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let gone = spec_of(single_region(message)?);
        let mut regions = self.regions.clone();
        // The offset in the file is not repeated by all front-ends.
        regions.retain(|region| {
            let spec = region.spec();
            (spec.guest_address, spec.user_address, spec.bytes)
                != (gone.guest_address, gone.user_address, gone.bytes)
        });
        if regions.len() == self.regions.len() {
            return Ok(Err("no such region".into()));
        }
        Ok(self.use_regions(regions))
    }

    /// Swaps the guest's memory; rings that run are started anew in it, or stop while it lacks them.
    /// That is no refusal: a front-end may take a region away and add its successor right after.
    fn use_regions(&mut self, regions: Vec<Arc<MappedRegion>>) -> Result<Answer, Refusal> {
        let memory = if regions.is_empty() {
            None
        } else {
            Some(Arc::new(GuestMemory::new(&regions).map_err(|e| e.to_string())?))
        };
        self.memory = memory;
        self.regions = regions;
        let changes = [0, 1].map(|index| match self.build(index) {
            Ok(Some(vring)) => RingChange::Start(Box::new(vring)),
            Ok(None) => RingChange::Stop,
            Err(why) => {
                tracing::debug!(ring = index, why, "a virtqueue waits for its memory");
                RingChange::Stop
            }
        });
        self.change(changes)
    }
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

fn map_region(region: VhostUserMemoryRegion, file: &File) -> Result<Arc<MappedRegion>, Refusal> {
    MappedRegion::map(spec_of(region), file).map(Arc::new).map_err(|error| error.to_string())
}
