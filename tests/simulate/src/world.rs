//! The replay itself: one clock and one luck. Each policy has its own fleet and its own memory.

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use spot_domain::risk::poison::{Effect, Poison, effect, poisoned_until};

use crate::{CRUNCH_HITS, CRUNCH_HOURS, DAYS_PER_MONTH, Fleet};

const HOURS_PER_DAY: u32 = 24;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A rule for closing a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The gate is never asked: an interrupted instance goes straight back to Spot. The policy's poisoned
    /// share is the one of a threshold of 1.
    NoGate,
    /// Interruptions of this many accounts poison a pool.
    Threshold(u32),
    /// As `Threshold`, and rebalance recommendations count like interruptions, for their own days.
    WithRebalance(u32),
}

impl Policy {
    /// Returns how many accounts it takes to poison a pool.
    fn threshold(self) -> u32 {
        match self {
            Self::NoGate => 1,
            Self::Threshold(accounts) | Self::WithRebalance(accounts) => accounts,
        }
    }
}

/// The results of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub policy: Policy,
    /// Share of the pools that were poisoned, at the end of each day, 0 to 1.
    pub poisoned: Vec<f64>,
    pub interruptions: f64,
    /// Share of the instances' hours that were on Spot, 0 to 1.
    pub spot_share: f64,
}

impl Run {
    fn add(&mut self, other: &Self) {
        self.interruptions += other.interruptions;
        self.spot_share += other.spot_share;
        for (total, share) in self.poisoned.iter_mut().zip(&other.poisoned) {
            *total += share;
        }
    }

    fn divide(&mut self, by: f64) {
        self.interruptions /= by;
        self.spot_share /= by;
        for share in &mut self.poisoned {
            *share /= by;
        }
    }

    /// Returns the average of [`Run::poisoned`], without the first `poison_days`, in which nothing can have
    /// expired yet.
    #[must_use]
    pub fn mean_poisoned(&self, fleet: &Fleet) -> f64 {
        let first = (fleet.poison_days as usize).min(self.poisoned.len().saturating_sub(1));
        let settled = &self.poisoned[first..];
        settled.iter().sum::<f64>() / f64::from(u32::try_from(settled.len()).unwrap_or(1).max(1))
    }
}

/// Runs every policy through the same luck, [`Fleet::runs`] times, and averages the results.
#[must_use]
pub fn simulate(fleet: &Fleet, policies: &[Policy]) -> Vec<Run> {
    let runs = fleet.runs.max(1);
    let mut totals = once(fleet, policies, fleet.seed);
    for seed in (fleet.seed..).skip(1).take(runs as usize - 1) {
        for (total, run) in totals.iter_mut().zip(once(fleet, policies, seed)) {
            total.add(&run);
        }
    }
    for total in &mut totals {
        total.divide(f64::from(runs));
    }
    totals
}

fn once(fleet: &Fleet, policies: &[Policy], seed: u64) -> Vec<Run> {
    let mut luck = Luck::new(fleet, seed);
    let mut worlds: Vec<World> =
        policies.iter().map(|policy| World::new(*policy, fleet, &luck.homes)).collect();
    for hour in 1..=fleet.days * HOURS_PER_DAY {
        let now = Timestamp::UNIX_EPOCH + HOUR * i32::try_from(hour).unwrap_or(i32::MAX);
        let draws = luck.next_hour(fleet);
        for world in &mut worlds {
            world.hour(now, &draws, fleet);
            if hour % HOURS_PER_DAY == 0 {
                world.end_day(now);
            }
        }
    }
    worlds.into_iter().map(|world| world.finish(fleet)).collect()
}

/// The random part, which every world shares.
struct Luck {
    rng: Rng,
    homes: Vec<u32>,
    /// Hours left of each pool's crunch.
    crunch: Vec<u32>,
}

/// One hour of luck: for each pool the probability of an interruption, for each instance a draw.
struct Draws {
    hazard: Vec<f64>,
    instances: Vec<f64>,
    /// The draws for recommendations; empty if the fleet gets none.
    recommendations: Vec<f64>,
    recommended: Vec<f64>,
}

impl Luck {
    fn new(fleet: &Fleet, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Spreads the instances evenly over the pools, and no account over the same pools as its neighbour.
        let mut homes: Vec<u32> = (0..fleet.instances).map(|n| n % fleet.pools).collect();
        rng.shuffle(&mut homes);
        Self { rng, homes, crunch: vec![0; fleet.pools as usize] }
    }

    fn next_hour(&mut self, fleet: &Fleet) -> Draws {
        let hours = DAYS_PER_MONTH * f64::from(HOURS_PER_DAY);
        let alone = fleet.monthly_rate * (1.0 - fleet.crunch_share) / hours;
        let begins = fleet.monthly_rate * fleet.crunch_share / CRUNCH_HITS / hours;
        let hit = CRUNCH_HITS / f64::from(CRUNCH_HOURS);
        let mut hazard = Vec::with_capacity(self.crunch.len());
        for left in &mut self.crunch {
            *left = if self.rng.f64() < begins { CRUNCH_HOURS } else { left.saturating_sub(1) };
            hazard.push(if *left > 0 { alone + hit } else { alone });
        }
        let instances = (0..fleet.instances).map(|_| self.rng.f64()).collect();
        // Without recommendations, the seed must give the same luck as ever.
        let heeded = if fleet.rebalance_rate > 0.0 { fleet.instances } else { 0 };
        let recommended = (0..heeded).map(|_| self.rng.f64()).collect();
        Draws { recommendations: recommendations(fleet, &hazard), hazard, instances, recommended }
    }
}

/// Returns the hazard of a recommendation in each pool. A recommendation comes as interruptions do, alone and
/// in crunches, at its own rate.
fn recommendations(fleet: &Fleet, hazard: &[f64]) -> Vec<f64> {
    if fleet.monthly_rate > 0.0 {
        return hazard.iter().map(|hazard| hazard * fleet.rebalance_rate / fleet.monthly_rate).collect();
    }
    vec![fleet.rebalance_rate / (DAYS_PER_MONTH * f64::from(HOURS_PER_DAY)); hazard.len()]
}

/// An instance: its account, its pools, and the pool in which it runs on Spot now, if any.
struct Instance {
    account: u32,
    choices: Vec<usize>,
    spot_in: Option<usize>,
}

/// The memory of a pool, as in the hub's tables.
#[derive(Default)]
struct Memory {
    sightings: BTreeMap<u32, Timestamp>,
    poison: Option<Poison>,
}

struct World {
    policy: Policy,
    instances: Vec<Instance>,
    pools: Vec<Memory>,
    poisoned: Vec<f64>,
    interruptions: u32,
    spot_hours: f64,
}

impl World {
    fn new(policy: Policy, fleet: &Fleet, homes: &[u32]) -> Self {
        let instances = homes.iter().zip(0..).map(|(home, n): (&u32, u32)| {
            let choices = (0..fleet.choices).map(|next| ((home + next) % fleet.pools) as usize).collect();
            Instance { account: n % fleet.accounts, choices, spot_in: Some(*home as usize) }
        });
        Self {
            policy,
            instances: instances.collect(),
            pools: (0..fleet.pools).map(|_| Memory::default()).collect(),
            poisoned: Vec::new(),
            interruptions: 0,
            spot_hours: 0.0,
        }
    }

    /// Runs an hour: an instance on Spot may be interrupted, and any other asks the gate.
    fn hour(&mut self, now: Timestamp, draws: &Draws, fleet: &Fleet) {
        let days = |days: u32| HOUR * i32::try_from(days * HOURS_PER_DAY).unwrap_or(i32::MAX);
        let poison_for = days(fleet.poison_days);
        if matches!(self.policy, Policy::WithRebalance(_)) {
            self.heed(now, draws, days(fleet.rebalance_days));
        }
        for (instance, draw) in self.instances.iter_mut().zip(&draws.instances) {
            if let Some(pool) = instance.spot_in.filter(|pool| *draw < draws.hazard[*pool]) {
                instance.spot_in = None;
                self.interruptions += 1;
                self.pools[pool].remember(instance.account, now, poison_for, self.policy);
            }
            if instance.spot_in.is_none() {
                let clear =
                    |pool: &&usize| self.policy == Policy::NoGate || !self.pools[**pool].is_poisoned(now);
                instance.spot_in = instance.choices.iter().find(clear).copied();
            }
            self.spot_hours += f64::from(u8::from(instance.spot_in.is_some()));
        }
    }

    /// Poisons by recommendations, which take no instance.
    fn heed(&mut self, now: Timestamp, draws: &Draws, poison_for: SignedDuration) {
        for (instance, draw) in self.instances.iter().zip(&draws.recommended) {
            if let Some(pool) = instance.spot_in.filter(|pool| *draw < draws.recommendations[*pool]) {
                self.pools[pool].remember(instance.account, now, poison_for, self.policy);
            }
        }
    }

    fn end_day(&mut self, now: Timestamp) {
        let poisoned = self.pools.iter().filter(|pool| pool.is_poisoned(now)).count();
        let share = spot_domain::risk::poison::poisoned_share_percent(poisoned, self.pools.len());
        self.poisoned.push(share.unwrap_or_default() / 100.0);
    }

    fn finish(self, fleet: &Fleet) -> Run {
        let hours = f64::from(fleet.instances) * f64::from(fleet.days * HOURS_PER_DAY);
        Run {
            policy: self.policy,
            poisoned: self.poisoned,
            interruptions: f64::from(self.interruptions),
            spot_share: self.spot_hours / hours,
        }
    }
}

impl Memory {
    /// Records an interruption as the risk manager does.
    fn remember(&mut self, account: u32, at: Timestamp, poison_for: SignedDuration, policy: Policy) {
        let Effect::PoisonUntil(until) = effect(at, poison_for, at) else { return };
        let sighting = self.sightings.entry(account).or_insert(until);
        *sighting = until.max(*sighting); // an expiry only ever moves forward
        let sightings = self.sightings.iter().map(|(account, until)| (*account, *until));
        if let Some(expires_at) = poisoned_until(sightings, policy.threshold()) {
            let expires_at = self.poison.map_or(expires_at, |poison| poison.expires_at.max(expires_at));
            self.poison = Some(Poison { is_poisoned: true, expires_at });
        }
    }

    /// Answers as the gate does.
    fn is_poisoned(&self, now: Timestamp) -> bool {
        self.poison.is_some_and(|poison| poison.is_active(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a fleet with one pool for each count of instances. No instance moves, and none is interrupted
    /// in a crunch, as the closed form assumes.
    fn lonely(per_pool: u32) -> Fleet {
        Fleet {
            accounts: 5,
            instances: 60 * per_pool,
            pools: 60,
            crunch_share: 0.0,
            days: 200,
            runs: 1,
            ..Fleet::default()
        }
    }

    #[test]
    fn the_simulation_agrees_with_the_closed_form() {
        for (per_pool, expected) in [(14, 0.50), (45, 0.90)] {
            let fleet = lonely(per_pool);
            let run = &simulate(&fleet, &[Policy::NoGate])[0];
            let (measured, formula) = (run.mean_poisoned(&fleet), fleet.poisoned_by_formula());
            assert!((formula - expected).abs() < 0.01, "formula {formula}");
            assert!(
                (measured - formula).abs() < 0.03,
                "{per_pool}: {measured} measured, {formula} by formula"
            );
        }
    }

    #[test]
    fn the_rate_is_what_was_asked_for_with_and_without_crunches() {
        for crunch_share in [0.0, 0.5, 1.0] {
            let fleet =
                Fleet { instances: 2_000, pools: 2_000, days: 90, runs: 1, crunch_share, ..Fleet::default() };
            let run = &simulate(&fleet, &[Policy::NoGate])[0];
            let a_month = run.interruptions / 2_000.0 / 3.0;
            assert!((a_month - fleet.monthly_rate).abs() < 0.01, "{crunch_share}: {a_month}");
        }
    }

    #[test]
    fn the_same_seed_is_the_same_picture_and_another_is_not() {
        let policies = [Policy::NoGate, Policy::Threshold(2)];
        let fleet = Fleet { days: 30, runs: 2, ..Fleet::default() };
        assert_eq!(simulate(&fleet, &policies), simulate(&fleet, &policies));
        assert_ne!(simulate(&fleet, &policies), simulate(&Fleet { seed: 7, ..fleet.clone() }, &policies));
    }

    #[test]
    fn a_lower_threshold_costs_more_spot_and_avoids_more_interruptions() {
        let fleet = Fleet { instances: 1_400, pools: 100, runs: 1, ..Fleet::default() };
        let policies = [Policy::Threshold(1), Policy::Threshold(2), Policy::Threshold(3), Policy::NoGate];
        let runs = simulate(&fleet, &policies);
        for pair in runs.windows(2) {
            assert!(pair[0].spot_share < pair[1].spot_share, "{pair:?}");
            assert!(pair[0].interruptions < pair[1].interruptions, "{pair:?}");
        }
    }

    #[test]
    fn other_pools_to_choose_from_keep_an_instance_on_spot() {
        let fleet = Fleet { days: 90, runs: 4, ..Fleet::default() };
        let spot =
            |choices| simulate(&Fleet { choices, ..fleet.clone() }, &[Policy::Threshold(1)])[0].spot_share;
        assert!(spot(4) > spot(1) + 0.02);
    }

    #[test]
    fn one_account_alone_never_poisons_where_it_takes_two() {
        let fleet = Fleet { accounts: 1, runs: 1, ..Fleet::default() };
        let run = &simulate(&fleet, &[Policy::Threshold(2)])[0];
        assert!(run.interruptions > 0.0 && run.poisoned.iter().all(|share| *share == 0.0));
    }

    #[test]
    fn recommendations_cost_spot_and_the_shorter_they_poison_the_less() {
        let spot = |rebalance_rate, rebalance_days| {
            let fleet = Fleet { rebalance_rate, rebalance_days, days: 120, runs: 3, ..Fleet::default() };
            simulate(&fleet, &[Policy::WithRebalance(1)])[0].spot_share
        };
        let (none, fifteen, one) = (spot(0.0, 15), spot(0.5, 15), spot(0.5, 1));
        assert!(fifteen + 0.02 < none, "{fifteen} with recommendations, {none} without");
        assert!(fifteen + 0.01 < one && one <= none + 0.01, "{one} with a day of poison");
    }

    #[test]
    fn recommendations_come_at_their_own_rate_and_interrupt_nobody() {
        let fleet = Fleet { monthly_rate: 0.0, rebalance_rate: 1.0, days: 60, runs: 1, ..Fleet::default() };
        let run = &simulate(&fleet, &[Policy::WithRebalance(1)])[0];
        assert_eq!((run.interruptions, run.spot_share), (0.0, 1.0), "poison alone moves nothing off Spot");
        assert!(run.mean_poisoned(&fleet) > 0.9, "{}", run.mean_poisoned(&fleet));
    }

    #[test]
    fn without_recommendations_a_policy_that_heeds_them_is_the_same() {
        let fleet = Fleet { days: 60, runs: 2, ..Fleet::default() };
        let runs = simulate(&fleet, &[Policy::Threshold(1), Policy::WithRebalance(1)]);
        assert_eq!((runs[0].interruptions, runs[0].spot_share), (runs[1].interruptions, runs[1].spot_share));
    }
}
