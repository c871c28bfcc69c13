// SPDX-License-Identifier: GPL-2.0

//! The rows about the content of a large file, which is in the page cache.

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Plan;
use composefs_bench::Random;
use composefs_bench::Stack;
use memmap2::MmapOptions;
use rustix::fs::CWD;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::openat;
use rustix::io::pread;
use rustix::io::read;

use crate::mounts::Mounted;
use crate::mounts::Verity;
use crate::objects;
use crate::prepare::LARGE;
use crate::recorder::Recorder;

const PAGE: u64 = 4096;
/// Bytes in a read(2) of cp(1).
const PIECE: usize = 256 << 10;
/// Number of random reads in a run.
const READS: u64 = 16_384;
/// Number of reads in flight through io_uring.
const DEPTH: u64 = 32;

/// Reads the file in order, at random, through a mapping and through io_uring.
pub fn reads(plan: &Plan, stack: Stack, recorder: &mut Recorder) -> Result<()> {
    let mounted = Mounted::new(stack, &plan.content, Verity::Required)?;
    let path = match stack {
        Stack::Ext4 => object(plan)?,
        _ => mounted.path().join(LARGE),
    };
    let mut buffer = vec![0; PIECE];
    let file = openat(CWD, &path, OFlags::RDONLY, Mode::empty())?;
    let mut pages = 0;
    let mut in_order = || {
        let file = openat(CWD, &path, OFlags::RDONLY, Mode::empty())?;
        let mut size = 0;
        loop {
            match read(&file, &mut *buffer)? as u64 {
                0 => break,
                length => size += length,
            }
        }
        pages = size / PAGE;
        Ok(())
    };
    // The second read of a page makes it active, which costs more than a later read.
    in_order()?;
    in_order()?;
    recorder.time("read", in_order)?;

    let mut page = vec![0; PAGE as usize];
    recorder.time("random-read", || {
        let mut random = Random::new(3);
        for _ in 0..READS {
            pread(&file, &mut *page, random.below(pages) * PAGE)?;
        }
        Ok(())
    })?;

    recorder.time("mmap", || {
        // SAFETY: Nothing writes to the file: it is on a read-only mount, or has fs-verity.
        let map = unsafe { MmapOptions::new().map_copy_read_only(&File::open(&path)?)? };
        let sum = map
            .iter()
            .step_by(PAGE as usize)
            .fold(0_u64, |sum, &byte| sum + u64::from(byte));
        std::hint::black_box(sum);
        Ok(())
    })?;

    tokio_uring::start(async {
        let file = Rc::new(tokio_uring::fs::File::open(&path).await?);
        // The first reads start threads of io_uring.
        read_ring(&file, DEPTH, pages).await?;
        let before = crate::clock::now();
        read_ring(&file, READS, pages).await?;
        recorder.note("io-uring", crate::clock::now() - before);
        Ok(())
    })
}

/// Reads pages at random, [`DEPTH`] of them at once.
async fn read_ring(file: &Rc<tokio_uring::fs::File>, reads: u64, pages: u64) -> Result<()> {
    let tasks: Vec<_> = (0..DEPTH)
        .map(|task| {
            let file = file.clone();
            tokio_uring::spawn(async move {
                let mut random = Random::new(task);
                let mut page = vec![0; PAGE as usize];
                for _ in 0..reads / DEPTH {
                    let (result, buffer) = file.read_at(page, random.below(pages) * PAGE).await;
                    page = buffer;
                    if result? as u64 != PAGE {
                        bail!("read less than a page");
                    }
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await.context("a task that reads")??;
    }
    Ok(())
}

/// Path of the large file's object.
fn object(plan: &Plan) -> Result<PathBuf> {
    let mounted = Mounted::new(Stack::Erofs, &plan.content, Verity::Off)?;
    let name = objects::name(mounted.path(), &std::ffi::CString::new(LARGE)?)?;
    Ok(plan.content.objects.join(name.to_str()?))
}
