// SPDX-License-Identifier: GPL-2.0

//! Tables of their own, for which disks with a known latency are filled first.

mod compiler;
mod container;
mod containers;
mod disks;
mod files;
mod store;

use anyhow::Result;
use composefs_bench::ways::Cell;
use composefs_bench::ways::Plan;
use composefs_bench::ways::Topic;

/// Does what the plan says.
pub fn run(plan: &Plan) -> Result<()> {
    match plan.topic {
        Topic::Disks => disks::measure(plan),
        Topic::Containers => containers::measure(plan),
        Topic::Files => files::measure(plan),
    }
}

/// Prints a result.
fn report(row: &str, way: &str, value: f64) -> Result<()> {
    let cell = Cell {
        row: row.to_owned(),
        way: way.to_owned(),
        value,
    };
    println!("{}", serde_json::to_string(&cell)?);
    Ok(())
}
