//! Launch: one Spot instance for the next candidate, as the group would launch it today, in the same zone, from
//! the first cleared pool that has capacity. The group's owner is asked again first.
//!
//! Records, before the first call: the swap's id, which is the newcomer's tag and the stem of its
//! ClientTokens; before each further attempt: its number. Undone by: terminating what bears the tag.

use jiff::{SignedDuration, Timestamp};
use spot_cloud::swaps::{Entered, Leased, Release};
use spot_cloud::{CallError, Kind, Target, instances};
use spot_domain::group::{Group, Instance, Launch};
use spot_domain::group_tags::GroupTags;
use spot_domain::journal::Journal;
use spot_domain::selection::{Candidate, MemberKind, select_one};
use spot_domain::tags::{Tags, inherited};
use spot_domain::{InstanceId, Pool, Reason};

use crate::Context;
use crate::attempts::{Attempts, InPool, closed};
use crate::error::StepError;
use crate::group::{GroupLook, look_for, malformed, unfit_now};
use crate::order::Orders;
use crate::phases::gate::Refusal;
use crate::pricing;
use crate::work::{Current, Next, Work};

/// A step may be repeated for a while: what was asked of the group's hooks and refreshes this long ago is asked again.
const CHECKED_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Launches for the head of the queue.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated, and goes on with the same attempt.
pub async fn run(context: &Context, work: &mut Work) -> Result<Next, StepError> {
    if work.queue.is_empty() {
        return Ok(work.next_target());
    }
    let target = context.target(work).await;
    let candidate = work.queue.remove(0);
    let mut journal = Journal::new(&candidate.instance_id, work.lease.since, work.retirement);
    journal.node.clone_from(&work.node);
    journal.lab.clone_from(&work.lab);
    let entered = context.swaps.enter(&work.lease, &journal).await?;
    let repeated = matches!(entered, Entered::Again(_));
    if let Entered::Again(earlier) = entered {
        journal = earlier;
    }
    let launched = match earlier(&target, repeated, &journal, &candidate).await? {
        Some((newcomer, pool)) => {
            Ok(Launched { newcomer, pool, candidate: candidate.clone(), came_from: None })
        }
        None => match fit(context, work, &target, candidate.clone()).await? {
            Err(refusal) => Err(refusal),
            Ok((now, look)) => {
                journal.retirement = work.retirement;
                launch(context, work, &target, now, look, &candidate.pools, &mut journal).await?
            }
        },
    };
    match launched {
        Ok(Launched { newcomer, pool, candidate, came_from }) => {
            tracing::info!(%newcomer, %pool, replaces = %candidate.instance_id, "launched");
            let deadline = work.wait_at_most(work.settings.health_timeout_seconds);
            let current = Current::new(candidate, journal, newcomer, pool, deadline);
            work.current = Some(Current { came_from, ..current });
            Ok(Next::Proceed)
        }
        // An attempt whose answer was lost may have launched all the same: the rollback looks. It also
        // takes away what was made for the launch.
        Err(refusal) if repeated || work.has_captured() => {
            work.queue.insert(0, candidate);
            Ok(work.undo(refusal.reason, refusal.detail))
        }
        Err(refusal) => {
            context.swaps.close(&work.lease, Release::Keep).await?;
            work.skip(&candidate.instance_id, refusal.reason, refusal.detail);
            Ok(work.next_target())
        }
    }
}

struct Launched {
    newcomer: InstanceId,
    pool: Pool,
    candidate: Candidate,
    /// `None` if an earlier run of the step launched it.
    came_from: Option<Launch>,
}

/// The candidate as it is now, with its group, where it is in one; the inner error is why there is no launch.
async fn fit(
    context: &Context,
    work: &mut Work,
    target: &Target,
    candidate: Candidate,
) -> Result<Result<(Candidate, Option<GroupLook>), Refusal>, StepError> {
    let (mut candidate, look) = match &work.lease.on {
        Leased::Group { .. } => match as_it_is_now(context, work, target, candidate).await? {
            Ok((candidate, look)) => (candidate, Some(look)),
            Err(refusal) => return Ok(Err(refusal)),
        },
        Leased::Instance(_) | Leased::ClusterSlot { .. } => (candidate, None),
    };
    if let Some(refusal) = unterminable(target, &candidate).await? {
        return Ok(Err(refusal));
    }
    if pricing::is_stale(work) {
        match pricing::keep_cheaper(context, target, work, vec![candidate]).await.pop() {
            Some(Ok(cheaper)) => candidate = cheaper,
            Some(Err(left)) => return Ok(Err(Refusal { reason: left.reason, detail: left.detail })),
            None => return Err(StepError::Protocol("no candidate was priced".into())),
        }
    }
    Ok(Ok((candidate, look)))
}

/// Looks at group and candidate afresh: what Discover would refuse now is not launched.
async fn as_it_is_now(
    context: &Context,
    work: &mut Work,
    target: &Target,
    queued: Candidate,
) -> Result<Result<(Candidate, GroupLook), Refusal>, StepError> {
    let Some(group) = context.group(target, work).await? else {
        return Ok(Err(group_changed(work, "the group was deleted".to_owned())));
    };
    if let Some(detail) = changed(target, work, &group).await? {
        return Ok(Err(group_changed(work, detail)));
    }
    let kind = if work.node.is_some() { MemberKind::Node } else { MemberKind::Plain };
    let look = look_for(target, &work.lease.region, group, &queued.instance_id).await?;
    work.spot_max_price = look.spot_max_price();
    let judged = select_one(look.view(), &queued.instance_id, &work.settings, kind);
    match judged.map_err(|bad| malformed(&look.group, &bad))? {
        Err(left) => Ok(Err(Refusal { reason: left.reason, detail: left.detail })),
        // What was cleared and priced stays in its order, as far as the group still allows it.
        Ok(mut now) => {
            let allowed = std::mem::replace(&mut now.pools, queued.pools);
            now.prices = queued.prices;
            now.not_cheaper = queued.not_cheaper;
            if !now.pools.iter().any(|pool| allowed.contains(pool)) {
                let detail = "none of its pools is allowed by the group any more".to_owned();
                return Ok(Err(Refusal { reason: Reason::GroupChanged, detail }));
            }
            now.pools.retain(|pool| allowed.contains(pool));
            Ok(Ok((now, look)))
        }
    }
}

fn group_changed(work: &mut Work, detail: String) -> Refusal {
    work.end(Reason::GroupChanged, detail.clone());
    Refusal { reason: Reason::GroupChanged, detail }
}

/// Says why the group as a whole is not to be swapped any more. WaitForRetirement has asked for refreshes and hooks right
/// before; after a longer time they are asked for again.
async fn changed(target: &Target, work: &mut Work, group: &Group) -> Result<Option<String>, StepError> {
    if let Some(why) = group.unsupported_or_busy() {
        return Ok(Some(why));
    }
    if Timestamp::now().duration_since(work.checked_at) < CHECKED_FOR {
        return Ok(None);
    }
    unfit_now(target, work, group).await
}

/// Why the candidate could never be terminated, or need not be.
async fn unterminable(target: &Target, candidate: &Candidate) -> Result<Option<Refusal>, CallError> {
    match instances::is_termination_protected(&target.ec2, &candidate.instance_id).await {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Refusal {
            reason: Reason::TerminationProtected,
            detail: "DisableApiTermination is on".to_owned(),
        })),
        Err(error) if error.kind == Kind::NotFound => {
            Ok(Some(Refusal { reason: Reason::InstanceGone, detail: error.to_string() }))
        }
        Err(error) => Err(error),
    }
}

/// What an earlier run of this very step launched before its answer was lost.
async fn earlier(
    target: &Target,
    repeated: bool,
    journal: &Journal,
    candidate: &Candidate,
) -> Result<Option<(InstanceId, Pool)>, CallError> {
    if !repeated {
        return Ok(None);
    }
    let found = instances::launched_by(&target.ec2, journal.swap_id.as_str()).await?;
    let alive = found.into_iter().find(Instance::is_alive);
    Ok(alive.and_then(|instance| {
        let pool = candidate.pools.iter().find(|pool| pool.instance_type == instance.instance_type)?;
        Some((instance.id, pool.clone()))
    }))
}

/// Asks the gate once more, then tries the cleared pools in their order. The inner error is why this candidate is
/// skipped.
async fn launch(
    context: &Context,
    work: &Work,
    target: &Target,
    candidate: Candidate,
    look: Option<GroupLook>,
    numbered: &[Pool],
    journal: &mut Journal,
) -> Result<Result<Launched, Refusal>, StepError> {
    let verdicts = match context.gatekeeper.ask(&candidate.pools).await {
        Ok(verdicts) => verdicts,
        Err(why) => return Ok(Err(closed(&why))),
    };
    let tags = newcomers_tags(&candidate, look.as_ref(), journal)?;
    let orders = Orders::new(target, work, &candidate, look, numbered, tags);
    let mut attempts = Attempts::new(context, target, work, journal, orders);
    for (pool, verdict) in candidate.pools.iter().zip(verdicts) {
        match attempts.in_pool(pool, verdict).await? {
            InPool::Launched { newcomer, came_from } => {
                return Ok(Ok(Launched { newcomer, pool: pool.clone(), candidate, came_from }));
            }
            InPool::EndsRun(refusal) => return Ok(Err(refusal)),
            InPool::NextPool => {}
        }
    }
    Ok(Err(attempts.none_launched(&candidate.not_cheaper)))
}

/// Returns the tags of the old instance, but for the one by which its software says that it is ready: the newcomer's must
/// say so by itself.
fn newcomers_tags(
    candidate: &Candidate,
    look: Option<&GroupLook>,
    journal: &Journal,
) -> Result<Tags, StepError> {
    let mut tags = inherited(&candidate.tags, journal.swap_id.as_str());
    if let Some(look) = look {
        let wishes = GroupTags::parse(&look.group.tags).map_err(|bad| malformed(&look.group, &bad))?;
        if let Some(ready) = &wishes.ready_tag {
            tags.remove(ready.key());
        }
    }
    Ok(tags)
}
