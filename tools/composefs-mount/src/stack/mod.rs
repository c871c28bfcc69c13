// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Mounting as a stack: erofs for the image, overlayfs on top of it for the objects.

mod erofs;
mod legacy;
pub(crate) mod overlay;
mod temporary;

use std::os::fd::AsFd;

use crate::error::Error;
use crate::error::Result;
use crate::mounted::Kind;
use crate::mounted::Mounted;
use crate::mounted::WhyStack;
use crate::native::map_owners;
use crate::options::MountOptions;
use crate::prepared::Prepared;

/// Checks that no signature is asked for.
pub(crate) fn refuse_signatures(options: &MountOptions<'_>) -> Result<()> {
    match options.signed_by() {
        None => Ok(()),
        Some(_) => Err(Error::Options(
            "signature: erofs + overlayfs verify no signatures: the file system composefs is needed",
        )),
    }
}

/// Mounts an image.
pub(crate) fn mount(prepared: &Prepared<'_>, why: WhyStack) -> Result<Mounted> {
    refuse_signatures(prepared.options)?;
    if prepared.basedirs.is_empty() {
        return Err(Error::Options(
            "basedir: erofs + overlayfs need an object directory",
        ));
    }
    let erofs = erofs::mount(prepared)?;
    map_owners(prepared, &erofs)?;
    let overlay = overlay::over_erofs(prepared, erofs.as_fd())?;
    Ok(Mounted::new(overlay, Kind::Stack(why)))
}
