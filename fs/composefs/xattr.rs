// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists, under the names that overlayfs would show.

use crate::{
    fault,
    image::{
        overlay,
        NAME_LEN, //
    },
    inode,
    vfs::{
        cred,
        inode::Inode,
        xattr::{
            self,
            AclKind,
            XattrList, //
        }, //
    },
    Composefs, //
};
use core::ops::ControlFlow;
use kernel::prelude::*;

impl xattr::Operations for Composefs {
    fn get_xattr(inode: &Inode<Self>, name: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut buffer = [0; NAME_LEN];
        let (index, stored) = if let Some(rest) = name.strip_prefix(b"user.") {
            (overlay::INDEX_USER, rest)
        } else if let Some(rest) = name.strip_prefix(b"security.") {
            (overlay::INDEX_SECURITY, rest)
        } else if let Some(rest) = name.strip_prefix(b"trusted.") {
            let stored = overlay::stored_trusted(rest, &mut buffer).ok_or(ENODATA)?;
            (overlay::INDEX_TRUSTED, stored)
        } else {
            return Err(EOPNOTSUPP);
        };
        if stored.is_empty() {
            return Err(EINVAL);
        }
        let image = inode.super_block().data().image();
        image
            .xattr(&inode::node(inode), index, stored, out)
            .map_err(|e| fault::of_image(inode, e))?
            .ok_or(ENODATA)
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
        let image = inode.super_block().data().image();
        let node = inode::node(inode);
        let get = |out: &mut [u8]| {
            image
                .xattr(&node, index, b"", out)
                .map_err(|e| fault::of_image(inode, e))
        };
        let Some(len) = get(&mut [])? else {
            return Ok(None);
        };
        let mut value = KVec::zeroed(len, GFP_KERNEL)?;
        match get(&mut value)? {
            Some(now) if now == len => Ok(Some(value)),
            // The page was evicted in between, and the image has changed.
            _ => Err(EIO),
        }
    }
}
