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
use composefs_bench::Sample;
use perf_event::Builder;
use perf_event::SampleFlag;
use perf_event::Sampler;
use perf_event::events::Software;

/// Size of the ring buffer, in bytes.
const ROOM: usize = 16 << 20;

/// `PERF_RECORD_SAMPLE`.
const SAMPLE: u32 = 9;

/// Name for all addresses that are not in the kernel.
const PROGRAM: &str = "[program]";

/// Takes samples while something runs.
pub struct Profiler {
    sampler: Sampler,
    chains: Vec<Vec<u64>>,
    symbols: Symbols,
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
            chains: Vec::new(),
            symbols: Symbols::load()?,
        })
    }

    /// Runs `work` and takes samples meanwhile.
    pub fn watch<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.sampler.enable()?;
        let result = work();
        self.sampler.disable()?;
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
            self.chains.push(callers.collect());
        }
        result
    }

    /// All functions with at least one sample.
    pub fn functions(&self) -> Vec<Sample> {
        let mut own: HashMap<&str, u64> = HashMap::new();
        let mut total: HashMap<&str, u64> = HashMap::new();
        for chain in &self.chains {
            let mut names = chain.iter().map(|&ip| self.symbols.name(ip));
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

/// The kernel's functions, by address.
struct Symbols {
    /// Start and name of each function, sorted.
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
