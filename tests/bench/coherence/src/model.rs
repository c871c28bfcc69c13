// SPDX-License-Identifier: GPL-2.0

//! What is counted in a window, which the program in the guest opens and closes.

use std::collections::HashMap;

use composefs_bench::coherence::LineMisses;
use composefs_bench::coherence::Mark;
use composefs_bench::coherence::Misses;
use composefs_bench::coherence::Window;

use crate::caches::Access;
use crate::caches::Caches;
use crate::caches::Kind;
use crate::calls::Calls;
use crate::instruction::Role;

/// How many data lines a window tells.
const LINES: usize = 200;

/// A processor.
#[derive(Clone, Copy, Default)]
struct Processor {
    /// Whether an operation that counts runs.
    operates: bool,
    /// How many interrupts are being handled.
    interrupts: u32,
    /// The last access, if it was a read that counted as a miss.
    read: Option<(u64, u64, Key)>,
}

/// What misses are told apart by: the instruction, the one that caused them, and the chain
/// of callers.
type Key = (u64, u64, usize);

/// How many misses.
#[derive(Clone, Copy, Default)]
struct Count {
    reads: u64,
    writes: u64,
}

/// An open window.
#[derive(Default)]
pub struct Model {
    caches: Caches,
    calls: Calls,
    processors: HashMap<u32, Processor>,
    operations: u64,
    chains: HashMap<Vec<u64>, usize>,
    misses: HashMap<Key, Count>,
    lines: HashMap<u64, Count>,
}

impl Model {
    /// The program in the guest says that an operation begins or ends.
    pub fn mark(&mut self, processor: u32, mark: Mark) {
        let ended = {
            let processor = self.processors.entry(processor).or_default();
            let ended = processor.operates && mark == Mark::OperationEnds;
            // It is a program that speaks: no interrupt is being handled.
            *processor = Processor {
                operates: mark == Mark::OperationBegins,
                ..Processor::default()
            };
            ended
        };
        self.operations += u64::from(ended);
    }

    /// An interrupt begins.
    pub fn interrupted(&mut self, processor: u32) {
        self.processors.entry(processor).or_default().interrupts += 1;
    }

    /// An interrupt or an exception ends.
    pub fn resumed(&mut self, processor: u32) {
        let processor = self.processors.entry(processor).or_default();
        processor.interrupts = processor.interrupts.saturating_sub(1);
    }

    /// The kernel touches memory, whose virtual address is given, too.
    pub fn touch(&mut self, access: Access, address: u64, role: Role) {
        match role {
            Role::Plain => {}
            Role::Call => self.calls.call(access.processor, address, access.at),
            Role::Return => self.calls.ret(access.processor, address),
        }
        let cause = self.caches.touch(&access);
        let processor = self.processors.entry(access.processor).or_default();
        let read = processor.read.take();
        if !processor.operates || processor.interrupts > 0 {
            return;
        }
        let Some(cause) = cause else { return };
        let data = address >> 6 << 6;
        // An instruction that reads and writes asks once, for the right to write.
        if let (Kind::Write, Some((at, line, key))) = (access.kind, read)
            && (at, line) == (access.at, access.line())
        {
            for count in [
                self.misses.entry(key).or_default(),
                self.lines.entry(data).or_default(),
            ] {
                count.reads -= 1;
                count.writes += 1;
            }
            return;
        }
        let chain = self.calls.chain(access.processor);
        let next = self.chains.len();
        let chain = *self.chains.entry(chain).or_insert(next);
        let key = (access.at, cause, chain);
        if access.kind == Kind::Read {
            processor.read = Some((access.at, access.line(), key));
        }
        for count in [
            self.misses.entry(key).or_default(),
            self.lines.entry(data).or_default(),
        ] {
            match access.kind {
                Kind::Read => count.reads += 1,
                Kind::Write => count.writes += 1,
            }
        }
    }

    /// What was counted.
    pub fn finish(self) -> Window {
        let mut chains = vec![Vec::new(); self.chains.len()];
        for (chain, number) in self.chains {
            chains[number] = chain;
        }
        let misses = self.misses.into_iter().map(|(key, count)| Misses {
            at: key.0,
            cause: key.1,
            callers: chains[key.2].clone(),
            reads: count.reads,
            writes: count.writes,
        });
        let mut misses: Vec<Misses> = misses.collect();
        misses.sort_by(|a, b| (a.at, a.cause, &a.callers).cmp(&(b.at, b.cause, &b.callers)));
        let lines = self.lines.into_iter().map(|(address, count)| LineMisses {
            address,
            reads: count.reads,
            writes: count.writes,
        });
        let mut lines: Vec<LineMisses> = lines.collect();
        let distinct = lines.len() as u64;
        lines.sort_by_key(|line| (u64::MAX - line.reads - line.writes, line.address));
        lines.truncate(LINES);
        Window {
            operations: self.operations,
            misses,
            distinct,
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processors that take turns: each operation does `kinds` at its processor's address.
    fn turns(addresses: [u64; 2], kinds: &[Kind]) -> Window {
        let mut model = Model::default();
        for turn in 0..100 {
            let processor = turn % 2;
            let address = addresses[processor as usize];
            model.mark(processor, Mark::OperationBegins);
            for &kind in kinds {
                let access = Access {
                    processor,
                    address,
                    kind,
                    at: 7,
                };
                model.touch(access, address, Role::Plain);
            }
            model.mark(processor, Mark::OperationEnds);
        }
        model.finish()
    }

    fn sum(window: &Window) -> (u64, u64) {
        let reads = window.misses.iter().map(|misses| misses.reads).sum();
        let writes = window.misses.iter().map(|misses| misses.writes).sum();
        (reads, writes)
    }

    #[test]
    fn ping_pong_misses_each_time() {
        let window = turns([0x1000, 0x1020], &[Kind::Write]);
        assert_eq!((window.operations, sum(&window)), (100, (0, 99)));
        assert_eq!(window.lines[0].address, 0x1000);
        assert_eq!(window.distinct, 1);
        // Reading and writing by one instruction is one miss.
        let window = turns([0x1000, 0x1000], &[Kind::Read, Kind::Write]);
        assert_eq!(sum(&window), (0, 99));
        let window = turns([0x1000, 0x1040], &[Kind::Read, Kind::Write]);
        assert_eq!((window.operations, sum(&window)), (100, (0, 0)));
    }

    #[test]
    fn misses_know_their_callers() {
        let mut model = Model::default();
        let mut touch = |processor, address, at, role| {
            let access = Access {
                processor,
                address,
                kind: Kind::Write,
                at,
            };
            model.touch(access, address, role);
        };
        touch(1, 0x40, 9, Role::Plain);
        touch(0, 0x8f00, 1, Role::Call);
        touch(0, 0x8e00, 2, Role::Call);
        touch(0, 0x8e00, 3, Role::Return);
        model.mark(0, Mark::OperationBegins);
        let access = Access {
            processor: 0,
            address: 0x40,
            kind: Kind::Read,
            at: 4,
        };
        model.touch(access, 0x40, Role::Plain);
        let misses = &model.finish().misses[0];
        assert_eq!((misses.at, misses.cause, misses.reads), (4, 9, 1));
        assert_eq!(misses.callers, [1]);
    }

    #[test]
    fn interrupts_do_not_count() {
        let mut model = Model::default();
        let touch = |model: &mut Model, processor| {
            let access = Access {
                processor,
                address: 0,
                kind: Kind::Write,
                at: 1,
            };
            model.touch(access, 0, Role::Plain);
        };
        touch(&mut model, 1);
        model.mark(0, Mark::OperationBegins);
        model.interrupted(0);
        touch(&mut model, 0);
        model.resumed(0);
        touch(&mut model, 1);
        touch(&mut model, 0);
        assert_eq!(sum(&model.finish()), (0, 1));
    }
}
