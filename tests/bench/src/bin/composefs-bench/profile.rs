// SPDX-License-Identifier: GPL-2.0

//! In which functions the kernel spends a row's instructions.
//!
//! The perf event `cpu-clock` interrupts every so many nanoseconds of a clock
//! that counts instructions. What runs with interrupts off is seen at the
//! point where they are on again.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use composefs_bench::Sample;
use perf_event::Builder;
use perf_event::SampleFlag;
use perf_event::Sampler;
use perf_event::events::Software;

/// Bytes of room for samples.
const ROOM: usize = 16 << 20;

/// The type of records that are samples.
const SAMPLE: u32 = 9;

/// What samples are in that are not in the kernel.
const PROGRAM: &str = "[program]";

/// Takes samples while something runs.
pub struct Profiler {
    sampler: Sampler,
    chains: Vec<Vec<u64>>,
    symbols: Symbols,
}

impl Profiler {
    /// Instructions between two samples. Taking one costs some thousands, which
    /// count as well.
    const PERIOD: u64 = 50_000;

    /// A profiler that is not running.
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
            .context("the buffer of perf events")?;
        Ok(Self {
            sampler,
            chains: Vec::new(),
            symbols: Symbols::load()?,
        })
    }

    /// Does something and notes where the kernel is seen meanwhile.
    pub fn watch<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sampler.enable()?;
        let result = work();
        self.sampler.disable()?;
        while let Some(record) = self.sampler.next_record() {
            // A word for where it was, one for the number of callers, and they.
            let mut words = record.to_vec();
            let callers = match record.ty() {
                SAMPLE => words.split_off(16),
                kind => bail!("samples were lost: a record of type {kind}"),
            };
            let callers = callers
                .chunks_exact(8)
                .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
                // Markers of kernel and program are the topmost values.
                .filter(|&ip| ip < u64::MAX - 4096);
            self.chains.push(callers.collect());
        }
        result
    }

    /// All functions that were seen.
    pub fn functions(&self) -> Vec<Sample> {
        let mut own: HashMap<&str, u64> = HashMap::new();
        let mut total: HashMap<&str, u64> = HashMap::new();
        for chain in &self.chains {
            let mut names = chain.iter().map(|&ip| self.symbols.name(ip));
            let first = names.next().unwrap_or(PROGRAM);
            *own.entry(first).or_default() += 1;
            // A function that calls itself was there once.
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
}

/// Lets the kernel take as many samples as we ask for, and keep at it.
fn allow_rate() -> Result<()> {
    // The rate can be set only while the kernel may lower it.
    for (name, value) in [
        ("perf_cpu_time_max_percent", "25"),
        ("perf_event_max_sample_rate", "1000000"),
        ("perf_cpu_time_max_percent", "0"),
    ] {
        fs::write(format!("/proc/sys/kernel/{name}"), value).context(name)?;
    }
    Ok(())
}

/// The kernel's functions by their addresses.
struct Symbols {
    /// Sorted.
    starts: Vec<(u64, String)>,
}

impl Symbols {
    fn load() -> Result<Self> {
        let text = fs::read_to_string("/proc/kallsyms").context("/proc/kallsyms")?;
        let mut starts: Vec<(u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let start = u64::from_str_radix(words.next()?, 16).ok()?;
                if !matches!(words.next()?, "t" | "T" | "w" | "W") {
                    return None;
                }
                let name = format!("{:#}", rustc_demangle::demangle(words.next()?));
                let module = words.next().map(|module| format!(" {module}"));
                Some((start, name + &module.unwrap_or_default()))
            })
            .collect();
        starts.sort();
        Ok(Self { starts })
    }

    fn name(&self, ip: u64) -> &str {
        let after = self.starts.partition_point(|(start, _)| *start <= ip);
        match after.checked_sub(1).and_then(|at| self.starts.get(at)) {
            Some((_, name)) if ip >> 63 == 1 => name,
            _ => PROGRAM,
        }
    }
}
