// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Mounts composefs images.
//!
//! A composefs image holds the metadata of a tree of files. The content of the files is in
//! objects, below one or more base directories. [`MountOptions`] says what to mount, and
//! [`MountOptions::mount`] mounts it:
//!
//! - *native*, by the file system `composefs`, if the kernel has it or can load it;
//! - else as a *stack*: erofs for the image, and overlayfs on top of it for the objects, as
//!   libcomposefs does.
//!
//! The kernel is asked once, by fsopen(2). An image, an object directory or an option that the
//! file system has refused is never tried again on the stack: a wrong digest is an error on every
//! kernel.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use composefs_mount::MountOptions;
//!
//! # fn main() -> Result<(), composefs_mount::Error> {
//! let mounted = MountOptions::new(Path::new("/images/os.cfs"))
//!     .basedir(Path::new("/objects"))
//!     .digest("2ab76bb2e56b7b2b6fd6a1d4b6e4ef0e5f6f0a6a1c14b6a1a7e0ffb8b5a3f1c2".parse()?)
//!     .mount()?;
//! println!("{}", mounted.kind());
//! mounted.attach(Path::new("/mnt"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Images and directories are given by path or by file descriptor. The result is a file descriptor
//! of a mount that is attached nowhere: [`Mounted::attach`] attaches it, or the caller uses it in
//! another way, see move_mount(2). If it is dropped, nothing stays mounted.

mod digest;
mod error;
mod fs_context;
mod header;
mod location;
mod mounted;
mod native;
mod options;
mod prepared;
mod remount;
mod stack;

pub use digest::Digest;
pub use error::Error;
pub use error::InvalidDigest;
pub use error::Result;
pub use location::Location;
pub use mounted::Kind;
pub use mounted::Mounted;
pub use mounted::WhyStack;
pub use options::MountOptions;
pub use options::Prefer;
pub use options::Verity;
pub use rustix::mount::MountAttrFlags;
pub use rustix::mount::MountFlags;
