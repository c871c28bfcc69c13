// SPDX-License-Identifier: GPL-2.0

//! Directories: lookup and readdir. Both read the directory's blocks in the image.

use crate::vfs::{
    dir::{
        self,
        DirEmitter, //
    },
    inode::{
        Inode,
        InodeRef, //
    }, //
};
use crate::{
    inode::{
        self,
        DirHint,
        Location, //
    },
    report,
    trace,
    Composefs, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

impl dir::Operations for Composefs {
    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        let result = find(dir, name);
        trace::lookup(dir, name, &result);
        result
    }

    fn read_dir(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        let image = &dir.super_block().data().image;
        DirHint::load(dir).store_walk(dir, image.source().begin_listing());
        let mut pos = emitter.pos();
        let result = image.read_dir(&inode::layout(dir), &mut pos, |entry| {
            emitter.set_pos(entry.pos);
            if emitter.emit(entry.name, entry.nid, entry.file_type.as_raw()) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        emitter.set_pos(pos);
        result.map_err(|e| report::metadata_error(dir, e))
    }
}

/// Looks `name` up in the directory `dir`.
fn find<'a>(dir: &'a Inode<Composefs>, name: &[u8]) -> Result<Option<InodeRef<'a, Composefs>>> {
    let sb = dir.super_block();
    let image = &sb.data().image;
    let mut hint = DirHint::load(dir);
    image.source().note_lookup(hint.walk());
    // Programs look names up in the order in which readdir returned them.
    let found = image.lookup_with_hint(&inode::layout(dir), name, &mut hint.lookup);
    let Some(found) = found.map_err(|e| report::metadata_error(dir, e))? else {
        return Ok(None);
    };
    hint.store_lookup(dir);
    inode::get(sb, found.nid, Location::new(dir.ino(), found.block))
}
