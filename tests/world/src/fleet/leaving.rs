//! Members that leave: detached, terminated in their group, dead, or chosen by a scale-in.
//!
//! Refusals and states are those of `endpoint/autoscaling.py` and `endpoint/lifecycle.py` of local AWS.

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::groups::{AutoScalingGroup, LifecycleHook, LifecycleState};
use crate::fleet::instances::{EndOfInstance, GROUP_TAG};
use crate::fleet::parameters::{is_true, plays_only, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// The part of a scaling activity that an answer names.
struct ScalingActivity {
    group: String,
    instance_id: String,
    /// `Detaching` or `Terminating`
    verb: &'static str,
    cause: String,
}

const DECREMENT: &str = "ShouldDecrementDesiredCapacity";

impl Fleet {
    pub(super) fn detach(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["AutoScalingGroupName", "InstanceIds", DECREMENT])?;
        let name = required(call, "AutoScalingGroupName")?;
        required(call, DECREMENT)?;
        let ids = call.list("InstanceIds");
        let before = self.detach_members(name, &ids, is_true(call, DECREMENT), now)?;
        let mut xml = Xml::default();
        xml.list("Activities", "member", ids.iter().zip(before), |xml, (id, before)| {
            let cause = cause(id, "was detached", before, now);
            let (group, instance_id) = (name.to_owned(), (*id).to_owned());
            ScalingActivity { group, instance_id, verb: "Detaching", cause }.write(xml, now);
        });
        Ok(xml)
    }

    /// Detaches members. Returns desired before each of the decrements, `None` without.
    pub(super) fn detach_members(
        &mut self,
        name: &str,
        ids: &[&str],
        decrement: bool,
        now: Timestamp,
    ) -> Result<Vec<Option<u32>>, ApiError> {
        let group = self.groups.get(name).ok_or_else(|| super::auto_scaling::no_group(name))?;
        for id in ids {
            refuse_to_detach(group, id)?;
        }
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if decrement && group.desired < group.min.saturating_add(count) {
            return Err(ApiError::validation(format!(
                "AutoScalingGroup {name} has {}. To detach {count} more instances, please update the AutoScalingGroup \
                 sizes appropriately.",
                group.sizes()
            )));
        }
        Ok(ids.iter().map(|id| self.begin_detach(name, id, decrement, now)).collect())
    }

    fn begin_detach(&mut self, name: &str, id: &str, decrement: bool, now: Timestamp) -> Option<u32> {
        let group = self.groups.get_mut(name)?;
        let before = decrement.then_some(group.desired);
        group.desired -= u32::from(decrement);
        group.member_mut(id)?.state = LifecycleState::Detaching;
        self.leaves_unseen(id, now);
        let left_at = self.drain(name, id, now).max(now + self.habits.detach_lag);
        self.plan_member(name, id, left_at);
        before
    }

    pub(super) fn terminate_in_group(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["InstanceId", DECREMENT])?;
        let id = required(call, "InstanceId")?;
        required(call, DECREMENT)?;
        let unmanaged = || {
            let text = format!("Instance Id not found - No managed instance found for instance ID: {id}");
            ApiError::validation(text)
        };
        let group = self.groups.values().find(|group| group.member(id).is_some()).ok_or_else(unmanaged)?;
        if self.habits.refuses_to_terminate_interrupted && self.is_taken_back(id) {
            // The words are ours: docs/to-try-on-aws.md asks if there is such a refusal.
            return Err(ApiError::validation(format!("Instance {id} is being interrupted.")));
        }
        let is_leaving = group.member(id).is_some_and(|member| member.state.is_terminating());
        if is_leaving && !self.habits.second_terminate_counts_again {
            return Err(ApiError::validation(format!("Instance {id} is already being terminated.")));
        }
        let decrement = is_true(call, DECREMENT);
        if decrement && group.desired <= group.min {
            return Err(ApiError::validation(format!(
                "Currently, desiredSize equals minSize ({}). Terminating instance without replacement will violate group's \
                 min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
                group.min
            )));
        }
        let (name, before) = (group.name.clone(), decrement.then_some(group.desired));
        if let Some(group) = self.groups.get_mut(&name) {
            group.desired -= u32::from(decrement);
        }
        if !is_leaving {
            self.leaves_unseen(id, now);
            self.begin_termination(&name, id, now);
        }
        let cause = cause(id, "was taken out of service", before, now);
        let activity =
            ScalingActivity { group: name, instance_id: id.to_owned(), verb: "Terminating", cause };
        let mut xml = Xml::default();
        xml.within("Activity", |xml| activity.write(xml, now));
        Ok(xml)
    }

    /// Descriptions show the member as it was, for as long as AWS is late.
    fn leaves_unseen(&mut self, id: &str, now: Timestamp) {
        let lag = self.habits.leaving_shows_after;
        if !lag.is_zero() {
            self.leaving_unseen.insert(id.to_owned());
            self.at(now + lag, DueChange::LeavingShows(id.to_owned()));
        }
    }

    pub(super) fn leaving_shows(&mut self, id: &str) {
        self.leaving_unseen.remove(id);
    }

    /// Sends a member through its terminating hooks. Its targets drain meanwhile.
    pub(super) fn begin_termination(&mut self, name: &str, id: &str, now: Timestamp) {
        self.drain(name, id, now);
        let is_completed = self.habits.hooks_of_dead_are_completed || self.is_alive(id);
        let Some(group) = self.groups.get_mut(name) else { return };
        let waits =
            |hook: &LifecycleHook| if is_completed { hook.waits_seconds() } else { hook.heartbeat_seconds };
        let Some(wait) = group.hooks_at(false).map(waits).max() else {
            return self.terminate_member(name, id, now);
        };
        if let Some(member) = group.member_mut(id) {
            member.state = LifecycleState::TerminatingWait;
        }
        self.plan_member(name, id, now + SignedDuration::from_secs(wait.into()));
    }

    /// Terminates a member whose hooks are over, once it has drained.
    pub(super) fn terminate_member(&mut self, name: &str, id: &str, now: Timestamp) {
        if let Some(member) = self.groups.get_mut(name).and_then(|group| group.member_mut(id)) {
            member.state = LifecycleState::Terminating;
        }
        let left_at = self.drain(name, id, now).max(now + self.habits.detach_lag);
        self.plan_member(name, id, left_at);
    }

    /// Deregisters a member everywhere, if it is not yet. Returns the time at which it has drained.
    fn drain(&mut self, name: &str, id: &str, now: Timestamp) -> Timestamp {
        let Some(group) = self.groups.get(name) else { return now };
        let arns = group.target_group_arns.clone();
        let mut drained = now;
        for arn in &arns {
            self.deregister(arn, id, now);
            let target = self.target_groups.get(arn).and_then(|group| group.targets.get(id));
            drained = drained.max(target.and_then(|target| target.proceeds_at).unwrap_or(now));
        }
        drained
    }

    /// Takes a member out of its group. Auto Scaling terminates it unless it was detached: no protection of the instance
    /// stands against that.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html>
    pub(super) fn member_leaves(&mut self, name: &str, id: &str, now: Timestamp) {
        let is_detached =
            self.remove_member(name, id).is_some_and(|state| state == LifecycleState::Detaching);
        if !is_detached {
            self.end_instance(id, EndOfInstance::ByUser, now);
            return;
        }
        let keeps_tag = if self.is_alive(id) {
            self.habits.detached_keeps_group_tag
        } else {
            self.habits.dead_detaching_keeps_group_tag
        };
        if let Some(instance) = self.instances.get_mut(id).filter(|_| !keeps_tag) {
            instance.tags.remove(GROUP_TAG);
        }
    }

    /// Takes a member that has died out of its group, through its terminating hooks. Desired stays, so that the group launches
    /// another. While HealthCheck is suspended, nobody looks. While ReplaceUnhealthy or Terminate is, one in service is marked
    /// `Unhealthy`, and stays.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html>
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-how-suspending-processes-affects-other-processes.html>
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/suspend-resume-considerations.html>
    pub(super) fn death_noticed(&mut self, id: &str, now: Timestamp) {
        let Some(group) = self.groups.values_mut().find(|group| group.member(id).is_some()) else { return };
        let is_looked_at = !group.is_suspended("HealthCheck");
        let is_kept = ["ReplaceUnhealthy", "Terminate"].iter().any(|process| group.is_suspended(process));
        let Some(member) = group.member_mut(id) else { return };
        member.is_unhealthy |= is_looked_at;
        let (is_unhealthy, state) = (member.is_unhealthy, member.state);
        let name = group.name.clone();
        match state {
            _ if !is_unhealthy => {}
            LifecycleState::InService if is_kept => {}
            LifecycleState::InService => self.begin_termination(&name, id, now),
            LifecycleState::TerminatingWait | LifecycleState::Terminating => {} // It leaves when its hooks are over.
            _ => {
                self.drain(&name, id, now);
                self.member_leaves(&name, id, now);
            }
        }
    }

    /// Plans a health check, since no earlier one could take out the members that died while a process was suspended.
    pub(super) fn look_for_deaths(&mut self, name: &str, now: Timestamp) {
        let Some(group) = self.groups.get(name) else { return };
        let dead = group.members.iter().map(|member| member.instance_id.clone());
        let dead: Vec<_> = dead.filter(|id| !self.is_alive(id)).collect();
        for id in dead {
            self.at(now + self.habits.notices_death_after, DueChange::DeathNoticed(id));
        }
    }

    /// Removes a member. A group that is being deleted goes with its last one.
    fn remove_member(&mut self, name: &str, id: &str) -> Option<LifecycleState> {
        let group = self.groups.get_mut(name)?;
        let state = group.member(id).map(|member| member.state);
        group.members.retain(|member| member.instance_id != id);
        if group.is_being_deleted && group.members.is_empty() {
            self.groups.remove(name);
        }
        state
    }
}

impl ScalingActivity {
    fn write(&self, xml: &mut Xml, now: Timestamp) {
        let (verb, id) = (self.verb, &self.instance_id);
        xml.text("ActivityId", format!("{verb}-{id}"));
        xml.text("AutoScalingGroupName", &self.group);
        xml.text("Description", format!("{verb} EC2 instance: {id}"));
        xml.text("Cause", &self.cause);
        xml.time("StartTime", now);
        xml.text("StatusCode", "InProgress");
        xml.text("Progress", 50);
    }
}

fn refuse_to_detach(group: &AutoScalingGroup, id: &str) -> Result<(), ApiError> {
    match group.member(id).map(|member| member.state) {
        None | Some(LifecycleState::Detaching | LifecycleState::TerminatingWait) => {
            let text = format!("The instance {id} is not part of Auto Scaling group {}.", group.name);
            Err(ApiError::validation(text))
        }
        Some(LifecycleState::InService) => Ok(()),
        Some(_) => Err(ApiError::validation(format!("The instance {id} is not in InService or Standby."))),
    }
}

/// Words the cause as AWS does; only a call that decrements names the capacity.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html>
fn cause(id: &str, by: &str, before: Option<u32>, now: Timestamp) -> String {
    let shrinking = before.map_or(String::new(), |before| {
        format!(", shrinking the capacity from {before} to {}", before.saturating_sub(1))
    });
    format!("At {now:.0} instance {id} {by} in response to a user request{shrinking}.")
}
