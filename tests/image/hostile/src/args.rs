// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::path::PathBuf;

/// Mounts hostile images and uses them. Runs in a guest
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// Seed of the random changes to the images; several seeds take turns
    #[arg(long = "seed", value_name = "SEED", default_value = "1")]
    pub seeds: Vec<u64>,

    /// Largest number of images to mount
    #[arg(long, default_value_t = 1000)]
    pub count: u64,

    /// Stop after this many seconds, even after fewer images
    #[arg(long, default_value_t = 3600)]
    pub seconds: u64,

    /// Smallest number of images; fewer are a failure
    #[arg(long, default_value_t = 1)]
    pub least: u64,

    /// Seconds after which a system call counts as hanging, which ends the run
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,

    /// Number of threads that mount images
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub threads: u8,

    /// Number of the first image; with --write, of the only one
    #[arg(long)]
    pub index: Option<u64>,

    /// Mount nothing: write the image --index to this file
    #[arg(long, value_name = "FILE", requires = "index")]
    pub write: Option<PathBuf>,

    /// Directory for the numbers of the images in use, and for the images that fail
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// Object directory
    #[arg(long = "basedir", value_name = "DIR")]
    pub basedirs: Vec<PathBuf>,

    /// Images to change
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
}
