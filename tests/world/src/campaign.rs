//! The campaign: many histories of one scene, side by side, and what they have shown.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::acts::Act;
use crate::fault::{Fault, Plan};
use crate::history::{Broken, Ended, play};
use crate::scene::Scene;

/// One in so many calls is in the default share of an act.
const MOMENTS: usize = 12;

/// One history of a campaign that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The plan, to play it again.
    pub plan: Plan,
    /// The seed.
    pub seed: u64,
    /// The promise, and what happened.
    pub broken: Broken,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.plan)?;
        self.broken.fmt(f)
    }
}

/// What a campaign has shown.
#[derive(Debug, Default)]
pub struct Findings {
    /// The histories.
    pub histories: usize,
    /// Histories by fault.
    pub by_fault: BTreeMap<Fault, usize>,
    /// Those that broke a promise.
    pub failures: Vec<Failure>,
}

/// Returns true if everything is to be played, not a sample: `CAMPAIGN=full`.
#[must_use]
pub fn is_full() -> bool {
    std::env::var("CAMPAIGN").is_ok_and(|campaign| campaign == "full")
}

/// Plays each call of the history without a fault × each fault that concerns it.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn each_call_and_fault(scene: &Scene, seed: u64) -> Result<Findings, Broken> {
    one_in(1, scene, &Fault::ALL, seed)
}

/// Plays one in so many of the pairs of a call and one of these faults that concerns it: all of them in a full campaign.
/// The seed decides which.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn one_in(n: usize, scene: &Scene, faults: &[Fault], seed: u64) -> Result<Findings, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let calls = world.chronicle.calls.iter().enumerate();
    let plans = calls.flat_map(|(number, call)| {
        let faults = faults.iter().copied().filter(|fault| fault.concerns(call.is_read));
        faults.map(move |fault| Plan::At(BTreeMap::from([(number, fault)])))
    });
    Ok(all(scene, &share(n, seed, plans)))
}

/// Returns one in so many of the plans, or all of them in a full campaign, each with the seed.
fn share(n: usize, seed: u64, plans: impl Iterator<Item = Plan>) -> Vec<(Plan, u64)> {
    let n = if is_full() { 1 } else { n };
    let first = usize::try_from(seed).unwrap_or_default() % n;
    plans.skip(first).step_by(n).map(|plan| (plan, seed)).collect()
}

/// Plays an act of others beside calls of a history: each act takes place as the call is sent, so that no look before shows
/// it. The default share is one call in twelve; the seed decides which.
///
/// # Errors
/// The history without the act breaks a promise.
pub fn beside_calls(scene: &Scene, act: Act, seed: u64) -> Result<Findings, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let plans = (0..world.chronicle.calls.len()).map(|number| Plan::ActAt(number, act));
    Ok(all(scene, &share(MOMENTS, seed, plans)))
}

/// Plays these histories, as many side by side as there are processors.
#[must_use]
pub fn all(scene: &Scene, plans: &[(Plan, u64)]) -> Findings {
    let mut findings = Findings { histories: plans.len(), ..Findings::default() };
    for (plan, _) in plans {
        if let Plan::At(faults) = plan {
            for fault in faults.values() {
                *findings.by_fault.entry(*fault).or_default() += 1;
            }
        }
    }
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((plan, seed)) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(broken) = play(scene, plan.clone(), *seed)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(Failure { plan: plan.clone(), seed: *seed, broken });
                    }
                }
            });
        }
    });
    findings.failures = failures.into_inner().unwrap_or_default();
    findings.failures.sort_by_key(|failure| format!("{:?}", failure.plan));
    findings
}
