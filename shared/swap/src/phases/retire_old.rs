//! RetireOld: N+1 → N. Checks the group again; if the group has changed, the swap goes back. Without a terminating
//! lifecycle hook, the old instance is detached alive. With one, the group terminates the old instance, so that
//! the owner's hook runs.
//!
//! Records, before the call: that the old instance may be leaving. From then on the swap goes forward, unless the
//! newcomer fails before the old instance is terminated.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use spot_cloud::auto_scaling::groups::{self, Desired};
use spot_cloud::ec2::instances;
use spot_cloud::load_balancing::others;
use spot_cloud::tables::swaps::{Claim, Entered};
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::clock;
use spot_domain::swap::group::{Group, Instance, InstanceState, MemberState};
use spot_domain::swap::journal::{Original, Retirement, Stage};
use spot_domain::swap::recovery::group::why_not_retired;
use spot_domain::swap::selection::{Change, MemberKind, changed_before_retirement, no_longer_wanted};
use spot_domain::words::Cause;
use spot_domain::{InstanceId, Reason};

use crate::Context;
use crate::error::StepError;
use crate::group::{are_known_by_address, changed_by_now};
use crate::phases::wait_for_health::{taken_back, undo_if_at_risk, why_it_died};
use crate::recovery::{calls_may_land, ill_latecomers, landed_by, members_if_enough_last};
use crate::work::{Current, Next, Work};

/// The age up to which the check of the members and of the owner's wishes is used. A step that follows at once is in time, a
/// repeated one asks again.
const ASKED_FOR: SignedDuration = SignedDuration::from_secs(10);
/// The tries of a termination for which there is time. Each comes once the one before can't land any more, and a pause later.
const TRIES: u32 = 3;

/// Detaches the old instance, or lets its group terminate it. Waits while the termination of an earlier try may still
/// land.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
    original: &Original,
) -> Result<Next, StepError> {
    if current.journal.stage == Stage::Retiring
        && let Some(next) = wait_for_earlier_try(context, work, current).await?
    {
        return Ok(next);
    }
    let clients = context.clients(work).await?;
    // Termination in the group can't be undone; a detached instance is checked once more before it is terminated.
    if current.journal.retirement == Retirement::TerminateInGroup
        && let Some(undo) = undo_if_at_risk(context, &clients, work, current).await?
    {
        return Ok(undo);
    }
    let group = match look_at_group(&clients, work, original, current).await? {
        Ok(group) => group,
        Err(undo) => return Ok(undo),
    };
    let old = &current.candidate.instance_id;
    let change = changed_before_retirement(&group, old, &current.newcomer, original, &work.settings);
    if let Some(change) = change {
        return Ok(work.undo_for(change));
    }
    match foresee(context, work, current, group.max).await? {
        Some(which) => leave(context, &clients, work, current, (which, original)).await,
        None => Ok(Next::Wait),
    }
}

/// Returns the group as it is now. If the last look is no longer fresh, it is repeated: the drain of a node runs between the
/// last phase and this one, for hours perhaps. A member that came meanwhile counts as healthy once the target groups say so. The
/// inner error is the next state if something stands against the retirement.
///
/// # Errors
/// A call fails.
pub async fn look_at_group(
    clients: &RegionClients,
    work: &mut Work,
    original: &Original,
    current: &mut Current,
) -> Result<Result<Group, Next>, StepError> {
    let is_fresh = |at: Timestamp| clock::now().duration_since(at) < ASKED_FOR;
    let asks_again = !current.owner_asked_at.is_some_and(is_fresh);
    // The search takes a while. The group decides on the retirement, and is described after it.
    let mut by_address = BTreeMap::new();
    if asks_again && work.kind.node().is_none() {
        let old = std::slice::from_ref(&current.candidate.instance_id);
        let described = instances::describe(&clients.ec2, old).await?;
        by_address = others::by_address(&clients.elbv2, described.values()).await?;
    }
    let (arn, name) = work.group()?;
    let Some(mut group) = groups::describe_same(&clients.autoscaling, arn, name).await? else {
        return Ok(Err(work.undo_for(Change::deleted())));
    };
    let ill = ill_latecomers(clients, &group, original, &current.newcomer).await?;
    group.members.iter_mut().filter(|member| ill.contains(&member.id)).for_each(|ill| ill.healthy = false);
    if asks_again {
        let mut described = match members_if_enough_last(clients, &group, original, current).await? {
            Ok(described) => described,
            Err(change) => return Ok(Err(work.undo_for(change))),
        };
        are_known_by_address(&mut described, by_address);
        let answer = ask_owner(clients, work, (&group, original), &described, current).await?;
        if answer != Next::Proceed {
            return Ok(Err(answer));
        }
    }
    Ok(Ok(group))
}

/// The place of this try among those of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// No call was made yet, or AWS has refused the one that was.
    First,
    /// An earlier try may have called.
    Again,
}

/// An earlier visit has found that the termination was asked for, without an answer. Waits until it can't land any more;
/// returns `None` once it is time to look again. Auto Scaling may count a member that is Terminating already out of desired a
/// second time (kubernetes/autoscaler#5411).
async fn wait_for_earlier_try(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
) -> Result<Option<Next>, StepError> {
    if context.swaps.claim(&work.lease, &mut current.journal).await? == Claim::Finished {
        return Ok(Some(Next::Proceed));
    }
    if calls_may_land(&current.journal, &work.settings) {
        work.look_at = landed_by(&current.journal, &work.settings);
        return Ok(Some(Next::Wait));
    }
    if clock::now() < current.deadline {
        return Ok(None);
    }
    let old = &current.candidate.instance_id;
    let detail = format!(
        "Auto Scaling has not confirmed the termination of instance {old} in the time of {TRIES} tries"
    );
    Ok(Some(work.undo(Reason::StepFailed, detail)))
}

/// Writes ahead that the old instance may be leaving. Returns `None` if an earlier try of this step may have asked for its
/// termination: that is waited for. A member can be detached once only.
async fn foresee(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
    max: u32,
) -> Result<Option<Try>, StepError> {
    if current.journal.stage != Stage::Retiring {
        current.journal.foresee_retirement(max, clock::now());
        match context.swaps.enter_retiring(&work.lease, &mut current.journal).await? {
            Entered::Again(earlier) => current.journal = earlier,
            Entered::First => return Ok(Some(Try::First)),
        }
        if !current.journal.retire_refused {
            return Ok(wait_for_landing(work, current));
        }
    }
    let which = if current.journal.retire_refused { Try::First } else { Try::Again };
    current.journal.foresee_retirement(max, clock::now());
    context.swaps.revise(&work.lease, &mut current.journal).await?;
    Ok(Some(which))
}

/// Sets the times for a try that follows one without an answer. Returns `None` if it has to wait.
fn wait_for_landing(work: &mut Work, current: &mut Current) -> Option<Try> {
    let may_count_twice = current.journal.retirement == Retirement::TerminateInGroup;
    let each = work.settings.launch_visible_after_seconds.saturating_add(work.settings.poll_seconds);
    current.deadline = work.wait_at_most(each.saturating_mul(TRIES));
    work.look_at = landed_by(&current.journal, &work.settings).filter(|_| may_count_twice);
    (!may_count_twice).then_some(Try::Again)
}

/// Takes the old instance out of its group.
async fn leave(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    current: &mut Current,
    (which, original): (Try, &Original),
) -> Result<Next, StepError> {
    // If the call fails, the payload of before is kept, and with it the deadline of the tries.
    current.deadline = work.wait_at_most(work.retire_seconds());
    let old = &current.candidate.instance_id;
    let retired = match current.journal.retirement {
        Retirement::Detach => groups::detach(&clients.autoscaling, work.group()?.1, old).await,
        Retirement::TerminateInGroup => {
            groups::terminate(&clients.autoscaling, old, Desired::Decrement).await
        }
    };
    match retired {
        Ok(desired) => {
            let remark = desired.and_then(|desired| desired.remark(old, original.desired));
            work.remark(old, remark.into_iter().collect());
            // A proof for the recovery. The payload carries the note; the row gets it with its next write.
            current.journal.retired = true;
            if let Err(error) = give_max_back(context, clients, work, current, original).await {
                tracing::warn!("the next phase gives MaxSize back: {error}");
            }
            Ok(Next::Proceed)
        }
        Err(error) => {
            // A first call that is refused proves that no call of ours took the old instance out. A repetition, a rollback or the
            // reconciler could not know any more.
            let is_proof = which == Try::First && error.is_refusal();
            if is_proof {
                current.journal.retire_refused = true;
                context.swaps.revise(&work.lease, &mut current.journal).await?;
            }
            if error.kind != Kind::Rejected {
                return Err(error.into());
            }
            refused(context, clients, work, (current, original), error, is_proof).await
        }
    }
}

/// Checks all that may have changed since the swap began, beside the group's own description. These are the old
/// instance's tags, belongings and protection, the On-Demand floor, refreshes and hooks, and the newcomer itself.
/// `described` are the group's members as EC2 describes them now, with the target groups that have them by their address.
///
/// # Errors
/// A call fails.
pub async fn ask_owner(
    clients: &RegionClients,
    work: &mut Work,
    (group, original): (&Group, &Original),
    described: &BTreeMap<InstanceId, Instance>,
    current: &mut Current,
) -> Result<Next, StepError> {
    let old = current.candidate.instance_id.clone();
    // The group may not have noticed yet that the newcomer is dying.
    if !described.get(&current.newcomer).is_some_and(|i| i.state == InstanceState::Running) {
        let why = format!("newcomer {} no longer runs", current.newcomer);
        return Ok(work.undo(why_it_died(current), why));
    }

    let kind = if work.kind.node().is_some() { MemberKind::Node } else { MemberKind::Plain };
    let change = no_longer_wanted(group, described, &current.candidate, original, &work.settings, kind);
    if let Some(change) = change {
        return Ok(work.undo_for(change));
    }
    let protection = if instances::is_termination_protected(&clients.ec2, &old).await? {
        Some("DisableApiTermination")
    } else {
        instances::is_stop_protected(&clients.ec2, &old).await?.then_some("DisableApiStop")
    };
    if let Some(protection) = protection {
        return Ok(
            work.undo(Reason::TerminationProtected, format!("{protection} is on by now on instance {old}"))
        );
    }
    if let Some(change) = changed_by_now(clients, work, group, current.journal.retirement).await? {
        return Ok(work.undo_for(change));
    }
    if let Some(why) = taken_back(clients, current).await? {
        return Ok(work.undo(Reason::NewcomerAtRisk, why));
    }
    current.owner_asked_at = Some(clock::now());
    Ok(Next::Proceed)
}

/// Restores the owner's MaxSize as soon as the desired capacity is the owner's: another launch must not fill the
/// place that we made. If the group does not show the capacity yet, the next phase looks again.
async fn give_max_back(
    context: &Context,
    clients: &RegionClients,
    work: &Work,
    current: &Current,
    original: &Original,
) -> Result<(), StepError> {
    let Some(raised) = current.journal.max_raised_to else { return Ok(()) };
    let Some(group) = context.group(clients, work).await? else { return Ok(()) };
    if group.max == raised && group.desired <= original.max {
        groups::set_max(&clients.autoscaling, &group.name, original.max).await?;
    }
    Ok(())
}

/// Handles a refused call. The group took the old instance out, or an earlier run of this step did: then that call is the
/// reason why this one is refused.
async fn refused(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
    (current, original): (&Current, &Original),
    error: CallError,
    is_proof: bool,
) -> Result<Next, StepError> {
    let group = context.group(clients, work).await?;
    let old = &current.candidate.instance_id;
    let has_left = |group: &Group| group.member(old).is_none_or(|m| m.state == MemberState::Leaving);
    // The group's description lags behind the refusal.
    if error.is_no_member() && !is_proof && group.as_ref().is_some_and(|group| !has_left(group)) {
        return Err(StepError::Transient(Cause::of(error)));
    }
    let is_his = is_proof && current.journal.retirement == Retirement::Detach;
    let is_leaving = group.as_ref().is_some_and(|group| has_left(group) && group.desired == original.desired);
    if is_leaving && !is_his {
        return Ok(Next::Proceed);
    }
    // An answer that can't be read proves nothing.
    let reason = why_not_retired(is_proof, group.as_ref().is_some_and(has_left));
    Ok(work.undo(reason, error.to_string()))
}
