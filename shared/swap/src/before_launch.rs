//! The checks right before a launch. The launch waits while its group is scaling, and does not happen if Discover
//! would refuse the group, or the stand-alone instance, by now. Changes nothing.

use jiff::{SignedDuration, Timestamp};
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::swaps::Leased;
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::clock;
use spot_domain::swap::group::{Group, MOST_MEMBERS_IN_A_RUN};
use spot_domain::swap::group_tags::Readiness;
use spot_domain::swap::scaling::{ScheduledAction, due, scaling};
use spot_domain::swap::selection::{Candidate, MemberKind, select_one};
use spot_domain::{InstanceId, Reason};

use crate::Context;
use crate::error::StepError;
use crate::group::{look_for, malformed, unfit_by_now};
use crate::order::LaunchFrom;
use crate::owner;
use crate::phases::gate::Refusal;
use crate::phases::wait_for_in_service::AFTER_WARM_UP_SECONDS;
use crate::pricing;
use crate::work::Work;

/// The age of a check of the group's hooks and refreshes after which a repeated step checks again.
const CHECKED_FOR: SignedDuration = SignedDuration::from_mins(1);

/// The age of an answer about scheduled actions up to which launches use it: schedules change seldom.
const SCHEDULE_REMEMBERED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// The time beyond a swap for which scheduled actions are asked for: only the group, which is described after them, says how
/// long its newcomers warm up.
const LONGEST_WARM_UP: SignedDuration = SignedDuration::from_hours(24);

/// The activity of a group before a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// The group does not scale by itself in the time that a swap takes.
    AtRest,
    /// The group is scaling, or is about to: check again later.
    Later,
    /// The group did not come to rest in its time. Carries the reason in words.
    Never(String),
}

/// Checks that the group stays at rest for as long as a swap may take. Writes nothing, so that the launch of a
/// repeated step may check again.
///
/// # Errors
/// A call fails.
pub async fn group_at_rest(
    context: &Context,
    clients: &RegionClients,
    work: &mut Work,
) -> Result<(Option<Group>, Rest), StepError> {
    // Schedule first: an action that starts between the two calls shows in the group.
    let schedule = if work.launch_may_wait { scheduled_actions(clients, work).await? } else { None };
    let Some(group) = context.group(clients, work).await? else {
        return Ok((None, Rest::AtRest));
    };
    let restless = if work.launch_may_wait { restless(work, &group, schedule) } else { None };
    if let Some(restless) = restless {
        let patience = patience_seconds(work, warm_up_seconds(&group));
        return Ok((Some(group), wait_or_give_up(work, restless, patience)));
    }
    work.launch_deadline = None;
    Ok((Some(group), Rest::AtRest))
}

fn wait_or_give_up(work: &mut Work, restless: Restless, patience_seconds: u32) -> Rest {
    tracing::info!("waiting before the launch: {}", restless.why);
    let deadline = match work.launch_deadline {
        Some(deadline) => deadline,
        None => work.wait_at_most(patience_seconds),
    };
    if clock::now() >= deadline {
        work.launch_deadline = None;
        return Rest::Never(restless.why);
    }
    work.launch_deadline = Some(deadline);
    work.look_at = restless.expected;
    Rest::Later
}

/// Returns the most seconds between the launch and the retirement: boot, attach, warm-up and drain. Before its cordon, a node
/// may wait one drain timeout for pods that end by themselves. The drain may then take as long again.
fn horizon_seconds(work: &Work, warm_up_seconds: u32) -> u32 {
    let drains = drain_seconds(work).saturating_mul(2);
    until_it_serves(work, warm_up_seconds).saturating_add(drains)
}

/// Returns the seconds that a group gets to come to rest. They are no fewer than the horizon, so that an action
/// due within the horizon passes.
fn patience_seconds(work: &Work, warm_up_seconds: u32) -> u32 {
    until_it_serves(work, warm_up_seconds).saturating_add(drain_seconds(work)).saturating_mul(2)
}

/// Returns the most seconds between a launch and the time at which the newcomer serves.
fn until_it_serves(work: &Work, warm_up_seconds: u32) -> u32 {
    let settings = &work.settings;
    let joins = work.kind.node().map_or(0, |_| settings.node_ready_timeout_seconds);
    let boots = settings.health_timeout_seconds.max(joins);
    boots.saturating_add(settings.in_service_timeout_seconds).saturating_add(warm_up_seconds)
}

/// Returns the seconds by which the warm-up of the group extends the wait for a newcomer that is InService.
fn warm_up_seconds(group: &Group) -> u32 {
    match Readiness::asked_by(group) {
        Readiness::WarmUp(seconds) if seconds > 0 => seconds.saturating_add(AFTER_WARM_UP_SECONDS),
        Readiness::WarmUp(_) | Readiness::Tag(_) => 0,
    }
}

fn drain_seconds(work: &Work) -> u32 {
    work.kind.node().map_or(0, |_| work.drain_seconds())
}

struct Restless {
    why: String,
    /// The time of the next check.
    expected: Option<Timestamp>,
}

/// A group's schedule, as the last call showed it.
struct Schedule {
    actions: Vec<ScheduledAction>,
    /// The last time for which the actions are known.
    horizon: Timestamp,
}

/// Returns the group's schedule; `None` if the last call is recent.
async fn scheduled_actions(clients: &RegionClients, work: &Work) -> Result<Option<Schedule>, StepError> {
    let seconds = i64::from(horizon_seconds(work, 0));
    if work.unscheduled_until.is_some_and(|quiet| from_now(seconds) < quiet) {
        return Ok(None);
    }
    let horizon = from_now(seconds + LONGEST_WARM_UP.as_secs() + SCHEDULE_REMEMBERED_FOR.as_secs());
    let (_, name) = work.group()?;
    let actions = groups::scheduled_actions(&clients.autoscaling, name, horizon).await?;
    Ok(Some(Schedule { actions, horizon }))
}

fn from_now(seconds: i64) -> Timestamp {
    clock::now().saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn restless(work: &mut Work, group: &Group, schedule: Option<Schedule>) -> Option<Restless> {
    let now = clock::now();
    if let Some(why) = scaling(group, &mut work.short_since, now) {
        return Some(Restless { why, expected: None });
    }
    let Schedule { actions, horizon } = schedule?;
    let warm_up = warm_up_seconds(group);
    let seconds = i64::from(horizon_seconds(work, warm_up));
    let (until, known_until) = (from_now(seconds), from_now(seconds + SCHEDULE_REMEMBERED_FOR.as_secs()));
    let next = due(group, &actions, now, horizon);
    if let Some(action) = next.filter(|action| action.at <= until) {
        let why = format!("its scheduled action {} is due at {}", action.name, action.at);
        return Some(Restless { why, expected: Some(action.at) });
    }
    let quiet_until = next.map_or(known_until, |action| action.at.min(known_until));
    let warm_up = SignedDuration::from_secs(-i64::from(warm_up));
    work.unscheduled_until = Some(quiet_until.saturating_add(warm_up).unwrap_or(Timestamp::MIN));
    None
}

/// The result of the checks before a launch.
#[derive(Debug)]
pub enum LaunchLook {
    /// The candidate as it is now, with the source of its launch.
    Fit(Box<Candidate>, LaunchFrom),
    /// The candidate gets no launch.
    Refused(Refusal),
}

impl LaunchLook {
    fn refused(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(reason, detail))
    }
}

/// Checks the candidate, and its group as it was just described.
///
/// # Errors
/// A call fails.
pub async fn look_before_launch(
    context: &Context,
    work: &mut Work,
    clients: &RegionClients,
    group: Option<Group>,
    queued: Candidate,
) -> Result<LaunchLook, StepError> {
    let look = match &work.lease.on {
        Leased::Group { .. } => look_at_group(work, clients, group, queued).await?,
        Leased::Instance(of) => look_at_instance(work, clients, of, queued).await?,
        Leased::ClusterSlot { .. } => {
            return Err(StepError::Protocol("work.lease.on: a slot has nothing to launch from".into()));
        }
    };
    let (mut candidate, from) = match look {
        LaunchLook::Fit(candidate, from) => (candidate, from),
        refused @ LaunchLook::Refused(_) => return Ok(refused),
    };
    if pricing::is_stale(work) {
        match pricing::keep_cheaper(context, clients, work, vec![*candidate]).await.pop() {
            Some(Ok(cheaper)) => candidate = Box::new(cheaper),
            Some(Err(left)) => return Ok(LaunchLook::refused(left.reason, left.detail)),
            None => return Err(StepError::Protocol("work.queue: no candidate was priced".into())),
        }
    }
    Ok(LaunchLook::Fit(candidate, from))
}

async fn look_at_group(
    work: &mut Work,
    clients: &RegionClients,
    group: Option<Group>,
    queued: Candidate,
) -> Result<LaunchLook, StepError> {
    let Some(group) = group else {
        return Ok(group_changed(work, "the group was deleted".to_owned()));
    };
    if let Some(detail) = changed(clients, work, &group).await? {
        return Ok(group_changed(work, detail));
    }
    let kind = if work.kind.node().is_some() { MemberKind::Node } else { MemberKind::Plain };
    let look = look_for(clients, &work.lease.region, group, &[&queued.instance_id], &queued.asked()).await?;
    work.spot_max_price = look.spot_max_price();
    let judged = select_one(look.view(), &queued.instance_id, &work.settings, kind);
    match judged.map_err(|bad| malformed(&look.group, &bad))? {
        Err(left) => Ok(LaunchLook::refused(left.reason, left.detail)),
        // The pools that were cleared and priced keep their order, as far as the group still allows them.
        Ok(mut now) => {
            let allowed = std::mem::replace(&mut now.pools, queued.pools);
            now.prices = queued.prices;
            now.not_cheaper = queued.not_cheaper;
            if !now.pools.iter().any(|pool| allowed.contains(pool)) {
                let detail = "none of its pools is allowed by the group any more";
                return Ok(LaunchLook::refused(Reason::GroupChanged, detail));
            }
            now.pools.retain(|pool| allowed.contains(pool));
            if let Some(refusal) = unterminable(clients, &now).await? {
                return Ok(LaunchLook::Refused(refusal));
            }
            Ok(LaunchLook::Fit(Box::new(now), LaunchFrom::Group(Box::new(look))))
        }
    }
}

fn group_changed(work: &mut Work, detail: String) -> LaunchLook {
    work.end(Reason::GroupChanged, detail.clone());
    LaunchLook::refused(Reason::GroupChanged, detail)
}

/// Says why the group as a whole may not be swapped any more. WaitForRetirement checks refreshes and hooks right
/// before; this check repeats after a longer time only.
async fn changed(
    clients: &RegionClients,
    work: &mut Work,
    group: &Group,
) -> Result<Option<String>, CallError> {
    if let Some(why) = group.unsupported_or_busy().or_else(|| group.too_large(MOST_MEMBERS_IN_A_RUN)) {
        return Ok(Some(why));
    }
    if clock::now().duration_since(work.checked_at) < CHECKED_FOR {
        return Ok(None);
    }
    unfit_by_now(clients, work, group).await
}

/// Looks at a stand-alone instance as the later phases do: an image takes minutes to hours. The twin inherits what its owner
/// has tagged meanwhile.
async fn look_at_instance(
    work: &Work,
    clients: &RegionClients,
    of: &InstanceId,
    queued: Candidate,
) -> Result<LaunchLook, StepError> {
    let Some(lab) = work.kind.lab() else {
        return Err(StepError::Protocol(
            "work.lab: the run does not name what the newcomer takes over".into(),
        ));
    };
    Ok(match owner::before_launch(clients, &work.settings, of, lab).await? {
        Ok((tags, source)) => {
            let candidate = Candidate { tags, ..queued };
            LaunchLook::Fit(Box::new(candidate), LaunchFrom::Instance(Box::new(source)))
        }
        Err((reason, why)) => LaunchLook::refused(reason, why),
    })
}

/// Says why the candidate could never be terminated, or need not be.
async fn unterminable(clients: &RegionClients, candidate: &Candidate) -> Result<Option<Refusal>, CallError> {
    match instances::is_termination_protected(&clients.ec2, &candidate.instance_id).await {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Refusal::new(Reason::TerminationProtected, "DisableApiTermination is on"))),
        Err(error) if error.kind == Kind::NotFound => {
            Ok(Some(Refusal::new(Reason::InstanceGone, error.to_string())))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use spot_scripted::{Endpoint, ScriptedAnswer};

    use super::*;

    const GROUP: &str = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
         <AutoScalingGroupName>web</AutoScalingGroupName><AutoScalingGroupARN>\
         arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:u:autoScalingGroupName/web\
         </AutoScalingGroupARN><MinSize>0</MinSize><MaxSize>9</MaxSize><DesiredCapacity>1</DesiredCapacity>\
         <LaunchConfigurationName>web</LaunchConfigurationName><Instances><member>\
         <InstanceId>i-3ca6abe5166a142f9</InstanceId><LifecycleState>InService</LifecycleState>\
         <HealthStatus>Healthy</HealthStatus><ProtectedFromScaleIn>false</ProtectedFromScaleIn></member></Instances>\
         </member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";

    #[tokio::test]
    async fn a_group_that_outgrows_the_journal_gets_no_further_launch() {
        let aws = Endpoint::start(vec![ScriptedAnswer::ok(GROUP)]).await;
        let clients = RegionClients::new(&aws.config().await);
        let name = "web".parse().unwrap();
        let mut group = groups::describe(&clients.autoscaling, &name).await.unwrap().unwrap();
        let payload = include_str!("../tests/payloads/3fb1158-group-after-launch.json");
        let mut work: Work = serde_json::from_str(payload).unwrap();
        work.checked_at = clock::now();
        group.members.resize(MOST_MEMBERS_IN_A_RUN, group.members[0].clone());
        assert_eq!(changed(&clients, &mut work, &group).await.unwrap(), None);
        group.members.push(group.members[0].clone());
        let why = changed(&clients, &mut work, &group).await.unwrap().unwrap();
        assert!(why.contains("4501 members"), "{why}");
    }

    #[test]
    fn a_schedule_counts_from_the_boot_to_the_drain_after_the_wait_at_the_cordon() {
        let parsed = |payload: &str| serde_json::from_str::<Work>(payload).unwrap();
        let mut node = parsed(include_str!("../tests/payloads/3fb1158-node-after-launch.json"));
        node.settings.in_service_timeout_seconds = 900;
        node.settings.drain_timeout_seconds = 1800;
        (node.settings.health_timeout_seconds, node.settings.node_ready_timeout_seconds) = (600, 300);
        assert_eq!(horizon_seconds(&node, 0), 600 + 900 + 2 * 1800);
        node.drain_timeout_seconds = Some(7200);
        assert_eq!(horizon_seconds(&node, 0), 600 + 900 + 2 * 7200, "the request's own");
        node.settings.node_ready_timeout_seconds = 1200;
        assert_eq!(
            horizon_seconds(&node, 0),
            1200 + 900 + 2 * 7200,
            "it joins its cluster before the attach"
        );
        assert!(patience_seconds(&node, 3600) >= horizon_seconds(&node, 3600));
        let mut group = parsed(include_str!("../tests/payloads/3fb1158-group-after-launch.json"));
        (group.settings.health_timeout_seconds, group.settings.in_service_timeout_seconds) = (600, 900);
        assert_eq!(horizon_seconds(&group, 0), 600 + 900, "nothing is drained");
        assert_eq!(horizon_seconds(&group, 1800), 600 + 900 + 1800);
        assert!(patience_seconds(&group, 1800) >= horizon_seconds(&group, 1800));
    }
}
