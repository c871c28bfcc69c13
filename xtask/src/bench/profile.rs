// SPDX-License-Identifier: GPL-2.0

//! Printing in which functions instructions were spent.

use std::cmp::Reverse;

use composefs_bench::Profile;

/// How many functions each list shows.
const SHOWN: usize = 70;

/// Prints the functions by their own instructions, then with those of what they call.
pub fn print(profiles: &[Profile]) {
    for profile in profiles {
        let all: u64 = profile.functions.iter().map(|sample| sample.own).sum();
        println!(
            "{} on {}: {:.1} M instructions (or ms, where it waits), {all} samples",
            profile.row,
            profile.column,
            profile.instructions as f64 / 1e6
        );
        let share = |samples: u64| samples as f64 * 100.0 / all.max(1) as f64;
        let mut functions: Vec<_> = profile.functions.iter().collect();
        for by_own in [true, false] {
            let key = |sample: &composefs_bench::Sample| match by_own {
                true => sample.own,
                false => sample.total,
            };
            functions.sort_by_key(|sample| (Reverse(key(sample)), sample.function.clone()));
            println!(
                "\n  M instr       %  {}",
                if by_own {
                    "in the function itself"
                } else {
                    "with what it calls"
                }
            );
            for sample in functions
                .iter()
                .take(SHOWN)
                .filter(|sample| key(sample) > 0)
            {
                let samples = key(sample);
                println!(
                    "{:>9.2} {:>7.2}  {}",
                    share(samples) * profile.instructions as f64 / 1e8,
                    share(samples),
                    sample.function
                );
            }
        }
        println!();
    }
}
