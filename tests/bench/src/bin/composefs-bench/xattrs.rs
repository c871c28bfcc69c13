// SPDX-License-Identifier: GPL-2.0

//! The row about extended attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::Result;
use composefs_bench::Plan;
use composefs_bench::Stack;
use rustix::fs::lgetxattr;
use rustix::io::Errno;

use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::recorder::Recorder;
use crate::walk::files;

/// An xattr that files of a distribution have, and one that they do not have.
const NAMES: [&str; 2] = ["security.selinux", "security.capability"];

/// Gets two xattrs of each file, with all inodes in memory.
pub fn gets(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.tree, Verity::Off)?;
    let paths: Vec<PathBuf> = files(mounted.root())?
        .iter()
        .map(|path| mounted.path().join(OsStr::from_bytes(path.to_bytes())))
        .collect();
    let mut value = [0; 256];
    let mut all = || {
        for path in &paths {
            for name in NAMES {
                match lgetxattr(path, name, &mut value) {
                    Ok(_) | Err(Errno::NODATA) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    };
    all()?;
    recorder.time("xattrs", all)
}
