// SPDX-License-Identifier: GPL-2.0

//! Directories: lookup and readdir, both straight from the image.

use crate::{
    fault,
    inode,
    vfs::{
        dir::{
            self,
            DirEmitter, //
        },
        inode::Inode, //
    },
    Composefs, //
};
use core::ops::ControlFlow;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

impl dir::Operations for Composefs {
    fn lookup(dir: &Inode<Self>, name: &[u8]) -> Result<Option<ARef<Inode<Self>>>> {
        let sb = dir.super_block();
        // Programs look names up in the order in which they read them: see `lookup_near`.
        let near = u64::try_from(dir.hint().get()).ok().filter(|n| *n != 0);
        let node = inode::node(dir);
        let found = sb.data().image().lookup_near(&node, name, near);
        match found.map_err(|e| fault::of_image(dir, e))? {
            Some(found) => {
                dir.hint().set(usize::try_from(found.next).unwrap_or(0));
                inode::get(sb, found.nid)
            }
            None => Ok(None),
        }
    }

    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        let image = dir.super_block().data().image();
        let mut pos = emitter.pos();
        let result = image.read_dir(&inode::node(dir), &mut pos, |entry| {
            emitter.set_pos(entry.pos);
            if emitter.emit(entry.name, entry.nid, entry.file_type.as_raw()) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        emitter.set_pos(pos);
        result.map_err(|e| fault::of_image(dir, e))
    }
}
