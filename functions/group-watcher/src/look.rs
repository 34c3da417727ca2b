//! The look at a group or lab instance that is about to be swapped: what Discover would decide, and what the gate would
//! say. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::launch::gatekeeper::{Gatekeeper, PoolVerdict};
use spot_domain::ids::InstanceId;
use spot_domain::settings::Settings;
use spot_domain::swap::asked::{Asked, Named};
use spot_domain::swap::group::{Group, Instance};
use spot_domain::swap::market::Market;
use spot_domain::swap::report::NotSwapped;
use spot_domain::swap::selection::{Candidate, MemberKind, select_one};
use spot_domain::watch::back_off::{LOOK_AGAIN, in_words};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{Pool, Region};
use spot_swap::error::StepError;
use spot_swap::group;

use crate::start::StartTarget;

/// The result of a look.
#[derive(Debug)]
pub enum Verdict {
    /// Something may be swapped.
    Start,
    /// Nothing may be swapped now.
    Defer(Deferred),
    /// Nothing may be swapped, and that will not change soon. The next sweeps take it for granted.
    DeferForLong(Deferred, Timestamp),
}

/// Looks at a group, at one member of it that is a node, or at a lab instance.
#[derive(Debug)]
pub struct Look<'a> {
    pub clients: &'a RegionClients,
    pub gatekeeper: &'a Gatekeeper,
    pub region: &'a Region,
    pub settings: &'a Settings,
    pub now: Timestamp,
}

impl Look<'_> {
    /// Decides if a swap may start.
    ///
    /// # Errors
    /// A call fails.
    pub async fn at(&self, target: &StartTarget<'_>) -> Result<Verdict, StepError> {
        let found = match target {
            StartTarget::Group { group, replace } => self.members((*group).clone(), replace.clone()).await,
            StartTarget::Node { group, node } => self.node((*group).clone(), &node.id).await,
            StartTarget::Lab { instance, .. } => return self.lab(instance).await,
        };
        match found {
            Ok((candidates, _)) if !candidates.is_empty() => {
                Ok(self.gate(candidates.iter().flat_map(|candidate| &candidate.pools)).await)
            }
            Ok((_, skipped)) => Ok(self.for_long(Deferral::NoCandidate, in_words(&skipped))),
            Err(StepError::GroupNotSupported(why)) => {
                Ok(self.for_long(Deferral::GroupNotSupported, why.to_string()))
            }
            Err(StepError::GroupBusy(why)) => {
                Ok(Verdict::Defer(Deferred::new(Deferral::GroupBusy, why.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    async fn members(
        &self,
        group: Group,
        replace: Option<Named>,
    ) -> Result<(Vec<Candidate>, Vec<NotSwapped>), StepError> {
        let asked = Asked { to: Market::Spot, replace };
        let plan = group::plan(self.clients, self.region, self.settings, group, &asked).await?;
        Ok((plan.selection.candidates, plan.selection.skipped))
    }

    async fn node(
        &self,
        group: Group,
        id: &InstanceId,
    ) -> Result<(Vec<Candidate>, Vec<NotSwapped>), StepError> {
        group::refuse_unfit(self.clients, &group).await?;
        let look = group::look_for(self.clients, self.region, group, id, &Asked::default()).await?;
        let selected = select_one(look.view(), id, self.settings, MemberKind::Node);
        Ok(match selected.map_err(|bad| group::malformed(&look.group, &bad))? {
            Ok(candidate) => (vec![candidate], Vec::new()),
            Err(skipped) => (Vec::new(), vec![skipped]),
        })
    }

    /// Looks at the pool of a lab instance, the only one that its twin may come from. What no description shows, its own
    /// run finds out: a run that is refused is not repeated soon.
    async fn lab(&self, instance: &Instance) -> Result<Verdict, StepError> {
        let az_id = match &instance.az_id {
            Some(az_id) => Some(az_id.clone()),
            None => instances::zones(&self.clients.ec2).await?.remove(&instance.availability_zone),
        };
        let Some(az_id) = az_id else {
            let detail = format!("no zone id is known for {}", instance.availability_zone);
            return Ok(self.for_long(Deferral::NoCandidate, detail));
        };
        let instance_type = instance.instance_type.clone();
        Ok(self.gate([&Pool { region: self.region.clone(), az_id, instance_type }]).await)
    }

    /// Asks the gate. One clear pool is enough: the run sorts the members by their own.
    async fn gate<'a>(&self, pools: impl IntoIterator<Item = &'a Pool>) -> Verdict {
        let pools: BTreeSet<&Pool> = pools.into_iter().collect();
        let pools: Vec<Pool> = pools.into_iter().cloned().collect();
        let verdicts = match self.gatekeeper.ask(&pools).await {
            Ok(verdicts) => verdicts,
            Err(closed) => {
                return Verdict::Defer(Deferred::new(Deferral::GateUnreachable, closed.to_string()));
            }
        };
        judge(&pools.into_iter().zip(verdicts).collect(), self.now)
    }

    fn for_long(&self, reason: Deferral, detail: String) -> Verdict {
        let again = self.now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        Verdict::DeferForLong(Deferred::until(reason, detail, again), again)
    }
}

/// Returns the verdict over all pools that a group may launch into.
fn judge(pools: &BTreeMap<Pool, PoolVerdict>, now: Timestamp) -> Verdict {
    let mut earliest: Option<(&Pool, Timestamp)> = None;
    let mut unreadable = None;
    for (pool, verdict) in pools {
        match verdict {
            PoolVerdict::Cleared(_) => return Verdict::Start,
            PoolVerdict::PoisonedUntil(until) => {
                if earliest.is_none_or(|(_, earliest)| *until < earliest) {
                    earliest = Some((pool, *until));
                }
            }
            PoolVerdict::Unreadable(row) => unreadable = Some(row),
        }
    }
    match (unreadable, earliest) {
        (Some(row), _) => Verdict::Defer(Deferred::new(Deferral::PoolUnreadable, row.to_string())),
        (None, Some((pool, until))) => {
            let detail = format!("all {} pools are poisoned; the first to be clear is {pool}", pools.len());
            // A person may unpoison a pool before.
            let again = until.min(now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX));
            Verdict::DeferForLong(Deferred::until(Deferral::PoolPoisoned, detail, until), again)
        }
        (None, None) => Verdict::Defer(Deferred::new(Deferral::NoCandidate, "no pool is allowed")),
    }
}

#[cfg(test)]
mod tests {
    use spot_cloud::tables::risk_pools::MalformedRow;

    use super::*;

    fn pools(verdicts: Vec<PoolVerdict>) -> BTreeMap<Pool, PoolVerdict> {
        let pool = |n| format!("us-east-1#use1-az{n}#m5.large").parse().unwrap();
        verdicts.into_iter().enumerate().map(|(n, verdict)| (pool(n + 1), verdict)).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn all_pools_poisoned_is_a_deferral_until_the_earliest_end() {
        let poisoned = [900_000, 800_000, 850_000].map(|until| PoolVerdict::PoisonedUntil(at(until)));
        let Verdict::DeferForLong(deferred, again) = judge(&pools(poisoned.into()), at(0)) else { panic!() };
        assert_eq!((deferred.reason, deferred.not_before), (Deferral::PoolPoisoned, Some(at(800_000))));
        assert_eq!(
            deferred.detail,
            "all 3 pools are poisoned; the first to be clear is us-east-1#use1-az2#m5.large"
        );
        assert_eq!(again, at(3_600), "a person may unpoison it");
        let soon = vec![PoolVerdict::PoisonedUntil(at(60))];
        assert!(matches!(judge(&pools(soon), at(0)), Verdict::DeferForLong(_, again) if again == at(60)));
    }

    #[test]
    fn a_pool_that_cannot_be_read_is_not_taken_for_poisoned() {
        let row = MalformedRow { pool: "p".to_owned(), attribute: "is_poisoned" };
        let verdicts = vec![PoolVerdict::PoisonedUntil(at(60)), PoolVerdict::Unreadable(row)];
        let Verdict::Defer(deferred) = judge(&pools(verdicts), at(0)) else { panic!() };
        assert_eq!((deferred.reason, deferred.not_before), (Deferral::PoolUnreadable, None));
    }
}
