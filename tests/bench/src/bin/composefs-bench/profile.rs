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
use composefs_bench::Sample;
use perf_event::Builder;
use perf_event::SampleFlag;
use perf_event::Sampler;
use perf_event::data::Record;
use perf_event::events::Software;

/// Room for samples, in pages.
const PAGES: usize = 4096;

/// Samples in a program, not in the kernel.
const PROGRAM: &str = "[program]";

/// Takes samples while something runs.
pub struct Profiler {
    sampler: Sampler,
    runs: u32,
    chains: Vec<Vec<u64>>,
    symbols: Symbols,
}

impl Profiler {
    /// Instructions between two samples: the least that the kernel allows.
    pub const PERIOD: u64 = 10_000;

    /// A profiler that is not running.
    pub fn new() -> Result<Self> {
        // Or it lowers the rate, and none may be lost.
        fs::write("/proc/sys/kernel/perf_cpu_time_max_percent", "0")?;
        fs::write("/proc/sys/kernel/perf_event_max_sample_rate", "100000")?;
        let sampler = Builder::new(Software::CPU_CLOCK)
            .any_pid()
            .one_cpu(0)
            .include_kernel()
            .sample_period(Self::PERIOD)
            .sample(SampleFlag::IP | SampleFlag::CALLCHAIN)
            .exclude_callchain_user(true)
            .build()
            .context("perf_event_open")?
            .sampled(PAGES)
            .context("the buffer of perf events")?;
        Ok(Self {
            sampler,
            runs: 0,
            chains: Vec::new(),
            symbols: Symbols::load()?,
        })
    }

    /// Does something and notes where the kernel is seen meanwhile.
    pub fn watch<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sampler.enable()?;
        let result = work();
        self.sampler.disable()?;
        self.runs += 1;
        while let Some(record) = self.sampler.next_record() {
            if let Record::Sample(sample) = record.parse_record()? {
                let chain = sample.callchain().context("a sample without its callers")?;
                // Markers of kernel and program are the topmost values.
                let chain = chain.iter().copied().filter(|&ip| ip < u64::MAX - 4096);
                self.chains.push(chain.collect());
            }
        }
        result
    }

    /// How often something was done.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// All functions that were seen.
    pub fn functions(&self) -> Result<Vec<Sample>> {
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
        Ok(total
            .into_iter()
            .map(|(name, total)| Sample {
                function: name.to_owned(),
                own: own.get(name).copied().unwrap_or_default(),
                total,
            })
            .collect())
    }
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
