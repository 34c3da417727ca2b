//! Gate: asks about the pools of all candidates in one read. Each candidate keeps only the pools that are clear
//! and cheaper than its old instance. A candidate without a pool is skipped. Changes nothing; if the gate does not
//! answer, or is blind here, the run ends with everything as it is.
//!
//! A candidate whose replacement is On-Demand has no pool to ask about: it is only priced.

use std::collections::BTreeSet;

use spot_cloud::launch::gatekeeper::{GateClosed, PoolVerdict};
use spot_cloud::tables::swaps::Lease;
use spot_domain::clock;
use spot_domain::forwarding::BlindGate;
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
    if let Some(blind) = blind_to(work) {
        refuse_all(work, &blind);
        return Ok(work.next_candidate());
    }
    let queue = std::mem::take(&mut work.queue);
    if queue.is_empty() {
        return Ok(work.next_candidate());
    }
    let pools: BTreeSet<&Pool> = queue.iter().filter(|c| c.to.is_spot()).flat_map(|c| &c.pools).collect();
    let pools: Vec<Pool> = pools.into_iter().cloned().collect();
    let verdicts = match ask(context, &pools).await {
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
        work.priced_at = Some(clock::now());
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

async fn ask(context: &Context, pools: &[Pool]) -> Result<Vec<PoolVerdict>, GateClosed> {
    if pools.is_empty() { Ok(Vec::new()) } else { context.gatekeeper.ask(pools).await }
}

/// Returns the refusal of a run that launches Spot where the gate is blind. A run back to On-Demand needs no gate.
fn blind_to(work: &Work) -> Option<Refusal> {
    let launches_spot = work.queue.iter().any(|candidate| candidate.to.is_spot());
    Refusal::of_blind_gate(work).filter(|_| launches_spot)
}

fn refuse_all(work: &mut Work, refusal: &Refusal) {
    for candidate in std::mem::take(&mut work.queue) {
        work.skip(&candidate.instance_id, refusal.reason, &refusal.detail);
    }
}

/// The reason why a pool, or all pools of a candidate, may not be launched into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The reason in words for a person.
    pub detail: String,
    /// Other candidates may launch all the same, also if the reason is one that ends a run.
    pub others_may_launch: bool,
}

impl Refusal {
    /// Returns the refusal for this reason.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), others_may_launch: false }
    }

    /// Returns the refusal of every launch where the gate is blind, unless the settings allow launches there.
    #[must_use]
    pub fn of_blind_gate(work: &Work) -> Option<Self> {
        let why = work.blind.as_deref().filter(|_| work.settings.blind_gate == BlindGate::Refuse)?;
        let Lease { account_id, region, .. } = &work.lease;
        let detail = format!(
            "nobody hands the interruptions in account {account_id}, region {region}, to the stack: {why}; or set \
             blind_gate to allow"
        );
        Some(Self::new(Reason::GateBlind, detail))
    }

    /// Returns the refusal of a verdict that is one.
    pub(crate) fn of(verdict: &PoolVerdict) -> Option<Self> {
        match verdict {
            PoolVerdict::Cleared(_) => None,
            PoolVerdict::PoisonedUntil(until) => {
                Some(Self::new(Reason::PoolPoisoned, format!("poisoned until {until}")))
            }
            PoolVerdict::Unreadable(row) => Some(Self::new(Reason::PoolUnreadable, row.to_string())),
        }
    }

    /// Merges the refusals of several pools into one. An unreadable row is worse news than a poisoned pool.
    pub(crate) fn all(refusals: &[(Pool, Self)]) -> Self {
        let unreadable = refusals.iter().any(|(_, r)| r.reason == Reason::PoolUnreadable);
        let details = refusals.iter().map(|(pool, r)| format!("{pool}: {}", r.detail)).collect();
        let reason = if unreadable { Reason::PoolUnreadable } else { Reason::PoolPoisoned };
        Self::new(reason, first_few(details))
    }
}

fn keep_cleared(mut candidate: Candidate, refusals: &[(&Pool, Refusal)]) -> (Candidate, Option<Refusal>) {
    if candidate.to.is_on_demand() {
        return (candidate, None);
    }
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
    use spot_domain::swap::market::Market;
    use spot_domain::swap::pricing::Prices;
    use spot_domain::swap::report::GateView;

    fn candidate(types: &[&str]) -> Candidate {
        Candidate {
            instance_id: "i-12345678".parse().unwrap(),
            instance_type: types[0].parse().unwrap(),
            from: Market::OnDemand,
            to: Market::Spot,
            pools: types.iter().map(|t| format!("us-east-1#use1-az6#{t}").parse().unwrap()).collect(),
            availability_zone: "us-east-1a".into(),
            billed_as: None,
            prices: Prices::default(),
            not_cheaper: String::new(),
            holds: BTreeSet::new(),
            addresses: BTreeSet::new(),
            subnet_id: "subnet-1".into(),
            tags: std::collections::BTreeMap::new(),
        }
    }

    fn work() -> Work {
        Work {
            queue: vec![candidate(&["m5.large"]), candidate(&["m5.large"])],
            ..serde_json::from_str(include_str!("../../tests/payloads/3fb1158-group-after-launch.json"))
                .unwrap()
        }
    }

    #[test]
    fn where_the_gate_is_blind_every_candidate_stays_and_the_run_ends() {
        let mut blind = Work { blind: Some("its rule x is disabled".into()), ..work() };
        let refusal = Refusal::of_blind_gate(&blind).unwrap();
        assert!(refusal.detail.contains("its rule x is disabled") && refusal.detail.contains("blind_gate"));
        refuse_all(&mut blind, &refusal);
        assert!(blind.queue.is_empty() && blind.skipped.iter().all(|left| left.reason == Reason::GateBlind));
        assert_eq!((blind.skipped.len(), blind.ended_by), (2, Some(Reason::GateBlind)));
        assert_eq!(blind.gate_view(), Some(GateView::Blind));
    }

    #[test]
    fn a_gate_that_hears_and_one_that_may_be_blind_refuse_nothing() {
        let hears = work();
        assert_eq!((Refusal::of_blind_gate(&hears), hears.gate_view()), (None, None));
        let mut allowed = Work { blind: Some("its rule x is disabled".into()), ..work() };
        allowed.settings.blind_gate = BlindGate::Allow;
        assert_eq!(Refusal::of_blind_gate(&allowed), None);
        assert_eq!(allowed.gate_view(), Some(GateView::Blind), "it is told all the same");
    }

    #[test]
    fn the_way_back_to_on_demand_needs_no_gate() {
        let mut blind = Work { blind: Some("its rule x is disabled".into()), ..work() };
        assert_eq!(blind_to(&blind), Refusal::of_blind_gate(&blind), "a run to Spot is refused");
        for candidate in &mut blind.queue {
            (candidate.from, candidate.to) = (Market::Spot, Market::OnDemand);
        }
        assert_eq!(blind_to(&blind), None);
        blind.queue.clear();
        assert_eq!(blind_to(&blind), None, "nothing is launched");
    }

    #[test]
    fn a_poisoned_type_gives_way_to_the_next_in_the_same_zone() {
        let poisoned: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
        let refusals = [(&poisoned, Refusal::new(Reason::PoolPoisoned, "poisoned until X"))];
        let (kept, refused) = keep_cleared(candidate(&["m5.large", "m5a.large"]), &refusals);
        assert_eq!(refused, None);
        assert_eq!(kept.pools.len(), 1);
        assert_eq!(kept.pools[0].instance_type.as_str(), "m5a.large");

        let (_, refused) = keep_cleared(candidate(&["m5.large"]), &refusals);
        assert_eq!(refused.unwrap().detail, "us-east-1#use1-az6#m5.large: poisoned until X");
    }

    #[test]
    fn the_poison_of_a_pool_says_nothing_of_on_demand() {
        let poisoned: Pool = "us-east-1#use1-az6#m5.large".parse().unwrap();
        let refusals = [(&poisoned, Refusal::new(Reason::PoolPoisoned, "poisoned until X"))];
        let back = Candidate { from: Market::Spot, to: Market::OnDemand, ..candidate(&["m5.large"]) };
        assert_eq!(keep_cleared(back.clone(), &refusals), (back, None));
    }
}
