// SPDX-License-Identifier: GPL-2.0

//! Times and ends of logs, for people to read.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::Path;
use std::time::Duration;

/// The last lines of a log, for an error message.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all.iter()
        .skip(all.len().saturating_sub(lines))
        .map(|line| format!("  | {}\n", line.trim_end()))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// A duration for people to read.
pub fn human(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// A duration that is only guessed.
pub fn about(time: Duration) -> String {
    match time.as_secs().div_ceil(60) {
        minutes @ 0..120 => format!("{minutes} min"),
        minutes => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

/// The last line that is not empty.
pub fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(1000)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        let end = String::from_utf8_lossy(&end).into_owned();
        let line = end.lines().rev().find(|line| !line.trim().is_empty());
        Ok(line.unwrap_or_default().trim().replace('\t', " "))
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessed_times_are_whole_minutes() {
        for (seconds, said) in [(0, "0 min"), (61, "2 min"), (7200, "2 h 00 min")] {
            assert_eq!(about(Duration::from_secs(seconds)), said);
        }
    }
}
