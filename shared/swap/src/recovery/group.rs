//! The recovery of a group's swap.

use spot_cloud::auto_scaling::groups;
use spot_cloud::auto_scaling::groups::Desired;
use spot_cloud::clients::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::load_balancing::target_groups::TargetHealth;
use spot_cloud::load_balancing::{target_groups, targets};
use spot_cloud::tables::swaps::{Leased, OF_A_SWAP, SwapsError};
use spot_domain::GroupArn;
use spot_domain::clock;
use spot_domain::ids::{GroupName, InstanceId};
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::journal::{Journal, SwapKind};
use spot_domain::swap::proof::Evidence;
use spot_domain::swap::recovery::group::{
    Action, Newcomer, Observed, doubt, hangs_on_newcomer, recover, settings_only,
};
use spot_domain::swap::recovery::{Decision, End, Ended};
use spot_domain::tags::{GROUP_NAME_TAG, Tags};

use super::{
    After, Permission, Progress, Recovery, Visit, awaits_others, calls_may_land, drive, is_max_refused,
    is_recent, lost_unseen, not_healthy_in,
};
use crate::group::members;
use crate::last_look::{LastLook, is_lost, last_look_at_described, pool_of};
use crate::newcomer::{SwapInstances, look, unproven};

/// Does all that can be done now for a group's swap.
///
/// # Errors
/// As for [`drive`]; or the swap is one of nodes, which is undone where their cluster is at hand.
pub async fn recover_group(
    gatekeeper: &Gatekeeper,
    visit: Visit<'_>,
    journal: &mut Journal,
) -> Result<Progress, SwapsError> {
    if journal.kind != SwapKind::Group {
        let problem = format!("swap {} is none of an Auto Scaling group alone", journal.swap_id);
        return Err(unproven(visit.lease, &problem));
    }
    drive(GroupRecovery::over(gatekeeper, visit)?, visit, journal).await
}

/// The ways of a group's swap.
#[derive(Debug, Clone)]
pub struct GroupRecovery<'a> {
    gatekeeper: &'a Gatekeeper,
    arn: GroupArn,
    name: GroupName,
}

/// What AWS shows of a group's swap.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The facts of the decision.
    pub facts: Observed,
    /// Both instances.
    pub instances: SwapInstances,
}

impl<'a> GroupRecovery<'a> {
    /// Returns the recovery of the swap under the visit's lease.
    ///
    /// # Errors
    /// The lease is on no group ([`SwapsError::Unproven`]).
    pub fn over(gatekeeper: &'a Gatekeeper, visit: Visit<'_>) -> Result<Self, SwapsError> {
        match &visit.lease.on {
            Leased::Group { arn, name } => Ok(Self { gatekeeper, arn: arn.clone(), name: name.clone() }),
            Leased::Instance(_) | Leased::ClusterSlot { .. } => {
                Err(unproven(visit.lease, "it is no Auto Scaling group, and its swap is a group's"))
            }
        }
    }
}

impl Recovery for GroupRecovery<'_> {
    type Observed = Seen;
    type Action = Action;

    /// A swap needs at most seven.
    const ACTIONS_PER_VISIT: usize = 10;

    async fn observe(&self, visit: Visit<'_>, journal: &Journal) -> Result<Seen, SwapsError> {
        let instances = look(visit.clients, visit.lease, journal).await?;
        Ok(Seen { facts: self.facts(visit, journal, &instances).await?, instances })
    }

    fn note(&self, journal: &mut Journal, seen: &Seen) -> bool {
        journal.note_look(&seen.facts)
    }

    fn decide(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: &Seen,
    ) -> Result<Decision<Action>, SwapsError> {
        let decision = recover(journal, &seen.facts);
        match decision.action().filter(|action| action.needs_proof()) {
            Some(action) if seen.instances.newcomer.instance().is_none() => {
                let why = without_proof(journal, action);
                settings_only(journal, &seen.facts)
                    .map(Decision::Do)
                    .ok_or_else(|| unproven(visit.lease, &why))
            }
            _ => Ok(decision),
        }
    }

    /// Termination can't be undone: the newcomer is looked at once more, if the old instance could still come back.
    async fn permit(
        &mut self,
        visit: Visit<'_>,
        journal: &mut Journal,
        seen: &Seen,
        decision: &Decision<Action>,
    ) -> Result<Permission, SwapsError> {
        let Some(newcomer) = seen.instances.newcomer.instance() else { return Ok(Permission::Granted) };
        if decision.action() != Some(&Action::TerminateOld) || !hangs_on_newcomer(journal, &seen.facts) {
            return Ok(Permission::Granted);
        }
        let Visit { clients, lease, .. } = visit;
        if let Some(old) = &seen.instances.old
            && is_lost(clients, &old.id, old.is_spot).await?
        {
            return Ok(Permission::Granted);
        }
        Ok(match last_look_at_described(self.gatekeeper, clients, newcomer, &lease.region).await? {
            LastLook::Clear => Permission::Granted,
            LastLook::AtRisk(why) => {
                tracing::warn!(old = %journal.old, "it comes back: {why}");
                journal.note_risk(&why);
                Permission::LookAgain
            }
            LastLook::Unknown(why) => Permission::NotYet(why),
        })
    }

    fn foresee(&self, journal: &mut Journal, seen: &Seen, action: &Action) {
        journal.foresee(action, &seen.facts, clock::now());
    }

    async fn perform(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        _: &Seen,
        action: &Action,
    ) -> Result<(), CallError> {
        let (ec2, autoscaling, name) = (&visit.clients.ec2, &visit.clients.autoscaling, &self.name);
        match action {
            Action::DetachNewcomer(id) => groups::detach(autoscaling, name, id).await.map(drop),
            Action::RemoveNewcomer(id) | Action::TerminateExtra(id) => {
                groups::terminate(autoscaling, id, Desired::Decrement).await.map(drop)
            }
            Action::ReplaceNewcomer(id) => groups::terminate(autoscaling, id, Desired::Keep).await.map(drop),
            Action::TerminateNewcomer(id) | Action::TerminateStray(id) => instances::terminate(ec2, id).await,
            Action::ReattachOld => groups::attach(autoscaling, name, &journal.old).await,
            Action::TerminateOld => instances::terminate(ec2, &journal.old).await,
            Action::RaiseMaxSize(to) | Action::RestoreMaxSize(to) => {
                groups::set_max(autoscaling, name, *to).await
            }
            Action::ResumeAzRebalance => groups::resume_az_rebalance(autoscaling, name).await,
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
            journal.acknowledge(&action, before);
            return match action {
                Action::ResumeAzRebalance => After::WriteAndGoOn, // Who suspends it from now on is its owner.
                _ if action.settles_desired() => {
                    After::NextVisit("desired capacity was lowered by one".to_owned())
                }
                _ => After::GoOn,
            };
        };
        if has_changed_nothing(&action, &error) {
            journal.retract(&action, before);
        }
        // Its group, or its owner, was faster than our call: what became of desired, the next look shows. And one that
        // can't come back is asked about again, or let go.
        let is_told = action.settles_desired() && error.is_no_member()
            || is_final(&action, &error)
            || matches!(action, Action::RestoreMaxSize(_)) && is_max_refused(&error);
        if is_told { After::NextVisit(error.to_string()) } else { After::Failed(error) }
    }

    async fn ended(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: Seen,
        end: End,
    ) -> Result<Ended, SwapsError> {
        let Seen { facts, instances } = seen;
        let mut remarks = instances.left_alone;
        let old = &journal.old;
        let is_outside = facts.group.as_ref().is_none_or(|group| group.member(old).is_none());
        if facts.old_alive && is_outside && journal.leaves_old_to_owner() {
            remarks.push(format!(
                "instance {old} was taken out of its group by a call that is not ours: it stays"
            ));
        }
        Ok(Ended {
            end,
            doubt: doubt(journal, &facts),
            newcomer: facts.newcomer.filter(|newcomer| newcomer.alive).map(|newcomer| newcomer.id),
            pool: instances.newcomer.instance().and_then(|instance| pool_of(instance, &visit.lease.region)),
            remarks,
        })
    }
}

impl GroupRecovery<'_> {
    async fn facts(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        instances: &SwapInstances,
    ) -> Result<Observed, CallError> {
        let Visit { clients, settings, .. } = visit;
        let group = groups::describe_same(&clients.autoscaling, &self.arn, &self.name).await?;
        let is_member = |id: &InstanceId| group.as_ref().is_some_and(|g| g.member(id).is_some());
        let old = instances.old.as_ref();
        // Its owner has put it into another group: it is not ours to take back or to terminate.
        let old =
            old.filter(|old| old.state != InstanceState::Dead && !is_in_another_group(&old.tags, &self.name));
        let living = instances.newcomer.instance().filter(|newcomer| newcomer.is_alive());
        let mut draining = Vec::new();
        if let Some(group) = &group {
            for leaver in living.into_iter().chain(old).filter(|leaver| !is_member(&leaver.id)) {
                if is_drained_by_any(clients, &group.target_group_arns, leaver).await? {
                    draining.push(leaver.id.clone());
                }
            }
        }
        let not_serving = match &group {
            Some(group) => {
                let serving = group.members.iter().filter(|member| member.serves()).map(|member| &member.id);
                let asked = came_back_or_later(journal, serving);
                let described = members(clients, group).await?;
                let newcomer = journal.newcomer.as_ref();
                let lost = lost_unseen(clients, group, &described, newcomer).await?.into_keys();
                lost.chain(not_healthy_in(clients, group, asked).await?).collect()
            }
            None => Vec::new(),
        };
        Ok(Observed {
            not_serving,
            group,
            old_alive: old.is_some(),
            old_has_group_tag: instances.old.as_ref().is_some_and(|old| old.has_group_tag(&self.name)),
            newcomer: newcomer(&instances.newcomer, &self.name, journal),
            strays: instances.strays.clone(),
            launch_may_be_invisible: is_recent(journal.launching_since, settings),
            calls_may_land: calls_may_land(journal, settings),
            awaits_others: awaits_others(journal, settings),
            draining,
        })
    }
}

/// Returns those of the serving members whose group does not wait until they are healthy in its target groups: the old
/// instance, if it was taken back, and others that serve since the attach. Those that served before count as the group counts
/// them.
fn came_back_or_later<'a>(
    journal: &Journal,
    serving: impl Iterator<Item = &'a InstanceId>,
) -> Vec<InstanceId> {
    let Some(original) = &journal.original else { return Vec::new() };
    let served_later = |id: &InstanceId| original.served_later(id, journal.newcomer.as_ref());
    let came_back = |id: &InstanceId| journal.turned_back && *id == journal.old;
    serving.filter(|id| came_back(id) || served_later(id)).cloned().collect()
}

/// Says if the failure proves that the action, which the journal has foreseen, has changed nothing. The calls that lower
/// desired are sent once.
fn has_changed_nothing(action: &Action, error: &CallError) -> bool {
    (action.settles_desired() && error.is_refusal()) || is_final(action, error)
}

/// Says if AWS refuses to take the old instance back, as it is and as its group is: its image may be gone, or it is
/// stopped.
fn is_final(action: &Action, error: &CallError) -> bool {
    *action == Action::ReattachOld && error.is_refusal() && error.kind == Kind::Rejected
}

/// EC2 forgets a terminated instance after about an hour, and with it the proof.
fn without_proof(journal: &Journal, action: &Action) -> String {
    let newcomer = journal.newcomer.as_ref().map_or_else(|| "no newcomer".to_owned(), ToString::to_string);
    let ahead = journal.ahead_in_words();
    format!(
        "{action:?} is the next step of swap {}, and EC2 shows no instance that the swap launched ({newcomer}); do it by hand{ahead}; then delete the row's attributes {OF_A_SWAP}",
        journal.swap_id
    )
}

/// Says if a target group drains the instance, one of its group's or one in which others have registered it.
async fn is_drained_by_any(
    clients: &RegionClients,
    own: &[String],
    instance: &Instance,
) -> Result<bool, CallError> {
    let id = &instance.id;
    if target_groups::health(&clients.elbv2, own, id).await? == TargetHealth::Draining {
        return Ok(true);
    }
    let Some(vpc) = instance.belongings.vpc_id.as_deref() else { return Ok(false) };
    Ok(!targets::elsewhere(&clients.elbv2, vpc, id, own).await?.draining.is_empty())
}

fn newcomer(found: &Evidence, group: &GroupName, journal: &Journal) -> Option<Newcomer> {
    let (alive, has_group_tag) = (found.is_alive(), found.has_group_tag(group, journal));
    found.id().map(|id| Newcomer { id: id.clone(), alive, has_group_tag })
}

fn is_in_another_group(tags: &Tags, name: &GroupName) -> bool {
    tags.get(GROUP_NAME_TAG).is_some_and(|group| group != name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;

    #[test]
    fn an_old_instance_that_its_owner_has_put_into_another_group_is_not_ours() {
        let payload = include_str!("../../tests/payloads/3fb1158-group-after-launch.json");
        let lease = serde_json::from_str::<Work>(payload).unwrap().lease;
        let Leased::Group { name, .. } = &lease.on else { panic!("{lease:?}") };
        let tagged = |group: &str| Tags::from([(GROUP_NAME_TAG.to_owned(), group.to_owned())]);
        assert!(is_in_another_group(&tagged("another"), name));
        assert!(!is_in_another_group(&tagged(name.as_str()), name), "a member, or one on its way out");
        assert!(!is_in_another_group(&Tags::default(), name), "one that we have detached");
    }

    #[test]
    fn who_was_not_serving_at_the_attach_is_asked_about_as_those_who_came_later() {
        let payload = include_str!("../../tests/payloads/3fb1158-group-after-attach.json");
        let mut journal = serde_json::from_str::<Work>(payload).unwrap().current.unwrap().journal;
        let (old, newcomer) = (journal.old.clone(), journal.newcomer.clone().unwrap());
        let [served, pending, later]: [InstanceId; 3] =
            ["i-0123456789abcdef1", "i-0123456789abcdef2", "i-0123456789abcdef3"]
                .map(|id| id.parse().unwrap());
        let original = journal.original.as_mut().unwrap();
        original.members = vec![old.clone(), served.clone(), pending.clone()];
        original.not_serving = vec![pending.clone()];
        let all = [&old, &newcomer, &served, &pending, &later];
        assert_eq!(came_back_or_later(&journal, all.into_iter()), [pending.clone(), later.clone()]);
        journal.turned_back = true;
        assert_eq!(came_back_or_later(&journal, all.into_iter()), [old, pending, later]);
    }

    fn refused(code: &str, kind: Kind) -> CallError {
        CallError { kind, code: code.into(), ..CallError::malformed("autoscaling:DetachInstances", "") }
    }

    #[test]
    fn reader_2_whatever_aws_has_refused_to_lower_is_still_to_be_lowered() {
        let id: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let detach = Action::DetachNewcomer(id.clone());
        let (throttled, denied) = (refused("Throttling", Kind::Retry), refused("AccessDenied", Kind::Denied));
        assert!(has_changed_nothing(&detach, &throttled) && has_changed_nothing(&detach, &denied));
        assert!(!has_changed_nothing(&detach, &refused("NoAnswer", Kind::Retry)));
        assert!(!has_changed_nothing(&detach, &refused("InternalFailure", Kind::Retry)));
        assert!(!has_changed_nothing(&Action::TerminateNewcomer(id), &denied), "nothing was foreseen of it");
    }

    #[test]
    fn reader_3_an_attach_is_refused_for_good_only_by_what_it_asks_for() {
        let of = |code, kind| is_final(&Action::ReattachOld, &refused(code, kind));
        assert!(of("ValidationError", Kind::Rejected));
        assert!(!of("Throttling", Kind::Retry) && !of("AccessDenied", Kind::Denied));
        assert!(!of("NoAnswer", Kind::Rejected), "it may have come back");
    }
}
