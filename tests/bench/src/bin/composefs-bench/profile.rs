// SPDX-License-Identifier: GPL-2.0

//! Samples the kernel's functions while a row runs.
//!
//! The perf event `cpu-clock` interrupts after a number of nanoseconds of a clock that
//! counts instructions. Code that runs with interrupts off is sampled where they are
//! enabled again.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Profile;
use composefs_bench::Sample;
use perf_event::Builder;
use perf_event::SampleFlag;
use perf_event::Sampler;
use perf_event::events::Software;

use crate::symbols::Symbols;

/// Size of the ring buffer, in bytes. It has room for some seconds of the guest's clock.
const ROOM: usize = 64 << 20;

/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;

/// Name for all addresses that are not in the kernel.
const PROGRAM: &str = "[program]";

/// Takes samples while rows run.
pub struct Profiler {
    sampler: Sampler,
    /// In the order in which they run first.
    rows: Vec<Row>,
}

/// What is known of a row.
#[derive(Default)]
struct Row {
    name: String,
    /// Instructions without samples.
    instructions: u64,
    /// The calls that led to each sample, the innermost first.
    chains: Vec<Vec<u64>>,
}

impl Profiler {
    /// Instructions between two samples. A sample itself costs some thousands of
    /// instructions, which are counted, too.
    const PERIOD: u64 = 50_000;

    /// Opens the perf event, disabled.
    pub fn new() -> Result<Self> {
        allow_rate()?;
        let sampler = Builder::new(Software::CPU_CLOCK)
            .any_pid()
            .one_cpu(0)
            .include_kernel()
            .sample_period(Self::PERIOD)
            .sample(SampleFlag::IP | SampleFlag::CALLCHAIN)
            .exclude_callchain_user(true)
            .build()
            .context("perf_event_open")?
            .sampled(ROOM)
            .context("cannot map the ring buffer of the perf event")?;
        Ok(Self {
            sampler,
            rows: Vec::new(),
        })
    }

    /// Notes the instructions that a row takes without samples.
    pub fn count(&mut self, row: &str, instructions: u64) {
        self.row(row).instructions += instructions;
    }

    /// Runs `work` and takes samples for a row meanwhile.
    pub fn watch<T>(&mut self, row: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sampler.enable()?;
        let result = work();
        self.sampler.disable()?;
        let mut chains = Vec::new();
        while let Some(record) = self.sampler.next_record() {
            // The instruction pointer, the length of the call chain, and the call chain.
            let mut words = record.to_vec();
            let callers = match record.ty() {
                SAMPLE => words.split_off(16),
                kind => bail!("samples were lost: a record of type {kind}"),
            };
            let callers = callers
                .chunks_exact(8)
                .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
                // Leave out PERF_CONTEXT_KERNEL and PERF_CONTEXT_USER, the topmost values.
                .filter(|&ip| ip < u64::MAX - 4096);
            chains.push(callers.collect());
        }
        self.row(row).chains.append(&mut chains);
        result
    }

    fn row(&mut self, name: &str) -> &mut Row {
        let known = self.rows.iter().position(|row| row.name == name);
        let at = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name: name.to_owned(),
                ..Row::default()
            });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// The profiles of all rows, which were measured on this column.
    pub fn profiles(self, column: &str) -> Result<Vec<Profile>> {
        // Only now are all modules loaded that were needed.
        let symbols = Symbols::load()?;
        let profiles = self.rows.into_iter().map(|row| Profile {
            row: row.name,
            column: column.to_owned(),
            instructions: row.instructions,
            functions: functions(&row.chains, &symbols),
        });
        Ok(profiles.collect())
    }
}

/// All functions with at least one sample.
fn functions(chains: &[Vec<u64>], symbols: &Symbols) -> Vec<Sample> {
    let mut own: HashMap<&str, u64> = HashMap::new();
    let mut total: HashMap<&str, u64> = HashMap::new();
    for chain in chains {
        let mut names = chain.iter().map(|&ip| symbols.name(ip).unwrap_or(PROGRAM));
        let first = names.next().unwrap_or(PROGRAM);
        *own.entry(first).or_default() += 1;
        // Count a function that calls itself once.
        let all: HashSet<&str> = names.chain([first]).collect();
        for name in all {
            *total.entry(name).or_default() += 1;
        }
    }
    total
        .into_iter()
        .map(|(name, total)| Sample {
            function: name.to_owned(),
            own: own.get(name).copied().unwrap_or_default(),
            total,
        })
        .collect()
}

/// Raises the limit for the sample rate, and keeps the kernel from lowering it.
fn allow_rate() -> Result<()> {
    // The kernel refuses to set the rate while perf_cpu_time_max_percent is 0 or 100.
    for (name, value) in [
        ("perf_cpu_time_max_percent", "25"),
        ("perf_event_max_sample_rate", "1000000"),
        ("perf_cpu_time_max_percent", "0"),
    ] {
        fs::write(format!("/proc/sys/kernel/{name}"), value).context(name)?;
    }
    Ok(())
}
