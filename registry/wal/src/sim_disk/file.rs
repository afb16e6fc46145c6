//! An open file of the simulated disk.

use std::io;

use super::contents::Contents;
use super::{Fault, SimDisk, SimOperation, State};
use crate::disk::DiskFile;

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) id: u64,
    pub(super) life: u64,
}

impl SimFile {
    fn with<T>(&self, body: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(io::Error::other("the simulated machine crashed"));
        }
        body(&mut state)
    }
}

/// The contents behind an open file: present as long as the machine lives, even without a name.
fn contents(state: &mut State, id: u64) -> io::Result<&mut Contents> {
    state.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state| Ok(contents(state, self.id)?.now.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            let limit = match state.fault(SimOperation::Read) {
                Some(Fault::Error(kind)) => return Err(kind.into()),
                Some(Fault::Short(bytes)) => bytes,
                None => usize::MAX,
            };
            let now = &contents(state, self.id)?.now;
            let rest = now.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len()).min(limit);
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            let bytes = match state.fault(SimOperation::Write) {
                Some(Fault::Error(kind)) => return Err(kind.into()),
                Some(Fault::Short(limit)) => &bytes[..limit.min(bytes.len())],
                None => bytes,
            };
            let size = contents(state, self.id)?.now.len() as u64;
            state.check_room((offset + bytes.len() as u64).saturating_sub(size))?;
            contents(state, self.id)?.write(bytes, offset as usize);
            Ok(bytes.len())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state| {
            state.check(SimOperation::Sync)?;
            state.syncs += 1;
            contents(state, self.id)?.sync();
            Ok(())
        })
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.with(|state| {
            state.check(SimOperation::Allocate)?;
            let size = contents(state, self.id)?.now.len() as u64;
            state.check_room(bytes.saturating_sub(size))?;
            if bytes > size {
                contents(state, self.id)?.resize(bytes as usize);
            }
            Ok(())
        })
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.with(|state| {
            let size = contents(state, self.id)?.now.len() as u64;
            state.check_room(bytes.saturating_sub(size))?;
            contents(state, self.id)?.resize(bytes as usize);
            Ok(())
        })
    }
}
