// SPDX-License-Identifier: GPL-2.0

//! Parts of a suite that run at the same time, each in a guest of its own: most programs keep
//! only one processor busy.

use std::thread;

use anyhow::Result;
use anyhow::anyhow;

use super::report::Report;
use crate::kernel::Flavor;
use crate::progress::Transcript;

/// How long programs take, in seconds, on other kernels and on the debug kernel: measured on two
/// processors under emulation. It decides only which programs share a guest.
const SECONDS: &[(&str, u32, u32)] = &[
    ("adversaries", 9, 4),
    ("adversaries_store", 17, 4),
    ("asked", 2, 7),
    ("attributes", 2, 18),
    ("basedir", 5, 22),
    ("changing", 15, 50),
    ("cold", 20, 60),
    ("composefs_readahead", 13, 4),
    ("composefs_store", 15, 4),
    ("container", 18, 4),
    ("damage", 21, 87),
    ("data_direct", 3, 9),
    ("data_map", 3, 14),
    ("data_read", 6, 23),
    ("data_shared", 4, 14),
    ("data_store", 8, 41),
    ("differences", 1, 11),
    ("differential", 90, 450),
    ("differential_large", 110, 1600),
    ("disks", 47, 80),
    ("disks_random", 40, 90),
    ("dm_verity", 9, 24),
    ("escaped", 13, 4),
    ("events_store", 8, 4),
    ("fail_nth", 4, 56),
    ("fail_nth_mount", 4, 66),
    ("fail_nth_signature", 4, 120),
    ("faults", 9, 32),
    ("handles", 7, 33),
    ("helper_limits", 15, 4),
    ("helper_no_module", 8, 4),
    ("helper_remount", 27, 4),
    ("helper_shown", 8, 4),
    ("helper_table", 110, 4),
    ("helper_util_linux", 15, 4),
    ("idmap", 3, 26),
    ("label", 3, 23),
    ("layers", 18, 4),
    ("libcomposefs", 10, 4),
    ("lifecycle", 14, 86),
    ("lock_order", 15, 75),
    ("lock_order_disks", 13, 70),
    ("old_image", 6, 4),
    ("options", 2, 9),
    ("origin", 16, 4),
    ("passed_file", 9, 20),
    ("readdir", 7, 16),
    ("readonly", 2, 10),
    ("remount", 4, 15),
    ("sharing", 7, 28),
    ("signature", 18, 45),
    ("signature_keys", 13, 36),
    ("signature_kernel", 6, 25),
    ("small_image", 6, 4),
    ("source", 15, 87),
    ("stalled", 14, 21),
    ("statx", 2, 9),
    ("through", 4, 10),
    ("uprobes", 4, 10),
    ("userns", 6, 35),
    ("userns_basedir", 6, 23),
    ("verity_event", 2, 13),
    ("verity_log", 6, 19),
    ("verity_matrix", 13, 4),
    ("verity_repair", 1, 6),
    ("waiting", 16, 36),
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
    known.map_or(FEW_SECONDS, |&(_, other, debug)| match flavor {
        flavor if flavor.is_debug() => debug,
        _ => other,
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
    let transcript = Transcript::share();
    let ended: Vec<(Report, Result<()>)> = thread::scope(|scope| {
        let threads: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let mut report = report.part();
                let transcript = transcript.clone();
                scope.spawn(move || {
                    let _transcript = transcript.join();
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
