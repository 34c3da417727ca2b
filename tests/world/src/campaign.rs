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

/// One of so many moments of an act is in the default share.
const MOMENTS: usize = 8;

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
    every_nth_call(scene, 1, 0, &Fault::ALL, seed)
}

/// Plays every n-th call of the history without a fault, beginning at a number, × each of these faults that concerns it.
///
/// # Errors
/// The history without a fault breaks a promise.
pub fn every_nth_call(
    scene: &Scene,
    n: usize,
    begin: usize,
    faults: &[Fault],
    seed: u64,
) -> Result<Findings, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let calls = world.chronicle.calls.iter().enumerate().skip(begin).step_by(n);
    let plans = calls.flat_map(|(number, call)| {
        let faults = faults.iter().copied().filter(|fault| fault.concerns(call.is_read));
        faults.map(move |fault| Plan::At(BTreeMap::from([(number, fault)])))
    });
    Ok(all(scene, &plans.map(|plan| (plan, seed)).collect::<Vec<_>>()))
}

/// Plays an act of others at moments of a history: right before each changing call takes effect, and each read before it.
/// The default share is every eighth of them.
///
/// # Errors
/// The history without the act breaks a promise.
pub fn each_moment(scene: &Scene, act: Act, seed: u64) -> Result<Findings, Broken> {
    let Ended { world, .. } = play(scene, Plan::none(), seed)?;
    let step = if is_full() { 1 } else { MOMENTS };
    let first = usize::try_from(seed).unwrap_or_default() % step;
    let moments = (first..world.chronicle.calls.len()).step_by(step);
    Ok(all(scene, &moments.map(|number| (Plan::ActAt(number, act), seed)).collect::<Vec<_>>()))
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
