// SPDX-License-Identifier: GPL-2.0

//! Memory pressure: a cgroup with a memory limit, and dropped caches.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use fastrand::Rng;

use crate::round::Operation;
use crate::round::Task;

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The cgroup of this program and its children. Dropping it moves the program out of it.
pub struct Group {
    path: PathBuf,
    before: PathBuf,
}

impl Group {
    /// Moves this program into a new cgroup with this memory limit.
    pub fn enter(mebibytes: u64) -> Result<Self> {
        let root = Path::new(CONTROL_GROUPS);
        let path = root.join("stress");
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own
            .trim()
            .rsplit_once("::")
            .context("cannot parse /proc/self/cgroup")?
            .1;
        let group = Self {
            path,
            before: root.join(own.trim_start_matches('/')),
        };
        write(&root.join("cgroup.subtree_control"), "+memory")?;
        fs::create_dir_all(&group.path)?;
        let limit = (mebibytes << 20).to_string();
        write(&group.path.join("memory.max"), &limit)?;
        write(&group.path.join("cgroup.procs"), "0")?;
        Ok(group)
    }

    /// How often the limit was reached and memory had to be reclaimed.
    pub fn times_at_limit(&self) -> u64 {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        let max = events.lines().find_map(|line| line.strip_prefix("max "));
        max.and_then(|count| count.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.path);
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}

/// Drops pages, or inodes and dentries, or all of them, again and again.
pub fn drop_caches(task: &mut Task<'_>, mut random: Rng) -> Result<()> {
    let file = Path::new("/proc/sys/vm/drop_caches");
    // 4 turns off the line that the kernel logs each time.
    write(file, "4")?;
    while task.has_time() {
        let what = random.u32(1..=3).to_string();
        task.perform(Operation::DropCaches, || write(file, &what));
        thread::sleep(Duration::from_millis(random.u64(20..400)));
    }
    Ok(())
}
