// SPDX-License-Identifier: GPL-2.0

//! The boots.

use std::collections::BTreeMap;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;

use super::ahead::Ahead;
use super::figures::Values;
use super::figures::Way;
use super::machine;
use crate::boot::Image;
use crate::boot::Stack;
use crate::context::Context;
use crate::vm::VmConfig;

/// What runs in the booted system. bash reads the kernel's files itself: each program that it
/// started would be measured, too.
const MEASURE: &str = r#"
snapshot() {
	local stat sched disk mem line

	mapfile -t sched </proc/schedstat
	mapfile -t disk </proc/diskstats
	mapfile -t stat </proc/stat
	mapfile -t mem </proc/meminfo
	read -r uptime _ </proc/uptime
	for line in "${sched[@]}" "${disk[@]}" "${stat[@]}" "${mem[@]}" "uptime $uptime"; do
		echo "$1 $line"
	done
}
snapshot booted
until curl --silent --fail --output /dev/null http://127.0.0.1/; do sleep 0.1; done
snapshot answer
echo "units $(systemctl show --property ActiveEnterTimestampMonotonic multi-user.target)"
echo "state $(systemctl is-system-running)"
"#;

/// What the boots have in common.
pub struct Boots {
    ahead: BTreeMap<Way, Ahead>,
}

impl Boots {
    /// Makes the parts for these ways.
    ///
    /// # Errors
    ///
    /// When one cannot be made.
    pub fn prepare(context: &Context, ways: &[Way]) -> Result<Self> {
        let mut ahead = BTreeMap::new();
        for &way in ways {
            if matches!(way, Way::Ahead | Way::Inline) {
                ahead.insert(way, Ahead::prepare(context, image_of(way))?);
            }
        }
        Ok(Self { ahead })
    }

    /// Boots without counting instructions, and once more to count them unless `quick`. Returns
    /// what was measured.
    ///
    /// # Errors
    ///
    /// When the system does not boot, or a unit fails.
    pub fn measure(&self, context: &Context, way: Way, number: u32, quick: bool) -> Result<Values> {
        let mut values = self.boot(context, way, number, false)?;
        values.retain(|name, _| !name.ends_with("instructions"));
        if !quick {
            let mut counted = self.boot(context, way, number, true)?;
            counted.retain(|name, _| name.ends_with("instructions"));
            values.extend(counted);
        }
        Ok(values)
    }

    fn boot(&self, context: &Context, way: Way, number: u32, counted: bool) -> Result<Values> {
        let stack = match way {
            Way::Composefs | Way::Ahead | Way::Inline => Stack::Composefs,
            Way::Overlay => Stack::Overlayfs,
            Way::Ext4 => Stack::Ext4,
        };
        let mut config = machine::prepare(context, stack, image_of(way), MEASURE)?.config;
        if let Some(ahead) = self.ahead.get(&way) {
            ahead.apply(&mut config);
        }
        if counted {
            count_instructions(&mut config);
        }
        let about = match counted {
            true => format!("boot {number} by {way}, counted"),
            false => format!("boot {number} by {way}, timed"),
        };
        parse(&machine::run(context, &config, &about)?)
    }
}

/// The image that is booted.
fn image_of(way: Way) -> Image {
    match way {
        Way::Inline => Image::Inline,
        _ => Image::A,
    }
}

/// Makes the guest's clock count instructions while it is busy. Unlike with `sleep=off`, it
/// follows time while the guest waits: else the timeouts of systemd would be over at once.
fn count_instructions(config: &mut VmConfig) {
    config.icount = true;
    config.smp = 1;
    config
        .qemu
        .extend(["-icount", "shift=0,sleep=on"].map(str::to_owned));
}

/// The values in the job's output.
fn parse(output: &str) -> Result<Values> {
    let mut values = Values::new();
    let word = |at: &str, first: &str, index: usize| -> Result<u64> {
        let line = output.lines().find_map(|line| {
            let words: Vec<&str> = line.strip_prefix(at)?.split_whitespace().collect();
            let named = words.first() == Some(&first) || words.get(2) == Some(&first);
            named.then_some(words)
        });
        line.and_then(|words| words.get(index)?.parse().ok())
            .with_context(|| format!("the booted system does not say {first} ({at})"))
    };
    if !output.lines().any(|line| line == "state running") {
        bail!("a unit of the booted system has failed:\n{output}");
    }
    for (at, prefix) in [("booted", ""), ("answer", "answer-")] {
        let mut add = |name: &str, value| values.insert(format!("{prefix}{name}"), value);
        // Nanoseconds in which tasks have run.
        add("instructions", word(at, "cpu0", 7)?);
        add("requests", word(at, "vda", 3)?);
        // Sectors of 512 bytes.
        add("kib", word(at, "vda", 5)? / 2);
        add("slab", word(at, "Slab:", 1)?);
        let cached = word(at, "Cached:", 1)? + word(at, "Buffers:", 1)?;
        add("cache", cached.saturating_sub(word(at, "Shmem:", 1)?));
        add("anonymous", word(at, "AnonPages:", 1)?);
        add("processes", word(at, "processes", 1)?);
    }
    let line = |name: &str| output.lines().find_map(|line| line.strip_prefix(name));
    let units = line("units ActiveEnterTimestampMonotonic=").and_then(|us| us.parse().ok());
    values.insert(
        "seconds".to_owned(),
        units.context("multi-user.target was not reached")?,
    );
    let uptime: f64 = line("answer uptime ")
        .and_then(|seconds| seconds.parse().ok())
        .context("the booted system does not say its uptime")?;
    values.insert("answer-seconds".to_owned(), (uptime * 1e6) as u64);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_what_the_kernel_says() -> Result<()> {
        let mut output = String::new();
        for at in ["booted", "answer"] {
            for line in [
                "cpu0 0 0 0 0 0 0 5000 1 2",
                "cpu0 9 9 9 9 9 9 9 9 9 9",
                " 254       0 vda 20 780 2000 10302 138",
                "processes 353",
                "Cached: 100 kB",
                "Buffers: 10 kB",
                "Shmem: 1 kB",
                "Slab: 7 kB",
                "AnonPages: 8 kB",
                "uptime 12.5",
            ] {
                output += &format!("{at} {line}\n");
            }
        }
        output += "units ActiveEnterTimestampMonotonic=11000000\n";
        assert!(parse(&output).is_err(), "a unit failed");
        output += "state running\n";
        let values = parse(&output)?;
        let expected = [
            ("instructions", 5000),
            ("requests", 20),
            ("kib", 1000),
            ("cache", 109),
            ("processes", 353),
            ("seconds", 11_000_000),
            ("answer-seconds", 12_500_000),
        ];
        for (name, value) in expected {
            assert_eq!(values.get(name), Some(&value), "{name}");
        }
        Ok(())
    }
}
