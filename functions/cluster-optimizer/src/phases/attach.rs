//! Attach: N → N+1. Looks at the group afresh, suspends AZRebalance, raises MaxSize by one where
//! the group is full, and attaches the newcomer.
//!
//! Records, before the first call: the group as its owner has it, and the MaxSize that we set.
//! Undone by: detaching the newcomer with decrement, MaxSize and AZRebalance as recorded.

use spot_cloud::{Kind, groups};
use spot_domain::Reason;
use spot_domain::group::Group;
use spot_domain::journal::Stage;
use spot_domain::selection::{Change, changed_before_attach};

use crate::Optimizer;
use crate::error::StepError;
use crate::phases::discover::original;
use crate::work::{Current, Next, Work, deadline};

/// Attaches the newcomer.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(optimizer: &Optimizer, work: &mut Work, current: &mut Current) -> Result<Next, StepError> {
    let target = optimizer.target(work).await;
    let name = &work.lease.asg_name.clone();
    let group = groups::describe(&target.autoscaling, name).await?.filter(|g| g.arn == work.lease.target);
    let Some(group) = group else {
        return Ok(work.undo_for(Change::deleted()));
    };
    current.deadline = deadline(work.settings.in_service_timeout_seconds);
    record(optimizer, work, current, &group).await?;
    if group.member(&current.newcomer).is_some() {
        return Ok(Next::Proceed); // an earlier run of this step got through
    }
    if let Some(change) = changed_before_attach(&group, &current.candidate.instance_id) {
        return Ok(work.undo_for(change));
    }
    if let Some(raised) = current.journal.max_raised_to.filter(|raised| *raised > group.max) {
        groups::set_max(&target.autoscaling, name, raised).await?;
    }
    if !current.journal.original.az_rebalance_suspended {
        groups::suspend_az_rebalance(&target.autoscaling, name).await?;
    }
    match groups::attach(&target.autoscaling, name, &current.newcomer).await {
        Ok(()) => Ok(Next::Proceed),
        Err(error) if error.kind == Kind::Rejected => {
            Ok(work.undo(Reason::AttachRejected, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the journal. If an earlier run of this step wrote it, that one saw the owner's settings;
/// the group may show ours by now.
async fn record(
    optimizer: &Optimizer,
    work: &Work,
    current: &mut Current,
    group: &Group,
) -> Result<(), StepError> {
    let journal = &mut current.journal;
    journal.stage = Stage::Attaching;
    journal.original = original(group);
    journal.max_raised_to = (group.desired >= group.max).then(|| group.desired + 1);
    let before = optimizer.swaps.write(&work.lease, journal).await?;
    let repeated = before.filter(|b| b.swap_id == journal.swap_id && b.stage == Stage::Attaching);
    if let Some(before) = repeated {
        *journal = before;
        optimizer.swaps.write(&work.lease, journal).await?;
    }
    Ok(())
}
