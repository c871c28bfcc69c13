// SPDX-License-Identifier: GPL-2.0

//! Topics with tables of their own, for which disks with a known latency are filled first.

mod compiler;
mod containers;
mod disks;
mod files;
mod least;
mod store;
mod way;

use anyhow::Result;
use composefs_bench::Stack;
use composefs_bench::topics::Plan;
use composefs_bench::topics::Topic;

/// The stacks that show content, and the titles of their columns.
const STACKS: [(Stack, &str); 3] = [
    (Stack::Composefs, "composefs"),
    (Stack::Overlay, OVERLAY),
    (Stack::Ext4, "no image"),
];

/// The title of erofs + overlayfs.
const OVERLAY: &str = "er.+ovl.";

/// Does what the plan says.
pub fn run(plan: &Plan) -> Result<()> {
    match plan.topic {
        Topic::Disks => disks::measure(plan),
        Topic::Containers => containers::measure(plan),
        Topic::Files => files::measure(plan),
    }
}
