//! The recovery of an answer to a two-minute notice. The answer itself ends by it, too.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use spot_cloud::auto_scaling::groups::{self, Desired};
use spot_cloud::ec2::instances;
use spot_cloud::error::CallError;
use spot_cloud::tables::swaps::{Leased, SwapsError};
use spot_domain::GroupArn;
use spot_domain::clock;
use spot_domain::ids::{GroupName, InstanceId};
use spot_domain::swap::decrement::Decremented;
use spot_domain::swap::group::{Group, Member, MemberState};
use spot_domain::swap::group_tags::Readiness;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::answer::{Action, Observed, doubt, next};
use spot_domain::swap::recovery::{Decision, End, Ended};
use tokio::time::timeout;

use super::{
    After, Progress, Recovery, Visit, calls_may_land, died_unseen, drive, is_max_refused, not_healthy_in,
};
use crate::newcomer::unproven;

/// The time that an answer has for EC2's word on its group's members.
const SOON: Duration = Duration::from_secs(5);

/// Does all that can be done now for an answer.
///
/// # Errors
/// As for [`drive`]; or the lease is on no group.
pub async fn recover_answer(visit: Visit<'_>, journal: &mut Journal) -> Result<Progress, SwapsError> {
    let is_answer = journal.kind.answer().is_some();
    match &visit.lease.on {
        Leased::Group { arn, name } if is_answer => {
            let recovery = AnswerRecovery { arn: arn.clone(), name: name.clone(), lowered: Cell::new(None) };
            drive(recovery, visit, journal).await
        }
        _ => Err(unproven(visit.lease, &format!("{} is no answer for a member of a group", journal.swap_id))),
    }
}

/// Looks at the group of an answer.
///
/// # Errors
/// A call fails.
pub async fn look(
    visit: Visit<'_>,
    journal: &Journal,
    (arn, name): (&GroupArn, &GroupName),
) -> Result<Observed, CallError> {
    let group = groups::describe_same(&visit.clients.autoscaling, arn, name).await?;
    let not_serving = match &group {
        Some(group) => not_serving_yet(visit, journal, group).await?,
        None => Vec::new(),
    };
    let calls_may_land = calls_may_land(journal, visit.settings);
    Ok(Observed { group, not_serving, calls_may_land, now: clock::now() })
}

/// Returns the members that have died unseen, and those that came after the notice and do not serve yet: they are not
/// ready as their owner asks, or a target group of theirs does not find them healthy.
async fn not_serving_yet(
    visit: Visit<'_>,
    journal: &Journal,
    group: &Group,
) -> Result<Vec<InstanceId>, CallError> {
    let known: BTreeSet<_> = journal.original.iter().flat_map(|original| &original.members).collect();
    let came_later = |member: &&Member| member.serves() && !known.contains(&member.id);
    let later: Vec<InstanceId> = group.members.iter().filter(came_later).map(|m| m.id.clone()).collect();
    let (mut found, ready) = not_yet_ready(visit, journal, group, later).await?;
    found.extend(not_healthy_in(visit.clients, group, ready).await?);
    let is_pressing = group.member(&journal.old).is_some_and(|doomed| doomed.state != MemberState::Leaving);
    let dead = if is_pressing {
        dead_if_told_soon(visit, group).await
    } else {
        died_unseen(visit.clients, group).await?
    };
    found.extend(dead);
    Ok(found)
}

/// Returns the members that have died unseen, before the doomed instance leaves. It must leave in time: if EC2 does not
/// answer soon, what the group says counts.
async fn dead_if_told_soon(visit: Visit<'_>, group: &Group) -> Vec<InstanceId> {
    let why = match timeout(SOON, died_unseen(visit.clients, group)).await {
        Ok(Ok(dead)) => return dead,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "EC2 gives no answer".to_owned(),
    };
    tracing::warn!("members that have just died count as the group says: {why}");
    Vec::new()
}

/// Splits the members that came later: those that are not ready as the owner asks come first.
async fn not_yet_ready(
    visit: Visit<'_>,
    journal: &Journal,
    group: &Group,
    later: Vec<InstanceId>,
) -> Result<(Vec<InstanceId>, Vec<InstanceId>), CallError> {
    match Readiness::asked_by(group) {
        Readiness::WarmUp(seconds) => {
            // No one that came later can have served for longer than this.
            let since_the_raise = clock::now().duration_since(journal.launching_since);
            let is_warm = since_the_raise >= SignedDuration::from_secs(i64::from(seconds));
            Ok(if is_warm { (Vec::new(), later) } else { (later, Vec::new()) })
        }
        Readiness::Tag(_) if later.is_empty() => Ok((later, Vec::new())),
        Readiness::Tag(ready) => {
            let described = instances::describe(&visit.clients.ec2, &later).await?;
            let is_unready =
                |id: &InstanceId| !described.get(id).is_some_and(|instance| ready.is_on(&instance.tags));
            Ok(later.into_iter().partition(is_unready))
        }
    }
}

struct AnswerRecovery {
    arn: GroupArn,
    name: GroupName,
    /// What the answer to the last call names of desired.
    lowered: Cell<Option<Decremented>>,
}

impl Recovery for AnswerRecovery {
    type Observed = Observed;
    type Action = Action;

    /// A member leaves, MaxSize goes back.
    const ACTIONS_PER_VISIT: usize = 5;

    async fn observe(&self, visit: Visit<'_>, journal: &Journal) -> Result<Observed, SwapsError> {
        Ok(look(visit, journal, (&self.arn, &self.name)).await?)
    }

    fn decide(
        &self,
        _: Visit<'_>,
        journal: &Journal,
        observed: &Observed,
    ) -> Result<Decision<Action>, SwapsError> {
        Ok(next(journal, observed))
    }

    fn foresee(&self, journal: &mut Journal, observed: &Observed, action: &Action) {
        journal.foresee_answer(action, observed.now);
    }

    async fn perform(
        &self,
        visit: Visit<'_>,
        _: &Journal,
        _: &Observed,
        action: &Action,
    ) -> Result<(), CallError> {
        let autoscaling = &visit.clients.autoscaling;
        match action {
            Action::Release(id) | Action::TerminateExtra(id) => {
                groups::terminate(autoscaling, id, Desired::Decrement)
                    .await
                    .map(|lowered| self.lowered.set(lowered))
            }
            Action::RestoreMaxSize(to) => groups::set_max(autoscaling, &self.name, *to).await,
        }
    }

    fn settle(
        &mut self,
        journal: &mut Journal,
        before: &Journal,
        action: Action,
        answer: Result<(), CallError>,
    ) -> After {
        let Err(error) = answer else {
            journal.acknowledge_answer(&action, before, self.lowered.take());
            return if action.removes().is_some() {
                After::NextVisit("desired capacity was lowered by one".to_owned())
            } else {
                After::GoOn
            };
        };
        if error.is_refusal() {
            journal.retract_answer(&action, before);
        }
        // EC2 was faster than our call: what became of desired, the next look shows.
        if action.removes().is_some() && error.is_no_member() {
            return After::NextVisit(error.to_string());
        }
        if matches!(action, Action::RestoreMaxSize(_)) && is_max_refused(&error) {
            return After::NextVisit(error.to_string());
        }
        After::Failed(error)
    }

    async fn ended(
        &self,
        _: Visit<'_>,
        journal: &Journal,
        observed: Observed,
        end: End,
    ) -> Result<Ended, SwapsError> {
        let doubt = doubt(journal, &observed);
        Ok(Ended { end, newcomer: None, pool: None, remarks: Vec::new(), doubt })
    }
}
