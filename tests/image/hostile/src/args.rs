// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::path::PathBuf;

/// Mounts hostile images and uses them. To be run in a guest.
#[derive(clap::Parser, Debug)]
pub struct Args {
    /// What decides how the images are changed; of several, each has its turn
    #[arg(long = "seed", value_name = "SEED", default_value = "1")]
    pub seeds: Vec<u64>,

    /// Number of images to mount
    #[arg(long, default_value_t = 1000)]
    pub count: u64,

    /// Ends after this time even if there were fewer
    #[arg(long, default_value_t = 3600)]
    pub seconds: u64,

    /// How many images there have to be for the run to count
    #[arg(long, default_value_t = 1)]
    pub least: u64,

    /// How long one system call may take before all ends
    #[arg(long, default_value_t = 60)]
    pub patience: u64,

    /// How many threads mount images
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub threads: u8,

    /// The first image, or with --write the only one
    #[arg(long)]
    pub index: Option<u64>,

    /// Mounts nothing: writes the image number --index to this file
    #[arg(long, value_name = "FILE", requires = "index")]
    pub write: Option<PathBuf>,

    /// Where to note which image is being mounted, and to keep those that
    /// something is wrong with
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,

    /// An object directory
    #[arg(long = "basedir", value_name = "DIR")]
    pub basedirs: Vec<PathBuf>,

    /// Images to start from
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
}
