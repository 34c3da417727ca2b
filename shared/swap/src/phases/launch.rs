//! Launch: one instance for the next candidate, as the group would launch it today, in the same zone. It is Spot from
//! the first cleared pool that has capacity, or On-Demand if that was asked for. The group's owner is asked again first,
//! and a group that is scaling is waited for. A newcomer that was launched ahead of its turn is taken as it is: the phases
//! that follow check it, the group and the owner's wishes.
//!
//! Records, before the first call: the swap's id, which is the newcomer's tag and the stem of its
//! ClientTokens, and the newcomer's market; before each further attempt: its number. Undone by: terminating what has one of those ClientTokens.

use spot_cloud::ec2::instances;
use spot_cloud::launch::gatekeeper::PoolVerdict;
use spot_cloud::tables::swaps::{Entered, Leased, Release};
use spot_cloud::{CallError, RegionClients};
use spot_domain::swap::group::{Group, Instance};
use spot_domain::swap::group_tags::GroupTags;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::market::Market;
use spot_domain::swap::recovery::End;
use spot_domain::swap::selection::Candidate;
use spot_domain::tags::{Tags, inherited};
use spot_domain::{Pool, Reason};

use crate::Context;
use crate::attempts::{Attempts, InPool, closed};
use crate::before_launch::{LaunchLook, Rest, group_at_rest, look_before_launch};
use crate::error::StepError;
use crate::group::{GroupLook, malformed};
use crate::launch_journal::LaunchJournal;
use crate::newcomer::unproven;
use crate::order::{LaunchFrom, Orders};
use crate::phases::gate::Refusal;
use crate::work::ahead::LaunchedNewcomer;
use crate::work::{Current, Next, Work};

/// Launches for the head of the queue.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated, and goes on with the same attempt.
pub async fn run(context: &Context, work: &mut Work) -> Result<Next, StepError> {
    if work.queue.is_empty() {
        return Ok(work.next_candidate());
    }
    let clients = context.clients(work).await?;
    if let Some(ended_by) = work.ended_by.filter(|_| !work.ahead.is_empty()) {
        // Its turn never comes: the rollback takes it away.
        return Ok(work.undo(ended_by, work.ended_because.clone()));
    }
    let (group, rest) = match &work.lease.on {
        Leased::Group { .. } => group_at_rest(context, &clients, work).await?,
        Leased::Instance(_) | Leased::ClusterSlot { .. } => (None, Rest::AtRest),
    };
    if rest == Rest::Later {
        return Ok(Next::Wait);
    }
    if let (Rest::Never(why), false) = (&rest, work.ahead.is_empty()) {
        work.end(Reason::GroupScaling, why.clone());
        return Ok(work.undo(Reason::GroupScaling, why.clone()));
    }
    let candidate = work.queue.remove(0);
    let kind = work.kind.clone();
    let mut journal =
        Journal::new(&candidate.instance_id, work.swap_began(&candidate.instance_id), work.retirement, kind);
    journal.to = candidate.to;
    work.note_retirement(&mut journal);
    let entered = context.swaps.enter(&work.lease, &mut journal).await?;
    let repeated = matches!(entered, Entered::Again(_));
    if let Entered::Again(earlier) = entered {
        journal = earlier;
    }
    if let Some(problem) = another_market(&journal, &candidate) {
        return Err(unproven(&work.lease, &problem).into());
    }
    let ahead = work.take_ahead(&candidate.instance_id);
    if journal.is_ahead {
        work.note_retirement(&mut journal);
    }
    let known = match ahead.and_then(|ahead| ahead.newcomer) {
        None => earlier(&clients, repeated, &journal, &candidate).await?,
        known => known,
    };
    let launched = match known {
        // Nobody knows what such a newcomer came from.
        Some(newcomer) if newcomer.came_from.is_none() && journal.is_ahead => {
            let detail = format!("newcomer {} was launched ahead, and the answer was lost", newcomer.id);
            Err(Refusal::new(Reason::StepFailed, detail))
        }
        Some(newcomer) => Ok((newcomer, candidate.clone())),
        None => match refused_or_fit(context, work, &clients, group, rest, candidate.clone()).await? {
            LaunchLook::Refused(refusal) => Err(refusal),
            LaunchLook::Fit(now, from) => {
                work.note_retirement(&mut journal);
                let plan = Plan { candidate: *now, from, numbered: &candidate.pools };
                launch(context, work, &clients, plan, LaunchJournal::Own(&mut journal), repeated).await?
            }
        },
    };
    match launched {
        Ok((LaunchedNewcomer { id, pool, came_from, remark }, candidate)) => {
            tracing::info!(newcomer = %id, %pool, replaces = %candidate.instance_id, "launched");
            let deadline = work.wait_at_most(work.settings.health_timeout_seconds);
            let current = Current::new(candidate, journal, id, pool, deadline);
            let remarks = remark.into_iter().collect();
            work.current = Some(Current { came_from, remarks, ..current });
            Ok(Next::Proceed)
        }
        // An attempt whose answer was lost may have launched all the same: the rollback looks. It also
        // takes away what was made for the launch.
        Err(refusal) if repeated || work.has_captured() => {
            work.queue.insert(0, candidate);
            Ok(work.undo_refused(refusal))
        }
        Err(refusal) => {
            context.swaps.close(&work.lease, &journal, End::Undone, Release::Keep).await?;
            work.skip_refused(&candidate.instance_id, refusal);
            Ok(work.next_candidate())
        }
    }
}

/// Says that the row and the run name different markets. A row is no order: an On-Demand launch takes the word of the
/// request, too.
fn another_market(journal: &Journal, candidate: &Candidate) -> Option<String> {
    (journal.to != candidate.to)
        .then(|| format!("its journal goes to {}, and the run to {}", journal.to, candidate.to))
}

/// A group that never rests ends the run; any other is looked at.
async fn refused_or_fit(
    context: &Context,
    work: &mut Work,
    clients: &RegionClients,
    group: Option<Group>,
    rest: Rest,
    queued: Candidate,
) -> Result<LaunchLook, StepError> {
    if let Rest::Never(why) = rest {
        work.end(Reason::GroupScaling, why.clone());
        return Ok(LaunchLook::Refused(Refusal::new(Reason::GroupScaling, why)));
    }
    look_before_launch(context, work, clients, group, queued).await
}

/// What an earlier run of this very step launched before its answer was lost.
async fn earlier(
    clients: &RegionClients,
    repeated: bool,
    journal: &Journal,
    candidate: &Candidate,
) -> Result<Option<LaunchedNewcomer>, CallError> {
    if !repeated {
        return Ok(None);
    }
    let found = instances::launched_by(&clients.ec2, &journal.swap_id).await?;
    let alive = found.by_swap.into_iter().find(Instance::is_alive);
    Ok(alive.and_then(|instance| {
        let pool = candidate.pools.iter().find(|pool| pool.instance_type == instance.instance_type)?;
        Some(LaunchedNewcomer { id: instance.id, pool: pool.clone(), came_from: None, remark: None })
    }))
}

/// What is launched for.
pub(crate) struct Plan<'a> {
    pub candidate: Candidate,
    pub from: LaunchFrom,
    /// The pools by which the attempts are numbered.
    pub numbered: &'a [Pool],
}

/// Asks the gate once more if the newcomer is Spot, then tries the pools in their order. The inner error is why this
/// candidate is skipped.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated, and goes on with the same attempt.
pub(crate) async fn launch(
    context: &Context,
    work: &Work,
    clients: &RegionClients,
    Plan { candidate, from, numbered }: Plan<'_>,
    journal: LaunchJournal<'_>,
    repeated: bool,
) -> Result<Result<(LaunchedNewcomer, Candidate), Refusal>, StepError> {
    let verdicts: Vec<Option<PoolVerdict>> = match candidate.to {
        Market::OnDemand => candidate.pools.iter().map(|_| None).collect(),
        Market::Spot => {
            if let Some(blind) = Refusal::of_blind_gate(work) {
                return Ok(Err(blind));
            }
            match context.gatekeeper.ask(&candidate.pools).await {
                Ok(verdicts) => verdicts.into_iter().map(Some).collect(),
                Err(why) => return Ok(Err(closed(&why))),
            }
        }
    };
    let tags = newcomers_tags(&candidate, from.group(), journal.journal())?;
    let orders = Orders::new(clients, work, &candidate, from, numbered, tags);
    let mut attempts = Attempts::new(context, clients, work, journal, orders, repeated);
    let pools = candidate.pools.iter().zip(verdicts);
    for (pool, verdict) in pools.filter(|(pool, _)| !work.is_too_small(&pool.instance_type)) {
        match attempts.in_pool(pool, verdict).await? {
            InPool::Launched { newcomer: id, came_from, remark } => {
                let newcomer = LaunchedNewcomer { id, pool: pool.clone(), came_from, remark };
                return Ok(Ok((newcomer, candidate)));
            }
            InPool::EndsRun(refusal) => return Ok(Err(refusal)),
            InPool::NextPool => {}
        }
    }
    Ok(Err(attempts.none_launched(&candidate.not_cheaper)))
}

/// Returns the tags of the old instance, but for the one by which its software says that it is ready: the newcomer's must
/// say so by itself. A node's newcomer names its cluster.
fn newcomers_tags(
    candidate: &Candidate,
    look: Option<&GroupLook>,
    journal: &Journal,
) -> Result<Tags, StepError> {
    let cluster = journal.kind.node().map(|node| node.cluster.as_str());
    let mut tags = inherited(&candidate.tags, journal.swap_id.as_str(), cluster);
    if let Some(look) = look {
        let wishes = GroupTags::parse(&look.group.tags).map_err(|bad| malformed(&look.group, &bad))?;
        if let Some(ready) = &wishes.ready_tag {
            tags.remove(ready.key());
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_says_on_demand_orders_nothing_that_was_not_asked_for() {
        let payload = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");
        let work: Work = serde_json::from_str(payload).unwrap();
        let Current { candidate, mut journal, .. } = work.current.unwrap();
        assert_eq!(another_market(&journal, &candidate), None);
        journal.to = Market::OnDemand;
        let problem = another_market(&journal, &candidate).unwrap();
        assert!(problem.contains("goes to On-Demand, and the run to Spot"), "{problem}");
        let back = Candidate { from: Market::Spot, to: Market::OnDemand, ..candidate };
        assert_eq!(another_market(&journal, &back), None);
    }
}
