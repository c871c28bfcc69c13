// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists, with the names that overlayfs shows.

use crate::vfs::{
    cred,
    inode::Inode,
    xattr::{
        self,
        AclKind,
        ValueBuffer,
        XattrList, //
    }, //
};
use crate::{
    cache::Cache,
    image::{
        overlay,
        XattrValue,
        NAME_LEN, //
    },
    inode,
    report,
    Composefs, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

/// Finds the xattr that is stored under `index` and `name`.
fn find(inode: &Inode<Composefs>, index: u8, name: &[u8]) -> Result<Option<XattrValue>> {
    let damaged = |e| report::metadata_error(inode, e);
    let filter = inode::xattr_filter(inode).map_err(damaged)?;
    if filter.lacks::<Cache>(index, name) {
        return Ok(None);
    }
    let image = &inode.super_block().data().image;
    image
        .find_xattr(&inode::layout(inode), index, name)
        .map_err(damaged)
}

/// Copies a value to `out`.
fn read(inode: &Inode<Composefs>, value: XattrValue, out: &mut [u8]) -> Result {
    let image = &inode.super_block().data().image;
    image
        .read_xattr(value, out)
        .map_err(|e| report::metadata_error(inode, e))
}

/// Finds the xattr whose name is `trusted.` and then `name`.
fn find_trusted(inode: &Inode<Composefs>, name: &[u8]) -> Result<Option<XattrValue>> {
    let mut buffer = [0; NAME_LEN];
    let escapes = inode.super_block().data().options.escapes();
    match overlay::stored_trusted(name, escapes, &mut buffer) {
        Some(stored) => find(inode, overlay::INDEX_TRUSTED, stored),
        None => Ok(None),
    }
}

#[vtable]
impl xattr::Operations for Composefs {
    fn get_xattr(inode: &Inode<Self>, name: &[u8], out: &mut ValueBuffer<'_>) -> Result<usize> {
        let (index, rest) = if let Some(rest) = name.strip_prefix(b"user.") {
            (overlay::INDEX_USER, rest)
        } else if let Some(rest) = name.strip_prefix(b"security.") {
            (overlay::INDEX_SECURITY, rest)
        } else if let Some(rest) = name.strip_prefix(b"trusted.") {
            (overlay::INDEX_TRUSTED, rest)
        } else {
            return Err(EOPNOTSUPP);
        };
        if rest.is_empty() {
            return Err(EINVAL);
        }
        let value = match index {
            overlay::INDEX_TRUSTED => find_trusted(inode, rest)?,
            _ => find(inode, index, rest)?,
        };
        let value = value.ok_or(ENODATA)?;
        if let Some(room) = out.room(value.len) {
            read(inode, value, room)?;
        }
        Ok(value.len)
    }

    fn list_xattr(inode: &Inode<Self>, list: &mut XattrList<'_>) -> Result {
        let sbi = inode.super_block().data();
        let acl = sbi.has_acl();
        let escapes = sbi.options.escapes();
        let trusted = cred::is_admin();
        let mut result = Ok(());
        let walk = sbi.image.xattrs(&inode::layout(inode), |xattr| {
            let shown = match xattr.index {
                overlay::INDEX_POSIX_ACL_ACCESS | overlay::INDEX_POSIX_ACL_DEFAULT => acl,
                overlay::INDEX_TRUSTED => trusted,
                _ => true,
            };
            let name = overlay::visible(xattr.index, xattr.name, escapes);
            if let Some(name) = name.filter(|_| shown) {
                result = list.push(name.prefix.as_bytes(), name.name);
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        walk.map_err(|e| report::metadata_error(inode, e))?;
        result
    }

    fn acl(inode: &Inode<Self>, kind: AclKind) -> Result<Option<KVec<u8>>> {
        let index = match kind {
            AclKind::Access => overlay::INDEX_POSIX_ACL_ACCESS,
            AclKind::Default => overlay::INDEX_POSIX_ACL_DEFAULT,
        };
        let Some(value) = find(inode, index, b"")? else {
            return Ok(None);
        };
        let mut bytes = KVec::zeroed(value.len, GFP_KERNEL)?;
        read(inode, value, &mut bytes)?;
        Ok(Some(bytes))
    }
}
