// SPDX-License-Identifier: GPL-2.0

//! Serves an image and its objects by FUSE until it is unmounted, as `composefs-bench` tells it:
//! `composefs-bench-fuse IMAGE OBJECTS MOUNTPOINT`. It writes a byte when it is mounted.

use std::env;
use std::fs::File;
use std::io::stdout;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_fuse::ServeFuseOptions;
use composefs_fuse::serve_fuse;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [image, objects, point] = words.as_slice() else {
        bail!("usage: composefs-bench-fuse IMAGE OBJECTS MOUNTPOINT");
    };
    let open = |path: &String| File::open(path).with_context(|| path.clone());
    serve_fuse(
        point,
        open(image)?.into(),
        Arc::new(open(objects)?.into()),
        &ServeFuseOptions::default(),
        Some(stdout().as_fd().try_clone_to_owned()?),
    )
    .context("cannot serve the image")
}
