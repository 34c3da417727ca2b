//! Shows what a poison policy costs a fleet of a given size, and what the policy saves. Replays interruptions
//! over the fleet, hour by hour, through the very rules that the risk manager and the gate use
//! (`spot_domain::risk::poison`).
//!
//! The fleet: instances that all want Spot. Each belongs to one account, and may use one pool or more. An
//! interrupted instance runs On-Demand until the gate clears one of its pools. The instance asks the gate at
//! once and then every hour. All policies see the same luck: the same hour reclaims the same pool's
//! instances, if they are there.
//!
//! Interruptions come in two ways. *Alone*: each instance for itself, at a steady rate. *In crunches*: AWS
//! needs a pool's capacity for [`CRUNCH_HOURS`], and most of its instances have to go. The share of the
//! interruptions that come in crunches is an assumption (`crunch_share`). Without crunches, a pool's past
//! says nothing about its future, and a gate can only cost.
//!
//! Rebalance recommendations come as interruptions do, at a rate of their own, and take no instance. A policy
//! that heeds recommendations runs beside the one that does not, so that their price is seen apart.

pub mod picture;
pub mod report;
mod world;

pub use world::{Policy, Run, simulate};

/// The time for which AWS reclaims a pool's capacity, once it begins.
pub const CRUNCH_HOURS: u32 = 12;
/// Interruptions of an instance that stays in the pool for a whole crunch, on average. Half of those
/// instances get at least one.
pub const CRUNCH_HITS: f64 = 0.7;
/// Length of the month in `monthly_rate`.
pub const DAYS_PER_MONTH: f64 = 30.0;

/// The fleet and its luck.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Accounts that share their reports.
    pub accounts: u32,
    /// Instances of all accounts together.
    pub instances: u32,
    /// Pools that they are spread over.
    pub pools: u32,
    /// Pools that each instance may use: its own and the next ones.
    pub choices: u32,
    /// Interruptions of an instance on Spot in 30 days, on average.
    pub monthly_rate: f64,
    /// Share of the interruptions that come in crunches, 0 to 1.
    pub crunch_share: f64,
    /// Days simulated.
    pub days: u32,
    /// Days that an interruption poisons.
    pub poison_days: u32,
    /// Rebalance recommendations for an instance on Spot in 30 days, on average. Zero leaves them out.
    pub rebalance_rate: f64,
    /// Days that a rebalance recommendation poisons.
    pub rebalance_days: u32,
    /// Runs to average, each with luck of its own.
    pub runs: u32,
    /// The same seed gives the same luck.
    pub seed: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            accounts: 10,
            instances: 140,
            pools: 10,
            choices: 1,
            monthly_rate: 0.1,
            crunch_share: 0.5,
            days: 180,
            poison_days: spot_domain::settings::Settings::default().poison_days,
            rebalance_rate: 0.0,
            rebalance_days: spot_domain::settings::Settings::default().rebalance_poison_days,
            runs: 20,
            seed: 1,
        }
    }
}

impl Fleet {
    /// Returns the share of time that a pool is poisoned, in closed form: 1 − e^(−n · rate · days). The form
    /// holds if the pool's instances stay in it and each is interrupted for itself.
    #[must_use]
    pub fn poisoned_by_formula(&self) -> f64 {
        let per_pool = f64::from(self.instances) / f64::from(self.pools);
        let expected = per_pool * self.monthly_rate * f64::from(self.poison_days) / DAYS_PER_MONTH;
        1.0 - (-expected).exp()
    }
}
