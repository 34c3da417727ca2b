//! The campaign: many histories of one scene, side by side, and what they have shown.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::acts::Act;
use crate::chronicle::SentCall;
use crate::fault::{Extent, Fault, Outage, Plan};
use crate::history::{Broken, Ended, play};
use crate::replay;
use crate::scene::Scene;
use crate::wire::Service;

/// One in so many calls is in the default share of an act.
const MOMENTS: usize = 64;
/// So many second faults are played with each first one.
const SECONDS: usize = 4;

/// One history of a campaign that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The plan, to play it again.
    pub plan: Plan,
    /// The seed.
    pub seed: u64,
    /// The command that plays it again, if its scene has a name, or varies one.
    pub replay: Option<String>,
    /// The promise, and what happened.
    pub broken: Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.plan)?;
        if let Some(command) = &self.replay {
            writeln!(f, "{command}")?;
        }
        self.broken.fmt(f)
    }
}

/// What a campaign has shown.
#[derive(Debug, Default)]
pub struct Findings {
    /// The histories.
    pub histories: usize,
    /// Those that broke a promise.
    pub failures: Vec<Failure>,
}

/// Returns true if everything is to be played, not a sample: `CAMPAIGN=full`.
#[must_use]
pub fn is_full() -> bool {
    std::env::var("CAMPAIGN").is_ok_and(|campaign| campaign == "full")
}

/// The part of a campaign that the environment asks for. Without a variable, it is all.
///
/// `CAMPAIGN_CALLS` and `CAMPAIGN_FAULTS` are parts of names with commas between, such as `Launch ec2:,Attach` and
/// `Twice,Zombie`. `CAMPAIGN_STOP` ends the campaign with the first broken promise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    calls: Vec<String>,
    faults: Vec<String>,
    stops: bool,
}

impl Selection {
    /// Reads the environment.
    #[must_use]
    pub fn of_environment() -> Self {
        let parts = |name: &str| {
            let value = env::var(name).unwrap_or_default();
            value.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        Self {
            calls: parts("CAMPAIGN_CALLS"),
            faults: parts("CAMPAIGN_FAULTS"),
            stops: env::var("CAMPAIGN_STOP").is_ok(),
        }
    }

    /// Returns the selection of these calls alone, unless the environment names others.
    #[must_use]
    pub fn or_calls(mut self, calls: &[&str]) -> Self {
        if self.calls.is_empty() {
            self.calls = calls.iter().map(|part| (*part).to_owned()).collect();
        }
        self
    }

    /// Returns the selection of these faults alone, unless the environment names others.
    #[must_use]
    pub fn or_faults(mut self, faults: &[&str]) -> Self {
        if self.faults.is_empty() {
            self.faults = faults.iter().map(|part| (*part).to_owned()).collect();
        }
        self
    }

    fn is_narrow(&self) -> bool {
        !(self.calls.is_empty() && self.faults.is_empty())
    }

    fn strikes(&self, call: &SentCall, fault: Fault) -> bool {
        let is_among = |parts: &[String], name: &str| {
            parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
        };
        let name = format!("{} {}:{}", call.by, call.service, call.action);
        let is_read_of_the_past = matches!(fault, Fault::Stale(_)) && call.service == Service::Kubernetes;
        fault.concerns(call.is_read)
            && !is_read_of_the_past // The API server shows the present.
            && is_among(&self.calls, &name)
            && is_among(&self.faults, &format!("{fault:?}"))
    }
}

/// Plays each call of the history without a fault × each fault that concerns it, as far as the environment asks for.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn each_call_and_fault(scene: &Scene, seed: u64) -> Result<Findings, Broken> {
    selected(scene, seed, &Selection::of_environment())
}

/// Plays the selected calls of the history without a fault × the selected faults.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn selected(scene: &Scene, seed: u64, selection: &Selection) -> Result<Findings, Broken> {
    let plans = each_pair(scene, seed, &Fault::ALL, selection)?;
    Ok(all(scene, &plans.into_iter().map(|plan| (plan, seed)).collect::<Vec<_>>()))
}

/// Plays one in so many of the pairs of a call and one of these faults that concerns it: all of them in a full campaign.
/// The seed decides which. If the environment selects calls or faults, those are played, each of them.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn one_in(n: usize, scene: &Scene, faults: &[Fault], seed: u64) -> Result<Findings, Broken> {
    let selection = Selection::of_environment();
    let n = if selection.is_narrow() { 1 } else { n };
    let plans = each_pair(scene, seed, faults, &selection)?;
    Ok(all(scene, &share(n, seed, plans.into_iter())))
}

/// Plays one in so many of the selected pairs of a call and a fault: all of them in a full campaign. The seed decides
/// which.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn one_in_of(n: usize, scene: &Scene, seed: u64, selection: &Selection) -> Result<Findings, Broken> {
    let plans = each_pair(scene, seed, &Fault::ALL, selection)?;
    Ok(all(scene, &share(n, seed, plans.into_iter())))
}

/// Returns a plan for each pair of [`pairs_of`].
fn each_pair(scene: &Scene, seed: u64, faults: &[Fault], selection: &Selection) -> Result<Vec<Plan>, Broken> {
    let pairs = pairs_of(scene, seed, faults, selection)?.into_iter();
    Ok(pairs.map(|pair| Plan::At(BTreeMap::from([pair]))).collect())
}

/// Returns the number of each selected call of the history without a fault, with each selected one of these faults.
fn pairs_of(
    scene: &Scene,
    seed: u64,
    faults: &[Fault],
    selection: &Selection,
) -> Result<Vec<(usize, Fault)>, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let calls = world.chronicle.calls.iter().enumerate();
    let pairs = calls.flat_map(|(number, call)| faults.iter().map(move |fault| (number, call, *fault)));
    let selected = pairs.filter(|(_, call, fault)| selection.strikes(call, *fault));
    Ok(selected.map(|(number, _, fault)| (number, fault)).collect())
}

/// Returns one in so many of the plans, or all of them in a full campaign, each with the seed. The seed decides which.
#[must_use]
pub fn share(n: usize, seed: u64, plans: impl Iterator<Item = Plan>) -> Vec<(Plan, u64)> {
    sample(n, seed, plans).into_iter().map(|plan| (plan, seed)).collect()
}

/// Returns one in so many of these, or all of them in a full campaign. The seed decides which.
#[must_use]
pub fn sample<T>(n: usize, seed: u64, all: impl Iterator<Item = T>) -> Vec<T> {
    let n = if is_full() { 1 } else { n };
    let first = usize::try_from(seed).unwrap_or_default() % n;
    all.skip(first).step_by(n).collect()
}

/// Plays an act of others beside calls of a history: each act takes place as the call is sent, so that no look before shows
/// it. The default share is one call in 64; the seed decides which.
///
/// # Errors
/// The history without the act breaks a promise.
pub fn beside_calls(scene: &Scene, act: Act, seed: u64) -> Result<Findings, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let plans = (0..world.chronicle.calls.len()).map(|number| Plan::ActAt(number, act));
    Ok(all(scene, &share(MOMENTS, seed, plans)))
}

/// Plays one in so many outages: one begins with each selected call of the history without a fault, × each selected fault
/// that can last × each of these lengths in seconds. The seed decides which.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn outages(
    n: usize,
    scene: &Scene,
    (extent, lengths): (Extent, &[u32]),
    seed: u64,
) -> Result<Findings, Broken> {
    let selection = Selection::of_environment();
    let n = if selection.is_narrow() { 1 } else { n };
    let firsts = pairs_of(scene, seed, &Fault::OF_OUTAGES, &selection)?;
    let plans = firsts.into_iter().flat_map(|(from, fault)| {
        lengths.iter().map(move |seconds| Plan::Outage(Outage { from, extent, fault, seconds: *seconds }))
    });
    Ok(all(scene, &share(n, seed, plans)))
}

/// Plays pairs of faults, so many in all: the first at a call of the history without a fault, the second at a later call of
/// the history with the first. Both are spread evenly; the seed decides which. The variable `HISTORIES` sets another
/// number: a tenth of it.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn pairs(n: usize, scene: &Scene, seed: u64) -> Result<Findings, Broken> {
    let n = env::var("HISTORIES")
        .ok()
        .and_then(|number| number.parse().ok())
        .map_or(n, |number: usize| number / 10);
    let singles = each_pair(scene, seed, &Fault::ALL, &Selection::of_environment())?;
    let mut random = fastrand::Rng::with_seed(seed);
    let firsts = spread(&singles, (n / SECONDS).max(1), &mut random);
    let both = side_by_side(&firsts, |plan| {
        let Plan::At(first) = plan else { return Vec::new() };
        // A first fault that breaks a promise by itself is the business of the campaign of single faults.
        let Ok(Ended { world, .. }) = play(scene, plan.clone(), seed) else { return Vec::new() };
        let struck = first.keys().next().copied().unwrap_or_default();
        let later = world.chronicle.calls.iter().enumerate().skip(struck + 1);
        let second = later.flat_map(|(number, call)| {
            let faults = Fault::ALL.into_iter().filter(|fault| fault.concerns(call.is_read));
            faults.map(move |fault| (number, fault))
        });
        let mut random = fastrand::Rng::with_seed(seed ^ struck as u64);
        let seconds = spread(&second.collect::<Vec<_>>(), SECONDS, &mut random);
        let with = |second| Plan::At(first.iter().map(|(at, fault)| (*at, *fault)).chain([second]).collect());
        seconds.into_iter().map(|second| (with(second), seed)).collect::<Vec<_>>()
    });
    Ok(all(scene, &both.concat()))
}

/// Returns so many of these, one of each of as many parts of equal length; all of them if they are fewer.
#[must_use]
pub fn spread<T: Clone>(all: &[T], most: usize, random: &mut fastrand::Rng) -> Vec<T> {
    if all.len() <= most {
        return all.to_vec();
    }
    let part = |n: usize| n * all.len() / most;
    (0..most).map(|n| all[random.usize(part(n)..part(n + 1))].clone()).collect()
}

/// Plays these histories, as many side by side as there are processors.
#[must_use]
pub fn all(scene: &Scene, plans: &[(Plan, u64)]) -> Findings {
    all_that(scene, plans, |_| Ok(()))
}

/// Plays these histories, and demands something of the end of each: an error is a broken promise.
#[must_use]
pub fn all_that(
    scene: &Scene,
    plans: &[(Plan, u64)],
    demand: impl Fn(&Ended) -> Result<(), String> + Sync,
) -> Findings {
    let cases: Vec<Case<'_>> = plans.iter().map(|(plan, seed)| (scene, plan, *seed)).collect();
    each_that(&cases, demand)
}

/// A history to play: its scene, its plan and its seed.
pub type Case<'a> = (&'a Scene, &'a Plan, u64);

/// Plays these histories of several scenes, and demands something of the end of each.
#[must_use]
pub fn each_that(cases: &[Case<'_>], demand: impl Fn(&Ended) -> Result<(), String> + Sync) -> Findings {
    let (stops, is_over) = (Selection::of_environment().stops, AtomicBool::new(false));
    let failures = side_by_side(cases, |&(scene, plan, seed)| {
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        let kept = play(scene, plan.clone(), seed).and_then(|ended| {
            let chronicle = || ended.world.chronicle.to_string();
            demand(&ended).map_err(|promise| Broken { promise, chronicle: chronicle() })
        });
        let broken = kept.err()?;
        is_over.store(stops, Ordering::Relaxed);
        Some(Failure { plan: plan.clone(), seed, replay: replay::command(scene, plan, seed), broken })
    });
    let mut failures: Vec<Failure> = failures.into_iter().flatten().collect();
    failures.sort_by_key(|failure| format!("{:?}", failure.plan));
    tally(cases.len(), failures.len());
    Findings { histories: cases.len(), failures }
}

/// Adds so many histories, and failures among them, to the file that the variable `HISTORIES_TO` names, if it is set.
pub fn tally(histories: usize, failures: usize) {
    let Some(path) = env::var_os("HISTORIES_TO") else { return };
    let line = format!("{histories} {failures}\n");
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("{histories} histories are not counted: {error}");
    }
}

/// Returns what comes of each item, in their order. As many are under way as there are processors.
#[must_use]
pub fn side_by_side<T: Sync, R: Send>(items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let result = each(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}
