//! Attach: N → N+1. Describes the group afresh, with its hooks and refreshes. Suspends AZRebalance, raises MaxSize by one
//! if the group is full, and attaches the newcomer.
//!
//! Records, before the first call: the newcomer, the group as its owner has it, and the MaxSize that we set.
//! Undone by: detaching the newcomer with decrement, and restoring AZRebalance and MaxSize as recorded.

use spot_cloud::auto_scaling::groups;
use spot_cloud::tables::swaps::Entered;
use spot_cloud::{Kind, RegionClients};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::swap::group::{AZ_REBALANCE, Group};
use spot_domain::swap::journal::{Original, Stage};
use spot_domain::swap::selection::{Change, changed_before_attach};

use crate::Context;
use crate::error::StepError;
use crate::group::changed_by_now;
use crate::work::{Current, Next, Work};

/// Attaches the newcomer.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let name = work.group()?.1.clone();
    let Some(group) = context.group(&clients, work).await? else {
        return Ok(work.undo_for(Change::deleted()));
    };
    if group.member(&current.newcomer).is_none()
        && let Some(change) = changed(&clients, work, current, &group).await?
    {
        return Ok(work.undo_for(change));
    }
    let original = record(context, work, current, &group).await?;
    current.deadline = work.wait_at_most(work.settings.in_service_timeout_seconds);
    if group.member(&current.newcomer).is_some() {
        return Ok(Next::Proceed); // an earlier run of this step got through
    }
    if let Some(raised) = current.journal.max_raised_to.filter(|raised| *raised > group.max) {
        groups::set_max(&clients.autoscaling, &name, raised).await?;
    }
    if !original.az_rebalance_suspended {
        groups::suspend_az_rebalance(&clients.autoscaling, &name).await?;
    }
    match groups::attach(&clients.autoscaling, &name, &current.newcomer).await {
        Ok(()) => Ok(Next::Proceed),
        Err(error) if error.kind == Kind::Rejected => {
            // The SDK repeats a call whose answer was lost; the group refuses the second call because of the
            // first.
            let attached = is_member(context, &clients, work, current).await?;
            Ok(if attached { Next::Proceed } else { work.undo(Reason::AttachRejected, error.to_string()) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the change since the launch that stands against the attach. A launching hook would not run for the newcomer.
async fn changed(
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
    group: &Group,
) -> Result<Option<Change>, StepError> {
    match changed_before_attach(group, &current.candidate.instance_id, &work.settings) {
        Some(change) => Ok(Some(change)),
        None => Ok(changed_by_now(clients, work, group, current.journal.retirement).await?),
    }
}

/// Writes the journal. If an earlier run of this step wrote the journal, that run saw the owner's settings; the
/// group may show ours by now.
async fn record(
    context: &Context,
    work: &Work,
    current: &mut Current,
    group: &Group,
) -> Result<Original, StepError> {
    let idle = group.members.iter().filter(|member| !member.serves());
    let original = Original {
        desired: group.desired,
        max: group.max,
        az_rebalance_suspended: group.suspended.contains(AZ_REBALANCE),
        serving: group.in_service(),
        members: group.members.iter().map(|member| member.id.clone()).collect(),
        not_serving: idle.map(|member| member.id.clone()).collect(),
    };
    let journal = &mut current.journal;
    journal.stage = Stage::Attaching;
    journal.changed_at = Some(clock::now());
    journal.newcomer = Some(current.newcomer.clone());
    journal.max_raised_to = (group.desired >= group.max).then(|| group.desired + 1);
    journal.original = Some(original.clone());
    if let Entered::Again(earlier) = context.swaps.enter(&work.lease, journal).await? {
        *journal = earlier;
    }
    Ok(journal.original.clone().unwrap_or(original))
}

async fn is_member(
    context: &Context,
    clients: &RegionClients,
    work: &Work,
    current: &Current,
) -> Result<bool, StepError> {
    let group = context.group(clients, work).await?;
    Ok(group.is_some_and(|group| group.member(&current.newcomer).is_some()))
}
