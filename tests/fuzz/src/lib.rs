//! The engine of the fuzz targets. It changes real samples and hands them to a parser, whose promise the target checks.
//!
//! A target lies in `targets`, or beside a parser that is private to its crate, in a module `fuzz` of it. Its samples lie in
//! `corpus`. Random bytes never get past a parser's first token. So each
//! case is a sample with a few edits: of its tree (JSON, XML) or of its text. If a case fails, proptest takes edits
//! away as long as it still fails. What is left is saved in the target's corpus, and every later run replays it.
//!
//! A run ends after a number of cases, the same ones each time. If `FUZZ_SECONDS` is set, it tries others, for that time.

mod corpus;
mod json;
mod mutation;
mod text;
mod watch;
mod xml;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use corpus::Corpus;
use mutation::{Mutation, mutations};
use watch::Watch;

/// A parser of outside data, and the samples that it should be able to read.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the target, of its test and of its folder in `corpus`.
    pub name: &'static str,
    /// Further folders with samples, from the root of the repository.
    pub samples: &'static [&'static str],
    /// Words that no sample holds and that mean something to the parser.
    pub words: &'static [&'static str],
    /// The number of cases of a short run.
    pub cases: u32,
}

impl Target {
    /// Hands the samples, then changed samples to `check`, which says what promise of the parser is broken.
    ///
    /// # Panics
    /// A promise is broken, or the parser panics. The message holds the smallest input that was found.
    #[expect(clippy::panic, reason = "it is a test")]
    pub fn fuzz(self, check: impl Fn(&[u8]) -> Result<(), String>) {
        let corpus = Corpus::read(self.name, self.samples, self.words);
        let watch = Watch::over(self.name);
        let checked = |input: &[u8]| watch.during(input, || outcome(|| check(input)));
        for sample in corpus.samples.iter().chain(watch.left_by_a_dead_run()) {
            if let Err(problem) = checked(&sample.bytes) {
                panic!("target {}, sample {}: {problem}", self.name, sample.name);
            }
        }
        let ends = seconds().map(|seconds| Instant::now() + seconds);
        loop {
            if let Err(Found { problem, input }) = search(&corpus, self.cases, checked) {
                let saved = corpus::save(self.name, &input);
                let text = String::from_utf8_lossy(&input);
                panic!("target {}: {problem}\nThe input is kept in {saved}:\n{text}", self.name);
            }
            if ends.is_none_or(|ends| Instant::now() >= ends) {
                return;
            }
        }
    }
}

/// A broken promise, and the smallest input that was found.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    problem: String,
    input: Vec<u8>,
}

/// Tries so many cases.
fn search(corpus: &Corpus, cases: u32, check: impl Fn(&[u8]) -> Result<(), String>) -> Result<(), Found> {
    let case = |mutation: Mutation| check(&mutation.of(corpus)).map_err(TestCaseError::fail);
    match TestRunner::new(config(cases)).run(&mutations(), case) {
        Ok(()) => Ok(()),
        Err(TestError::Fail(problem, mutation)) => {
            Err(Found { problem: problem.to_string(), input: mutation.of(corpus) })
        }
        Err(TestError::Abort(problem)) => Err(Found { problem: problem.to_string(), input: Vec::new() }),
    }
}

/// Returns the time that each target runs for, if it is not to end after its cases.
#[expect(clippy::panic, reason = "it is a test")]
fn seconds() -> Option<Duration> {
    let text = std::env::var("FUZZ_SECONDS").ok().filter(|text| !text.is_empty())?;
    let seconds = text.parse().unwrap_or_else(|error| panic!("FUZZ_SECONDS is {text:?}: {error}"));
    Some(Duration::from_secs(seconds))
}

fn config(cases: u32) -> Config {
    // A short run judges a change: what it finds must not depend on luck.
    let rng_seed = if seconds().is_some() { RngSeed::Random } else { RngSeed::Fixed(0) };
    // The corpus keeps the inputs themselves: a seed would give another input after the next change of a sample.
    Config { cases, failure_persistence: None, max_shrink_iters: 4_000, rng_seed, ..Config::default() }
}

/// Returns the problem, or that the parser panicked, and where.
fn outcome(check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    watch::silence_panics();
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Err(watch::last_panic()))
}

#[cfg(test)]
mod tests;
