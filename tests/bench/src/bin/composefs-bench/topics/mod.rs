// SPDX-License-Identifier: GPL-2.0

//! Topics with tables of their own, for which disks with a known latency are filled first.

mod column;
mod compiler;
mod containers;
mod disks;
mod files;
mod running;
mod store;

use anyhow::Result;
use composefs_bench::topics::Plan;
use composefs_bench::topics::Topic;

/// Does what the plan says.
pub fn run(plan: &Plan) -> Result<()> {
    match plan.topic {
        Topic::Disks => disks::measure(plan),
        Topic::Containers => containers::measure(plan),
        Topic::Files => files::measure(plan),
    }
}
