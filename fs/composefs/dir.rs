// SPDX-License-Identifier: GPL-2.0

//! Directories: lookup and readdir, both straight from the image.

use crate::{
    fault,
    inode::{
        self,
        DirUse,
        Place, //
    },
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
        let image = sb.data().image();
        let mut so_far = DirUse::of(dir);
        image.source().look_up(so_far.listed());
        // Programs look names up in the order in which they read them: see `lookup_near`.
        let found = image.lookup_near(&inode::node(dir), name, &mut so_far.near);
        let Some(found) = found.map_err(|e| fault::of_image(dir, e))? else {
            return Ok(None);
        };
        so_far.set_near(dir);
        inode::get(sb, found.nid, Place::new(dir.ino(), found.block))
    }

    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        let image = dir.super_block().data().image();
        DirUse::of(dir).set_listed(dir, image.source().list());
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
