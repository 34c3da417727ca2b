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
use spot_domain::swap::selection::{MemberKind, select_one};
use spot_domain::watch::back_off::{LOOK_AGAIN, in_words};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{Pool, Region};
use spot_swap::error::StepError;
use spot_swap::group;

use crate::start::StartTarget;

/// The result of a look.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// This may be swapped.
    Start(StartTarget<'a>),
    /// Nothing may be swapped now.
    Defer(Deferred),
    /// Nothing may be swapped, and that will not change soon. The next sweeps take it for granted.
    DeferForLong(Deferred, Timestamp),
}

/// A target that may be swapped as far as its group says, and the pools that its replacements may come from.
type Possible<'a> = (StartTarget<'a>, Vec<Pool>);

/// The possible targets, in the order of their turn, and the members that are none.
type Found<'a> = (Vec<Possible<'a>>, Vec<NotSwapped>);

/// Looks at a group, at those members of it that are nodes, or at a lab instance.
#[derive(Debug)]
pub struct Look<'a> {
    pub clients: &'a RegionClients,
    pub gatekeeper: &'a Gatekeeper,
    pub region: &'a Region,
    pub settings: &'a Settings,
    pub now: Timestamp,
}

impl Look<'_> {
    /// Decides if a swap may start. Of several nodes, the first that may be swapped is started.
    ///
    /// # Errors
    /// A call fails.
    pub async fn at<'a>(&self, target: &StartTarget<'a>) -> Result<Verdict<'a>, StepError> {
        let found = match target {
            StartTarget::Group { group, replace } => self.members(group, replace.clone()).await,
            StartTarget::Node { group, node, next } => {
                let nodes: Vec<&'a Instance> = std::iter::once(*node).chain(next.iter().copied()).collect();
                self.nodes(group, &nodes).await
            }
            StartTarget::Lab { instance, .. } => return self.lab(target.clone(), instance).await,
        };
        match found {
            Ok((possible, _)) if !possible.is_empty() => Ok(self.gate(possible).await),
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

    /// Looks at a group as a whole. One clear pool is enough: the run sorts the members by their own.
    async fn members<'a>(&self, group: &'a Group, replace: Option<Named>) -> Result<Found<'a>, StepError> {
        let asked = Asked { to: Market::Spot, replace };
        let plan = group::plan(self.clients, self.region, self.settings, group.clone(), &asked).await?;
        let candidates = plan.selection.candidates.into_iter();
        let pools: Vec<Pool> = candidates.flat_map(|candidate| candidate.pools).collect();
        let target = StartTarget::Group { group, replace: asked.replace };
        let possible = if pools.is_empty() { Vec::new() } else { vec![(target, pools)] };
        Ok((possible, plan.selection.skipped))
    }

    /// Looks at each node: one that can't be swapped, or whose pools are poisoned, holds up no other. All of them take as
    /// many calls as one.
    async fn nodes<'a>(&self, group: &'a Group, nodes: &[&'a Instance]) -> Result<Found<'a>, StepError> {
        group::refuse_unfit(self.clients, self.settings, group).await?;
        let ids: Vec<&InstanceId> = nodes.iter().map(|node| &node.id).collect();
        let look = group::look_for(self.clients, self.region, group.clone(), &ids, &Asked::default()).await?;
        let (mut possible, mut skipped) = (Vec::new(), Vec::new());
        for &node in nodes {
            let selected = select_one(look.view(), &node.id, self.settings, MemberKind::Node);
            match selected.map_err(|bad| group::malformed(&look.group, &bad))? {
                Ok(candidate) => {
                    possible.push((StartTarget::Node { group, node, next: Vec::new() }, candidate.pools));
                }
                Err(left) => skipped.push(left),
            }
        }
        Ok((possible, skipped))
    }

    /// Looks at the pool of a lab instance, the only one that its twin may come from. What no description shows, its own
    /// run finds out: a run that is refused is not repeated soon.
    async fn lab<'a>(&self, target: StartTarget<'a>, instance: &Instance) -> Result<Verdict<'a>, StepError> {
        let az_id = match &instance.az_id {
            Some(az_id) => Some(az_id.clone()),
            None => instances::zones(&self.clients.ec2).await?.remove(&instance.availability_zone),
        };
        let Some(az_id) = az_id else {
            let detail = format!("no zone id is known for {}", instance.availability_zone);
            return Ok(self.for_long(Deferral::NoCandidate, detail));
        };
        let instance_type = instance.instance_type.clone();
        let pool = Pool { region: self.region.clone(), az_id, instance_type };
        Ok(self.gate(vec![(target, vec![pool])]).await)
    }

    /// Asks the gate, once for all. The first target with a clear pool may be swapped.
    async fn gate<'a>(&self, possible: Vec<Possible<'a>>) -> Verdict<'a> {
        let pools: BTreeSet<&Pool> = possible.iter().flat_map(|(_, pools)| pools).collect();
        let pools: Vec<Pool> = pools.into_iter().cloned().collect();
        let verdicts = match self.gatekeeper.ask(&pools).await {
            Ok(verdicts) => verdicts,
            Err(closed) => {
                return Verdict::Defer(Deferred::new(Deferral::GateUnreachable, closed.to_string()));
            }
        };
        let verdicts: BTreeMap<Pool, PoolVerdict> = pools.into_iter().zip(verdicts).collect();
        let is_clear = |pool: &Pool| matches!(verdicts.get(pool), Some(PoolVerdict::Cleared(_)));
        match possible.into_iter().find(|(_, pools)| pools.iter().any(is_clear)) {
            Some((target, _)) => Verdict::Start(target),
            None => while_none_is_clear(&verdicts, self.now),
        }
    }

    fn for_long(&self, reason: Deferral, detail: String) -> Verdict<'static> {
        let again = self.now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
        Verdict::DeferForLong(Deferred::until(reason, detail, again), again)
    }
}

/// Returns the verdict over all pools that may be launched into, while none of them is clear.
fn while_none_is_clear(pools: &BTreeMap<Pool, PoolVerdict>, now: Timestamp) -> Verdict<'static> {
    let mut earliest: Option<(&Pool, Timestamp)> = None;
    let mut unreadable = None;
    for (pool, verdict) in pools {
        match verdict {
            PoolVerdict::Cleared(_) => {}
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
        let verdict = while_none_is_clear(&pools(poisoned.into()), at(0));
        let Verdict::DeferForLong(deferred, again) = verdict else { panic!() };
        assert_eq!((deferred.reason, deferred.not_before), (Deferral::PoolPoisoned, Some(at(800_000))));
        assert_eq!(
            deferred.detail,
            "all 3 pools are poisoned; the first to be clear is us-east-1#use1-az2#m5.large"
        );
        assert_eq!(again, at(3_600), "a person may unpoison it");
        let soon = vec![PoolVerdict::PoisonedUntil(at(60))];
        let verdict = while_none_is_clear(&pools(soon), at(0));
        assert!(matches!(verdict, Verdict::DeferForLong(_, again) if again == at(60)));
    }

    #[test]
    fn a_pool_that_cannot_be_read_is_not_taken_for_poisoned() {
        let row = MalformedRow { pool: "p".to_owned(), attribute: "is_poisoned" };
        let verdicts = vec![PoolVerdict::PoisonedUntil(at(60)), PoolVerdict::Unreadable(row)];
        let Verdict::Defer(deferred) = while_none_is_clear(&pools(verdicts), at(0)) else { panic!() };
        assert_eq!((deferred.reason, deferred.not_before), (Deferral::PoolUnreadable, None));
    }
}
