// SPDX-License-Identifier: GPL-2.0

//! The loop of LibAFL: takes a case of the corpus, changes it, runs it, and keeps it if it has
//! covered something new.

use std::borrow::Cow;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::Result;
use composefs_image_mutate::Random;
use libafl::Error;
use libafl::corpus::Corpus as _;
use libafl::corpus::InMemoryCorpus;
use libafl::events::SimpleEventManager;
use libafl::executors::Executor;
use libafl::executors::ExitKind;
use libafl::executors::HasObservers;
use libafl::feedbacks::ConstFeedback;
use libafl::feedbacks::MaxMapFeedback;
use libafl::fuzzer::Evaluator as _;
use libafl::fuzzer::Fuzzer as _;
use libafl::fuzzer::StdFuzzer;
use libafl::inputs::Input;
use libafl::monitors::NopMonitor;
use libafl::mutators::MutationResult;
use libafl::mutators::Mutator;
use libafl::observers::CanTrack as _;
use libafl::observers::ExplicitTracking;
use libafl::observers::StdMapObserver;
use libafl::schedulers::IndexesLenTimeMinimizerScheduler;
use libafl::schedulers::QueueScheduler;
use libafl::stages::StdMutationalStage;
use libafl::state::HasCorpus;
use libafl::state::HasRand;
use libafl::state::StdState;
use libafl_bolts::HasLen;
use libafl_bolts::Named;
use libafl_bolts::rands::Rand as _;
use libafl_bolts::rands::StdRand;
use libafl_bolts::tuples::RefIndexable;
use libafl_bolts::tuples::tuple_list;
use rand::SeedableRng as _;
use serde::Deserialize;
use serde::Serialize;

use crate::draw;
use composefs_fuzz_cases::case::Case;
use composefs_fuzz_cases::corpus;
use composefs_fuzz_cases::cover;
use composefs_fuzz_cases::cover::Cover;
use composefs_fuzz_cases::kcov::Kcov;
use composefs_fuzz_cases::log::Log;
use composefs_fuzz_cases::run::run;
use composefs_fuzz_cases::seeds;
use composefs_fuzz_cases::seeds::Seeds;
use composefs_fuzz_cases::store::Disk;
use composefs_fuzz_cases::world::World;

/// How often a case of the corpus is changed before the next one.
const CHANGES: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Random cases to begin with, if there is no corpus.
const FIRST: u32 = 24;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// After so many cases, it is checked whether the disk with the objects is free.
const CHECK: u64 = 50;

type Map = ExplicitTracking<StdMapObserver<'static, u8, false>, true, false>;

/// A case, as an input of LibAFL.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
struct Entry(Case);

impl Input for Entry {}

impl HasLen for Entry {
    fn len(&self) -> usize {
        self.0.ops.len() + self.0.changes.len()
    }
}

/// What runs cases.
struct Guest<'a> {
    world: &'a World,
    log: Log,
    kcov: Kcov,
    cover: Cover,
    observers: (Map, ()),
    /// The case that is about to run, for the host: the guest may die.
    current: PathBuf,
    cases: u64,
    disk: Option<Disk>,
    failure: Option<(Case, String)>,
}

impl Guest<'_> {
    fn run(&mut self, case: &Case) -> Result<ExitKind> {
        if self.failure.is_some() {
            return Ok(ExitKind::Ok);
        }
        fs::write(&self.current, case.to_string()).context("the share cannot be written")?;
        let (kcov, cover, map) = (&self.kcov, &mut self.cover, &mut self.observers.0);
        for _ in kcov.take() {}
        let mut last = 0;
        let wrong = run(self.world, &mut self.log, case, || {
            for place in kcov.take() {
                cover.add(place);
                let entry = map.as_mut().get_mut(cover::step(last, place));
                last = place;
                if let Some(entry) = entry {
                    *entry = 1;
                }
            }
        })?;
        self.cases += 1;
        let busy = match &self.disk {
            Some(disk) if self.cases % CHECK == 0 => disk.check().err(),
            _ => None,
        };
        let wrong = wrong.or(busy.map(|busy| format!("{busy:#}")));
        Ok(match wrong {
            None => ExitKind::Ok,
            Some(wrong) => {
                self.failure = Some((case.clone(), wrong));
                ExitKind::Crash
            }
        })
    }
}

impl<EM, S, Z> Executor<EM, Entry, S, Z> for Guest<'_> {
    fn run_target(
        &mut self,
        _fuzzer: &mut Z,
        _state: &mut S,
        _manager: &mut EM,
        entry: &Entry,
    ) -> Result<ExitKind, Error> {
        self.run(&entry.0)
            .map_err(|error| Error::unknown(format!("{error:#}")))
    }
}

impl HasObservers for Guest<'_> {
    type Observers = (Map, ());

    fn observers(&self) -> RefIndexable<&Self::Observers, Self::Observers> {
        RefIndexable::from(&self.observers)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut Self::Observers, Self::Observers> {
        RefIndexable::from(&mut self.observers)
    }
}

/// Changes cases.
struct Changer<'a>(&'a Seeds);

impl Named for Changer<'_> {
    fn name(&self) -> &Cow<'static, str> {
        &Cow::Borrowed("changes")
    }
}

impl<S: HasCorpus<Entry> + HasRand> Mutator<Entry, S> for Changer<'_> {
    fn mutate(&mut self, state: &mut S, entry: &mut Entry) -> Result<MutationResult, Error> {
        let mut random = Random::seed_from_u64(state.rand_mut().next());
        let number = state.rand_mut().next();
        let count = state.corpus().count() as u64;
        let other = number.checked_rem(count).and_then(|number| {
            let id = state.corpus().nth(number as usize);
            state.corpus().cloned_input_for_id(id).ok()
        });
        let other = other.as_ref().map(|other| &other.0);
        draw::mutate(&mut entry.0, other, self.0, &mut random);
        Ok(MutationResult::Mutated)
    }
}

/// Where things are, and how long it goes on.
pub struct Plan<'a> {
    /// The directory that the host sees.
    pub share: &'a Path,
    /// The corpus.
    pub corpus: &'a Path,
    /// How long.
    pub length: Duration,
    /// Of the random choices.
    pub seed: u64,
}

/// What a run has found.
pub struct Found {
    /// How many cases ran.
    pub cases: u64,
    /// How many are in the corpus.
    pub corpus: usize,
    /// How many places were covered.
    pub places: usize,
    /// The case that fails, and how.
    pub failure: Option<(Case, String)>,
}

/// Fuzzes.
///
/// # Errors
///
/// When cases cannot be run.
pub fn fuzz(world: &World, plan: &Plan<'_>) -> Result<Found> {
    let begun = Instant::now();
    let map = StdMapObserver::owned("steps", vec![0; cover::MAP]).track_indices();
    let mut feedback = MaxMapFeedback::new(&map);
    let mut objective = ConstFeedback::new(false);
    let scheduler = IndexesLenTimeMinimizerScheduler::new(&map, QueueScheduler::new());
    let mut state = StdState::new(
        StdRand::with_seed(plan.seed),
        InMemoryCorpus::<Entry>::new(),
        InMemoryCorpus::new(),
        &mut feedback,
        &mut objective,
    )?;
    let mut fuzzer = StdFuzzer::new(scheduler, feedback, objective);
    let mut manager = SimpleEventManager::new(NopMonitor::new());
    let mut stages = tuple_list!(StdMutationalStage::with_max_iterations(
        Changer(&world.seeds),
        CHANGES
    ));
    let mut guest = Guest {
        world,
        log: Log::open()?,
        kcov: Kcov::begin()?,
        cover: Cover::default(),
        observers: tuple_list!(map),
        current: plan.share.join("current.case"),
        cases: 0,
        disk: Disk::of(&world.dir)?,
        failure: None,
    };
    let mut kept = 0;
    for (path, case) in corpus::read(plan.corpus)? {
        fuzzer.evaluate_input(&mut state, &mut guest, &mut manager, &Entry(case))?;
        let count = state.corpus().count();
        // Others cover all of it by now.
        if count == kept && guest.failure.is_none() {
            fs::remove_file(&path)?;
        }
        kept = count;
        if begun.elapsed() > plan.length {
            break;
        }
    }
    println!(
        "# {kept} cases of the corpus, {} places",
        guest.cover.count()
    );
    if kept == 0 {
        let mut random = Random::seed_from_u64(plan.seed);
        for number in 0..FIRST {
            let seed = number % seeds::NAMES.len() as u32;
            let case = draw::first(seed, &mut random);
            fuzzer.evaluate_input(&mut state, &mut guest, &mut manager, &Entry(case))?;
        }
    }
    let mut told = Instant::now();
    while begun.elapsed() < plan.length && guest.failure.is_none() {
        fuzzer.fuzz_one(&mut stages, &mut guest, &mut state, &mut manager)?;
        for number in kept..state.corpus().count() {
            let id = state.corpus().nth(number);
            let Entry(case) = state.corpus().cloned_input_for_id(id)?;
            corpus::write(plan.corpus, &case, "")?;
        }
        kept = state.corpus().count();
        if told.elapsed() > TELL {
            told = Instant::now();
            println!(
                "# {} s: {} cases, corpus {kept}, {} places",
                begun.elapsed().as_secs(),
                guest.cases,
                guest.cover.count()
            );
            guest.cover.write(&plan.share.join("places"))?;
        }
    }
    guest.cover.write(&plan.share.join("places"))?;
    Ok(Found {
        cases: guest.cases,
        corpus: kept,
        places: guest.cover.count(),
        failure: guest.failure,
    })
}
