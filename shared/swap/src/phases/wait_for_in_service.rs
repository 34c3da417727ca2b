//! WaitForInService: the newcomer must serve. It must be InService, and healthy in every target group of the group.
//! The same holds for the target groups that others have registered the newcomer or the old instance in. The
//! newcomer must also be past the group's warm-up, or carry the tag by which its owner's software says that it is
//! ready. Then the phase checks once more if the owner still allows the retirement. Changes nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::load_balancing::others::{self, Filled};
use spot_cloud::load_balancing::target_groups::{self, TargetHealth};
use spot_domain::Reason;
use spot_domain::clock;
use spot_domain::ids::InstanceId;
use spot_domain::swap::group::{Group, Instance, MemberState};
use spot_domain::swap::group_tags::GroupTags;
use spot_domain::swap::journal::Original;
use spot_domain::swap::selection::Change;
use spot_domain::tags::MANAGED_BY;

use crate::Context;
use crate::error::StepError;
use crate::group::note_addresses;
use crate::phases::retire_old::ask_owner;
use crate::phases::wait_for_health::{at_risk, why_it_died};
use crate::recovery::{ill_latecomers, members_if_enough_last};
use crate::work::{Current, Next, Work};

/// The seconds that target groups may take after the warm-up.
pub(crate) const AFTER_WARM_UP_SECONDS: u32 = 120;

/// Checks once.
///
/// # Errors
/// A call fails.
pub async fn run(
    context: &Context,
    work: &mut Work,
    current: &mut Current,
    original: &Original,
) -> Result<Next, StepError> {
    let clients = context.clients(work).await?;
    let newcomer = current.newcomer.clone();
    let Some(group) = context.group(&clients, work).await? else {
        return Ok(work.undo_for(Change::deleted()));
    };
    let lack = match group.member(&newcomer) {
        Some(m) if m.state == MemberState::Leaving => {
            return Ok(
                work.undo(Reason::NewcomerNotServing, format!("the group is dismissing newcomer {newcomer}"))
            );
        }
        Some(m) if m.serves() => match serving(&clients, work, (&group, original), current).await? {
            Ok(next) => return Ok(next),
            Err(lack) => lack,
        },
        Some(m) => Lack::OfNewcomer(format!("it is {:?}, healthy: {}", m.state, m.healthy)),
        // The newcomer may never be InService: EC2 reclaims it, and its group was faster.
        None => match at_risk(context, &clients, current).await? {
            Some(why) => return Ok(work.undo(Reason::NewcomerAtRisk, why)),
            None => Lack::OfNewcomer("it is not in the group".to_owned()),
        },
    };
    if let Some(undo) = undo_if_dying(&clients, work, current).await? {
        return Ok(undo);
    }
    if clock::now() < current.deadline {
        return Ok(Next::Wait);
    }
    let seconds = work.settings.in_service_timeout_seconds;
    Ok(match lack {
        Lack::OfNewcomer(why) => {
            let detail = format!("newcomer {newcomer}, {seconds} s after attach: {why}");
            work.undo(Reason::NewcomerNotServing, detail)
        }
        // The newcomer serves: the reason is its group's.
        Lack::OfOthers(change) => work.undo_for(change),
    })
}

/// What is still to come before the old instance may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The newcomer does not serve everywhere yet.
    OfNewcomer(String),
    /// Too few of the others serve or last, and their group launches what it loses.
    OfOthers(Change),
}

/// Looks at a newcomer that is InService, then at the others, and then around. The inner error says what is still to come.
async fn serving(
    clients: &RegionClients,
    work: &mut Work,
    (group, original): (&Group, &Original),
    current: &mut Current,
) -> Result<Result<Next, Lack>, StepError> {
    if let Some(why) = not_serving(clients, work, group, current).await? {
        return Ok(Err(Lack::OfNewcomer(why)));
    }
    if let Some(change) = not_enough_others(clients, group, original, current).await? {
        return Ok(Err(Lack::OfOthers(change)));
    }
    look_around(clients, work, (group, original), current).await
}

/// Checks if the others last, then the target groups that others fill, and then, once, all that stands against the retirement.
/// The inner error says what is still to come.
///
/// # Errors
/// A call fails.
pub async fn look_around(
    clients: &RegionClients,
    work: &mut Work,
    (group, original): (&Group, &Original),
    current: &mut Current,
) -> Result<Result<Next, Lack>, StepError> {
    let seen = clock::now();
    let mut described = match members_if_enough_last(clients, group, original, current).await? {
        Ok(described) => described,
        Err(change) => return Ok(Err(Lack::OfOthers(change))),
    };
    // A cluster's load balancers have every node registered, and find a node healthy once it has the pods.
    if work.kind.node().is_none() {
        if let Some(why) = health_by_others(clients, group, &described, current).await? {
            return Ok(Err(Lack::OfNewcomer(why)));
        }
        let old = std::slice::from_ref(&current.candidate.instance_id);
        note_addresses(clients, &mut described, old).await?;
    }
    let answer = ask_owner(clients, work, (group, original), &described, current).await?;
    if answer == Next::Proceed {
        // The searches take a while. What they took longer than is looked at again.
        current.owner_asked_at = Some(seen);
    }
    Ok(Ok(answer))
}

/// Starts the undo if the newcomer is dying: its group may notice late.
async fn undo_if_dying(
    clients: &RegionClients,
    work: &mut Work,
    current: &Current,
) -> Result<Option<Next>, StepError> {
    let newcomer = &current.newcomer;
    let described = instances::describe(&clients.ec2, std::slice::from_ref(newcomer)).await?;
    let Some(dead) = described.get(newcomer).filter(|instance| !instance.is_alive()) else { return Ok(None) };
    let why = format!("newcomer {newcomer} no longer runs: {}", dead.why_it_stopped());
    Ok(Some(work.undo(why_it_died(current), why)))
}

/// Says what the newcomer still lacks in the eyes of its group; `None` if it serves.
async fn not_serving(
    clients: &RegionClients,
    work: &mut Work,
    group: &Group,
    current: &mut Current,
) -> Result<Option<String>, StepError> {
    if current.serving_since.is_none() {
        put_mark_back(clients, group, current).await?;
    }
    let since = *current.serving_since.get_or_insert_with(clock::now);
    if let Some(why) = target_health(clients, group, current).await? {
        return Ok(Some(why));
    }
    warming_up_or_unready(clients, work, group, current, since).await
}

/// Restores our tag on the newcomer if the group has a tag with the same key.
///
/// The attach has put the group's tags on the newcomer:
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html>
async fn put_mark_back(clients: &RegionClients, group: &Group, current: &Current) -> Result<(), StepError> {
    let is_overwritten = group.propagated_tags.get(MANAGED_BY.0).is_some_and(|value| value != MANAGED_BY.1);
    if is_overwritten {
        instances::mark_as_ours(&clients.ec2, &current.newcomer).await?;
    }
    Ok(())
}

/// Says that the newcomer lacks the owner's ready tag, or, if the owner has chosen none, that it is warming up.
async fn warming_up_or_unready(
    clients: &RegionClients,
    work: &mut Work,
    group: &Group,
    current: &mut Current,
    since: Timestamp,
) -> Result<Option<String>, StepError> {
    let tags = match GroupTags::parse(&group.tags) {
        Ok(tags) => tags,
        // A bad tag ends nothing yet: the last check asks about it, and until then the owner may correct it.
        Err(bad) => return Ok(Some(bad.to_string())),
    };
    if let Some(ready) = &tags.ready_tag {
        let described = instances::describe(&clients.ec2, std::slice::from_ref(&current.newcomer)).await?;
        let is_ready = described.get(&current.newcomer).is_some_and(|instance| ready.is_on(&instance.tags));
        return Ok(
            (!is_ready).then(|| format!("it does not carry the tag {ready}, which its group waits for"))
        );
    }
    let warm_up = tags.warm_up_seconds.unwrap_or(group.warm_up_seconds);
    Ok(warming_up(work, current, since, warm_up))
}

/// Says that the newcomer is warming up. The warm-up counts from InService and is not the newcomer's fault: the
/// deadline is extended by it.
fn warming_up(work: &mut Work, current: &mut Current, since: Timestamp, seconds: u32) -> Option<String> {
    let until = since.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX);
    let now = clock::now();
    if now >= until {
        return None;
    }
    work.look_at = Some(until);
    let slack = SignedDuration::from_secs(i64::from(work.settings.poll_seconds.max(AFTER_WARM_UP_SECONDS)));
    current.deadline = current.deadline.max(until.saturating_add(slack).unwrap_or(Timestamp::MAX));
    Some(format!("it warms up for {seconds} s"))
}

/// Says what the group's target groups still lack; `None` if nothing.
async fn target_health(
    clients: &RegionClients,
    group: &Group,
    current: &Current,
) -> Result<Option<String>, StepError> {
    let newcomer = &current.newcomer;
    if !group.target_group_arns.is_empty() {
        let health = target_groups::health(&clients.elbv2, &group.target_group_arns, newcomer).await?;
        if health != TargetHealth::Healthy {
            return Ok(Some(format!("its target groups say {health:?}")));
        }
    }
    Ok(None)
}

/// Says that too few members serve beside the newcomer; `None` if enough do, or if desired has changed: then the swap is
/// undone in any case.
///
/// All that desired asks for must serve while another member is starting, or one that came after the attach is not healthy in
/// the target groups yet. After the deadline, as many as at the attach and the newcomer are enough: a member that falls ill
/// again and again is not the swap's.
async fn not_enough_others(
    clients: &RegionClients,
    group: &Group,
    original: &Original,
    current: &Current,
) -> Result<Option<Change>, StepError> {
    if group.desired != original.desired.saturating_add(1) {
        return Ok(None);
    }
    let ill = ill_latecomers(clients, group, original, &current.newcomer).await?;
    let least = group.desired.min(original.serving.saturating_add(1));
    let may_serve = group.others_may_serve(Some(&current.newcomer), &ill);
    let waits = may_serve && clock::now() < current.deadline;
    let wanted = if waits { group.desired } else { least };
    let serve = group.in_service().saturating_sub(u32::try_from(ill.len()).unwrap_or(u32::MAX));
    let why =
        ill.first().map(|id| format!(": its target groups do not find {id} healthy")).unwrap_or_default();
    Ok((serve < wanted).then(|| {
        Change::of_swap(Reason::GroupChanged, format!("only {serve} of {wanted} instances serve{why}"))
    }))
}

/// Says what is missing in the target groups that others have registered the newcomer or the old instance in. They
/// may register at any moment: the check searches all target groups of the VPC.
async fn health_by_others(
    clients: &RegionClients,
    group: &Group,
    described: &BTreeMap<InstanceId, Instance>,
    current: &mut Current,
) -> Result<Option<String>, StepError> {
    let (newcomer, old) = (&current.newcomer, &current.candidate.instance_id);
    let both = [newcomer, old].into_iter().filter_map(|id| described.get(id));
    let filled = others::filled(&clients.elbv2, both, &group.target_group_arns).await?;
    let missing = filled.iter().find_map(|filled| missing_in(filled, newcomer, old));
    current.also_in = filled.into_iter().map(|filled| filled.arn).collect();
    Ok(missing)
}

/// Says what the newcomer lacks in a target group that others fill; `None` if nothing.
///
/// The newcomer must be healthy at each of its ports, and at as many as the old instance. If the old instance is registered
/// at any port and not being drained, the newcomer must be registered, too.
fn missing_in(filled: &Filled, newcomer: &InstanceId, old: &InstanceId) -> Option<String> {
    let lack = match filled.health(newcomer) {
        TargetHealth::Healthy => {
            let (serves, old_serves) = (filled.healthy_ports(newcomer), filled.healthy_ports(old));
            if serves >= old_serves {
                return None;
            }
            format!("sends requests to {serves} ports of the newcomer and {old_serves} of the old instance")
        }
        TargetHealth::Absent if !filled.has_live(old) => return None,
        TargetHealth::Absent => "has the old instance and not the newcomer".to_owned(),
        health @ (TargetHealth::Draining | TargetHealth::NotHealthy) => format!("says {health:?}"),
    };
    Some(format!("target group {}, where others register members, {lack}", filled.arn))
}

#[cfg(test)]
mod tests {
    use spot_domain::swap::recovery::lab::TargetState::{
        self, Absent, Checking, Draining, Healthy, Unhealthy,
    };

    use super::*;

    /// Returns what is missing where the newcomer and the old instance have these registrations.
    fn missing(newcomer: &[TargetState], old: &[TargetState]) -> Option<String> {
        let (new_id, old_id): (InstanceId, InstanceId) =
            ("i-0123456789abcdef1".parse().unwrap(), "i-0123456789abcdef0".parse().unwrap());
        let states = [(new_id.clone(), newcomer.to_vec()), (old_id.clone(), old.to_vec())];
        let states = states.into_iter().filter(|(_, states)| !states.is_empty()).collect();
        missing_in(&Filled { arn: "tasks".into(), states }, &new_id, &old_id)
    }

    #[test]
    fn where_the_old_instance_is_registered_at_any_port_the_newcomer_must_be_too() {
        for old in [Healthy, Checking, Unhealthy] {
            assert!(missing(&[], &[Draining, old]).unwrap().contains("target group tasks"), "{old:?}");
            assert!(missing(&[Absent], &[old]).is_some(), "{old:?}");
            assert_eq!(missing(&[Healthy], &[old]), None, "{old:?}");
        }
    }

    #[test]
    fn where_the_old_instance_leaves_or_was_never_registered_nobody_is_missed() {
        assert_eq!(missing(&[], &[Draining, Draining]), None);
        assert_eq!(missing(&[], &[Absent]), None);
        assert_eq!(missing(&[Absent], &[Draining]), None);
    }

    #[test]
    fn the_newcomer_must_be_healthy_at_each_of_its_ports_wherever_the_old_instance_is() {
        let olds: [&[TargetState]; 3] = [&[], &[Healthy], &[Draining]];
        for bad in [Checking, Unhealthy, Draining, Absent] {
            for old in olds {
                assert!(missing(&[Healthy, bad], old).is_some(), "{bad:?} beside {old:?}");
            }
        }
        assert_eq!(missing(&[Healthy, Healthy], &[Healthy]), None);
        assert_eq!(missing(&[Healthy], &[Healthy, Unhealthy]), None);
        assert!(missing(&[Healthy], &[Healthy, Healthy]).unwrap().contains("1 ports of the newcomer and 2"));
        assert_eq!(missing(&[Healthy], &[]), None);
    }
}
