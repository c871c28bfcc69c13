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
        let near = inode::last_lookup(dir);
        let node = inode::node(dir);
        let found = sb.data().image().lookup_near(&node, name, near);
        let Some(found) = found.map_err(|e| fault::of_image(dir, e))? else {
            return Ok(None);
        };
        inode::set_last_lookup(dir, found.next);
        inode::get(sb, found.nid, dir.ino())
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
