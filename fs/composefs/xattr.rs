// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists, under the names that overlayfs would show.

use crate::{
    cache::Cache,
    fault,
    image::{
        overlay,
        XattrValue,
        NAME_LEN, //
    },
    inode,
    vfs::{
        cred,
        inode::Inode,
        xattr::{
            self,
            AclKind,
            ValueBuffer,
            XattrList, //
        }, //
    },
    Composefs, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

/// Finds the xattr that is stored under `index` and `name`.
fn find(inode: &Inode<Composefs>, index: u8, name: &[u8]) -> Result<Option<XattrValue>> {
    let of_image = |e| fault::of_image(inode, e);
    let filter = inode::xattr_filter(inode).map_err(of_image)?;
    if filter.lacks::<Cache>(index, name) {
        return Ok(None);
    }
    let image = inode.super_block().data().image();
    image
        .find_xattr(&inode::node(inode), index, name)
        .map_err(of_image)
}

/// Fills `out` with a value.
fn read(inode: &Inode<Composefs>, value: XattrValue, out: &mut [u8]) -> Result {
    let image = inode.super_block().data().image();
    image
        .read_xattr(value, out)
        .map_err(|e| fault::of_image(inode, e))
}

/// Finds the xattr `trusted.` followed by `name`.
fn find_trusted(inode: &Inode<Composefs>, name: &[u8]) -> Result<Option<XattrValue>> {
    let mut buffer = [0; NAME_LEN];
    match overlay::stored_trusted(name, &mut buffer) {
        Some(stored) => find(inode, overlay::INDEX_TRUSTED, stored),
        None => Ok(None),
    }
}

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
        let mounted = inode.super_block().data();
        let acl = mounted.has_acl();
        let trusted = cred::is_admin();
        let mut result = Ok(());
        let walk = mounted.image().xattrs(&inode::node(inode), |xattr| {
            let shown = match xattr.index {
                overlay::INDEX_POSIX_ACL_ACCESS | overlay::INDEX_POSIX_ACL_DEFAULT => acl,
                overlay::INDEX_TRUSTED => trusted,
                _ => true,
            };
            if let Some(name) = overlay::visible(xattr.index, xattr.name).filter(|_| shown) {
                result = list.push(name.prefix.as_bytes(), name.name);
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        walk.map_err(|e| fault::of_image(inode, e))?;
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
