//! Gate: asks about the pools of all candidates in one read. Each candidate keeps only the pools that are clear
//! and cheaper than its old instance. A candidate without a pool is skipped. Changes nothing; if the gate does not
//! answer, the run ends with everything as it is.

use std::collections::BTreeSet;

use jiff::Timestamp;
use spot_cloud::launch::gatekeeper::PoolVerdict;
use spot_domain::swap::selection::Candidate;
use spot_domain::words::first_few;
use spot_domain::{Pool, Reason};

use crate::Context;
use crate::error::StepError;
use crate::pricing;
use crate::work::{Next, Work};

/// Sorts the queue by the gate's verdicts.
///
/// # Errors
/// The access to the account is unknown.
pub async fn run(context: &Context, work: &mut Work) -> Result<Next, StepError> {
    let queue = std::mem::take(&mut work.queue);
    let pools: BTreeSet<&Pool> = queue.iter().flat_map(|c| &c.pools).collect();
    let pools: Vec<Pool> = pools.into_iter().cloned().collect();
    if pools.is_empty() {
        return Ok(work.next_candidate());
    }
    let verdicts = match context.gatekeeper.ask(&pools).await {
        Ok(verdicts) => verdicts,
        Err(closed) => {
            tracing::error!(on = %work.lease.on, "the gate is closed: {closed}");
            for candidate in &queue {
                work.skip(&candidate.instance_id, Reason::GateUnreachable, closed.to_string());
            }
            return Ok(work.next_candidate());
        }
    };
    let refusals: Vec<(&Pool, Refusal)> =
        pools.iter().zip(&verdicts).filter_map(|(pool, v)| Some((pool, Refusal::of(v)?))).collect();
    let mut cleared = Vec::new();
    for candidate in queue {
        let (candidate, refused) = keep_cleared(candidate, &refusals);
        match refused {
            Some(refusal) => work.skip(&candidate.instance_id, refusal.reason, refusal.detail),
            None => cleared.push(candidate),
        }
    }
    if !cleared.is_empty() {
        let clients = context.clients(work).await?;
        let priced = pricing::keep_cheaper(context, &clients, work, cleared).await;
        work.priced_at = Some(Timestamp::now());
        let (mut cheaper, mut dearer) = (Vec::new(), Vec::new());
        for candidate in priced {
            match candidate {
                Ok(candidate) => cheaper.push(candidate),
                Err(left) => dearer.push(left),
            }
        }
        work.enqueue(cheaper);
        work.leave_alone(dearer);
    }
    Ok(work.next_candidate())
}

/// The reason why a pool, or all pools of a candidate, may not be launched into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The reason in words for a person.
    pub detail: String,
}

impl Refusal {
    /// Returns the refusal of a verdict that is one.
    pub(crate) fn of(verdict: &PoolVerdict) -> Option<Self> {
        match verdict {
            PoolVerdict::Cleared(_) => None,
            PoolVerdict::PoisonedUntil(until) => {
                Some(Self { reason: Reason::PoolPoisoned, detail: format!("poisoned until {until}") })
            }
            PoolVerdict::Unreadable(row) => {
                Some(Self { reason: Reason::PoolUnreadable, detail: row.to_string() })
            }
        }
    }

    /// Merges the refusals of several pools into one. An unreadable row is worse news than a poisoned pool.
    pub(crate) fn all(refusals: &[(Pool, Self)]) -> Self {
        let unreadable = refusals.iter().any(|(_, r)| r.reason == Reason::PoolUnreadable);
        let details = refusals.iter().map(|(pool, r)| format!("{pool}: {}", r.detail)).collect();
        Self {
            reason: if unreadable { Reason::PoolUnreadable } else { Reason::PoolPoisoned },
            detail: first_few(details),
        }
    }
}

fn keep_cleared(mut candidate: Candidate, refusals: &[(&Pool, Refusal)]) -> (Candidate, Option<Refusal>) {
    let refused: Vec<(Pool, Refusal)> = refusals
        .iter()
        .filter(|(pool, _)| candidate.pools.contains(pool))
        .map(|(pool, refusal)| ((*pool).clone(), refusal.clone()))
        .collect();
    candidate.pools.retain(|pool| !refused.iter().any(|(refused, _)| refused == pool));
    let all = candidate.pools.is_empty().then(|| Refusal::all(&refused));
    (candidate, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_domain::swap::pricing::Prices;

    fn candidate(types: &[&str]) -> Candidate {
        Candidate {
            instance_id: "i-12345678".parse().unwrap(),
            instance_type: types[0].parse().unwrap(),
            pools: types.iter().map(|t| format!("us-east-1#use1-az6#{t}").parse().unwrap()).collect(),
            availability_zone: "us-east-1a".into(),
            billed_as: None,
            prices: Prices::default(),
            not_cheaper: String::new(),
            holds: BTreeSet::new(),
            subnet_id: "subnet-1".into(),
            tags: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_poisoned_type_gives_way_to_the_next_in_the_same_zone() {
        let poisoned: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
        let refusals =
            [(&poisoned, Refusal { reason: Reason::PoolPoisoned, detail: "poisoned until X".into() })];
        let (kept, refused) = keep_cleared(candidate(&["m5.large", "m5a.large"]), &refusals);
        assert_eq!(refused, None);
        assert_eq!(kept.pools.len(), 1);
        assert_eq!(kept.pools[0].instance_type.as_str(), "m5a.large");

        let (_, refused) = keep_cleared(candidate(&["m5.large"]), &refusals);
        assert_eq!(refused.unwrap().detail, "us-east-1#use1-az6#m5.large: poisoned until X");
    }
}
