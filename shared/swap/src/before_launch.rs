//! The look right before a launch: what Discover would refuse by now is not launched, and a group that is scaling is
//! waited for. Changes nothing.

use jiff::{SignedDuration, Timestamp};
use spot_cloud::swaps::Leased;
use spot_cloud::{CallError, Kind, Target, groups, instances};
use spot_domain::Reason;
use spot_domain::group::Group;
use spot_domain::scaling::{due, scaling};
use spot_domain::selection::{Candidate, MemberKind, select_one};

use crate::Context;
use crate::error::StepError;
use crate::group::{GroupLook, look_for, malformed, unfit_by_now};
use crate::phases::gate::Refusal;
use crate::pricing;
use crate::work::Work;

/// A step may be repeated for a while: what was asked of the group's hooks and refreshes this long ago is asked again.
const CHECKED_FOR: SignedDuration = SignedDuration::from_mins(1);

/// Schedules change seldom: what was asked of them serves the launches of this time.
const SCHEDULE_REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// What the look finds.
#[derive(Debug)]
pub enum Found {
    /// The candidate as it is now, and its group, where it is in one.
    Fit(Box<Candidate>, Option<Box<GroupLook>>),
    /// Its group is scaling, or about to: later.
    Scaling,
    /// It is not to be launched for.
    Refused(Refusal),
}

impl Found {
    fn refused(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Refused(Refusal { reason, detail: detail.into() })
    }
}

/// Looks. A launch that is `repeated` waits for nothing: its first attempt did, and may have been carried out.
///
/// # Errors
/// A call fails.
pub async fn look_before_launch(
    context: &Context,
    work: &mut Work,
    target: &Target,
    queued: Candidate,
    repeated: bool,
) -> Result<Found, StepError> {
    let (mut candidate, look) = match &work.lease.on {
        Leased::Group { .. } => match look_at_group(context, work, target, queued, repeated).await? {
            Found::Fit(candidate, look) => (candidate, look),
            other => return Ok(other),
        },
        Leased::Instance(_) | Leased::ClusterSlot { .. } => (Box::new(queued), None),
    };
    if let Some(refusal) = unterminable(target, &candidate).await? {
        return Ok(Found::Refused(refusal));
    }
    if pricing::is_stale(work) {
        match pricing::keep_cheaper(context, target, work, vec![*candidate]).await.pop() {
            Some(Ok(cheaper)) => candidate = Box::new(cheaper),
            Some(Err(left)) => return Ok(Found::refused(left.reason, left.detail)),
            None => return Err(StepError::Protocol("no candidate was priced".into())),
        }
    }
    Ok(Found::Fit(candidate, look))
}

async fn look_at_group(
    context: &Context,
    work: &mut Work,
    target: &Target,
    queued: Candidate,
    repeated: bool,
) -> Result<Found, StepError> {
    let Some(group) = context.group(target, work).await? else {
        return Ok(group_changed(work, "the group was deleted".to_owned()));
    };
    if let Some(detail) = changed(target, work, &group).await? {
        return Ok(group_changed(work, detail));
    }
    if !repeated && let Some(found) = wait_for_scaling(target, work, &group).await? {
        return Ok(found);
    }
    let kind = if work.node.is_some() { MemberKind::Node } else { MemberKind::Plain };
    let look = look_for(target, &work.lease.region, group, &queued.instance_id).await?;
    work.spot_max_price = look.spot_max_price();
    let judged = select_one(look.view(), &queued.instance_id, &work.settings, kind);
    match judged.map_err(|bad| malformed(&look.group, &bad))? {
        Err(left) => Ok(Found::refused(left.reason, left.detail)),
        // What was cleared and priced stays in its order, as far as the group still allows it.
        Ok(mut now) => {
            let allowed = std::mem::replace(&mut now.pools, queued.pools);
            now.prices = queued.prices;
            now.not_cheaper = queued.not_cheaper;
            if !now.pools.iter().any(|pool| allowed.contains(pool)) {
                let detail = "none of its pools is allowed by the group any more";
                return Ok(Found::refused(Reason::GroupChanged, detail));
            }
            now.pools.retain(|pool| allowed.contains(pool));
            Ok(Found::Fit(Box::new(now), Some(Box::new(look))))
        }
    }
}

fn group_changed(work: &mut Work, detail: String) -> Found {
    work.end(Reason::GroupChanged, detail.clone());
    Found::refused(Reason::GroupChanged, detail)
}

/// Says why the group as a whole is not to be swapped any more. WaitForRetirement has asked for refreshes and hooks right
/// before; after a longer time they are asked for again.
async fn changed(target: &Target, work: &mut Work, group: &Group) -> Result<Option<String>, CallError> {
    if let Some(why) = group.unsupported_or_busy() {
        return Ok(Some(why));
    }
    if Timestamp::now().duration_since(work.checked_at) < CHECKED_FOR {
        return Ok(None);
    }
    unfit_by_now(target, work, group).await
}

/// A swap takes about as long as a newcomer may take to serve: nothing of the group's own is to come in that time. A
/// group that never rests ends the run.
async fn wait_for_scaling(
    target: &Target,
    work: &mut Work,
    group: &Group,
) -> Result<Option<Found>, CallError> {
    let seconds = work.settings.in_service_timeout_seconds;
    let Some((why, expected)) = scaling_or_due(target, work, group, seconds).await? else { return Ok(None) };
    tracing::info!(group = %group.name, "waiting before the launch: {why}");
    let deadline = match work.launch_deadline {
        Some(deadline) => deadline,
        None => work.wait_at_most(seconds.saturating_mul(2)),
    };
    work.launch_deadline = Some(deadline);
    if Timestamp::now() < deadline {
        work.look_at = expected;
        return Ok(Some(Found::Scaling));
    }
    work.end(Reason::GroupScaling, why.clone());
    Ok(Some(Found::refused(Reason::GroupScaling, why)))
}

/// Says why the group is not at rest for these seconds, and when it is worth another look.
async fn scaling_or_due(
    target: &Target,
    work: &mut Work,
    group: &Group,
    seconds: u32,
) -> Result<Option<(String, Option<Timestamp>)>, CallError> {
    if let Some(why) = scaling(group) {
        return Ok(Some((why, None)));
    }
    let now = Timestamp::now();
    let until = now.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX);
    if work.unscheduled_until.is_some_and(|quiet| until < quiet) {
        return Ok(None);
    }
    let horizon = until.saturating_add(SCHEDULE_REMEMBERED_FOR).unwrap_or(Timestamp::MAX);
    let actions = groups::scheduled_actions(&target.autoscaling, &group.name, horizon).await?;
    let next = due(group, &actions, now, horizon);
    if let Some(action) = next.filter(|action| action.at <= until) {
        let why = format!("its scheduled action {} is due at {}", action.name, action.at);
        return Ok(Some((why, Some(action.at))));
    }
    work.unscheduled_until = Some(next.map_or(horizon, |action| action.at));
    Ok(None)
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
