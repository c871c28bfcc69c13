// SPDX-License-Identifier: GPL-2.0

//! Parts of a suite that run at the same time, each in a guest of its own: most programs keep
//! only one processor busy.

use std::thread;

use anyhow::Result;
use anyhow::anyhow;

use super::report::Report;
use crate::kernel::Flavor;

/// How long programs take, in seconds, on the plain and on the debug kernel: measured on two
/// processors under emulation. It decides only which programs share a guest.
const SECONDS: &[(&str, u32, u32)] = &[
    ("adversaries", 25, 4),
    ("attributes", 15, 25),
    ("basedir", 7, 16),
    ("changing", 20, 65),
    ("cold", 20, 60),
    ("composefs_rs", 8, 4),
    ("container", 26, 4),
    ("core_verity", 10, 4),
    ("damage", 37, 87),
    ("data_map", 17, 16),
    ("data_read", 20, 23),
    ("data_shared", 6, 17),
    ("data_store", 4, 41),
    ("differential", 60, 4),
    ("disks", 53, 80),
    ("disks_random", 40, 90),
    ("dm_verity", 4, 19),
    ("escaped", 19, 4),
    ("events_store", 11, 4),
    ("fail_nth", 4, 240),
    ("fail_nth_mount", 4, 240),
    ("fail_nth_signature", 4, 120),
    ("faults", 4, 46),
    ("handles", 12, 29),
    ("helper_limits", 15, 4),
    ("helper_no_module", 10, 4),
    ("helper_remount", 15, 4),
    ("helper_shown", 14, 4),
    ("helper_table", 110, 4),
    ("helper_util_linux", 18, 4),
    ("idmap", 4, 35),
    ("label", 6, 20),
    ("layers", 30, 4),
    ("libcomposefs", 30, 4),
    ("lifecycle", 29, 92),
    ("lock_order", 4, 130),
    ("lock_order_disks", 4, 70),
    ("options", 5, 67),
    ("passed_file", 13, 23),
    ("readdir", 30, 14),
    ("readonly", 3, 12),
    ("remount", 4, 16),
    ("sharing", 15, 38),
    ("signature", 20, 4),
    ("signature_keys", 20, 4),
    ("source", 13, 87),
    ("stalled", 20, 60),
    ("uprobes", 7, 13),
    ("userns", 4, 32),
    ("userns_basedir", 7, 16),
    ("verity_event", 4, 13),
    ("verity_log", 9, 19),
    ("verity_matrix", 40, 4),
    ("waiting", 20, 41),
];

/// For the other programs.
const FEW_SECONDS: u32 = 4;

/// Distributes programs over guests, so that all take about as long. No guest is without one.
pub fn split<'a>(names: &[&'a str], flavor: Flavor, lanes: usize) -> Vec<Vec<&'a str>> {
    let mut longest_first = names.to_vec();
    longest_first.sort_by_key(|name| u32::MAX - seconds(name, flavor));
    let mut split: Vec<(u32, Vec<&str>)> = vec![(0, Vec::new()); lanes.max(1)];
    for name in longest_first {
        if let Some((time, lane)) = split.iter_mut().min_by_key(|(time, _)| *time) {
            *time += seconds(name, flavor);
            lane.push(name);
        }
    }
    split
        .into_iter()
        .map(|(_, lane)| lane)
        .filter(|lane| !lane.is_empty())
        .collect()
}

fn seconds(name: &str, flavor: Flavor) -> u32 {
    let known = SECONDS.iter().find(|(long, ..)| *long == name);
    known.map_or(FEW_SECONDS, |&(_, plain, debug)| match flavor {
        Flavor::Debug => debug,
        _ => plain,
    })
}

/// Runs all of `parts` at once, each with a report of its own, which are added to `report`.
///
/// # Errors
///
/// Those of the parts, in one.
pub fn at_once<T: Send>(
    report: &mut Report,
    parts: Vec<T>,
    run: impl Fn(T, &mut Report) -> Result<()> + Sync,
) -> Result<()> {
    let run = &run;
    let ended: Vec<(Report, Result<()>)> = thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let mut report = report.part();
                scope.spawn(move || {
                    let result = run(part, &mut report);
                    (report, result)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    (Report::silent(), Err(anyhow!("a thread of xtask panicked")))
                })
            })
            .collect()
    });
    let mut errors = Vec::new();
    for (part, result) in ended {
        report.add(part);
        errors.extend(result.err());
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => {
            let all: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
            Err(anyhow!(all.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn every_program_is_in_one_lane() {
        let names = ["a", "b", "c", "d", "e"];
        let mut lanes = split(&names, Flavor::Plain, 2);
        let sizes: Vec<usize> = lanes.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 2]);
        let mut all = lanes.concat();
        all.sort_unstable();
        assert_eq!(all, names);
        lanes = split(&["a"], Flavor::Plain, 2);
        assert_eq!(lanes, [["a"]]);
    }

    #[test]
    fn all_parts_count_whatever_fails() {
        let mut report = Report::silent();
        let result = at_once(&mut report, vec![1, 2, 3], |number, report| {
            report.pass("a test");
            if number == 2 {
                bail!("number {number}");
            }
            Ok(())
        });
        assert_eq!(
            result.map_err(|error| error.to_string()),
            Err("number 2".to_owned())
        );
        assert_eq!(report.counts(), (3, 0));
    }
}
