//! Members that join: attached instances and the group's own launches, up to their service.
//!
//! The refusals are those of `endpoint/autoscaling.py` of local AWS, which names the sources of their texts.

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::ec2::refuse_too_many;
use crate::fleet::groups::{AutoScalingGroup, GroupMember, LifecycleState};
use crate::fleet::instances::GROUP_TAG;
use crate::fleet::parameters::{plays_only, required};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachInstances.html>
const MOST_IDS: usize = 20;

impl Fleet {
    pub(super) fn attach(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["AutoScalingGroupName", "InstanceIds"])?;
        let ids = call.list("InstanceIds");
        let group = self.modifiable(required(call, "AutoScalingGroupName")?)?;
        if ids.is_empty() || ids.len() > MOST_IDS {
            return Err(ApiError::validation(format!("InstanceIds must have 1 to {MOST_IDS} members")));
        }
        for id in &ids {
            self.refuse_to_attach(group, id)?;
        }
        refuse_sizes(group, ids.len())?;
        let name = group.name.clone();
        for id in ids {
            self.join(&name, id, now);
        }
        Ok(Xml::default())
    }

    /// Returns the group, if its owner has not begun to delete it. The text is of UpdateAutoScalingGroup:
    /// <https://github.com/kubernetes/kops/issues/1001>
    pub(super) fn modifiable(&self, name: &str) -> Result<&AutoScalingGroup, ApiError> {
        let group = self.groups.get(name).ok_or_else(|| super::auto_scaling::no_group(name))?;
        if group.is_being_deleted {
            let text = "The AutoScaling group may not be modified while it is pending delete";
            return Err(ApiError::validation(text));
        }
        Ok(group)
    }

    fn refuse_to_attach(&self, group: &AutoScalingGroup, id: &str) -> Result<(), ApiError> {
        let Some(instance) = self.instances.get(id) else {
            return Err(ApiError::validation(format!("Invalid Instance ID(s): [{id}] specified")));
        };
        if let Some(other) = self.groups.values().find(|group| group.member(id).is_some()) {
            let text = format!("Instance {id} is already part of AutoScalingGroup:{}", other.name);
            return Err(ApiError::validation(text));
        }
        if !self.runs(id) {
            let text =
                format!("Instance {id} is not in correct state. Instance(s) must be in 'running' state.");
            return Err(ApiError::validation(text));
        }
        if !group.zones.contains(&instance.zone) {
            let text = format!(
                "The instance {id} is not in an Availability Zone of the AutoScalingGroup {}",
                group.name
            );
            return Err(ApiError::validation(text));
        }
        if self.habits.attach_refuses_too_many_tags {
            let propagated = group.propagated_tags();
            // The code is ours: docs/to-try-on-aws.md asks if there is such a refusal.
            let refused = refuse_too_many(instance.tags.keys().chain(propagated.keys()));
            return refused.map_err(|error| ApiError::validation(error.message));
        }
        Ok(())
    }

    /// Makes an instance a member, which raises desired by one.
    fn join(&mut self, name: &str, id: &str, now: Timestamp) {
        self.leaving_shows(id);
        let Some(group) = self.groups.get_mut(name) else { return };
        group.desired += 1;
        let member = GroupMember {
            instance_id: id.to_owned(),
            state: LifecycleState::Pending,
            is_protected: group.protects_new_members,
            is_attached: true,
            template: None,
            is_extra: false,
            is_unhealthy: false,
            proceeds_at: None,
        };
        group.members.push(member);
        let tags = group.propagated_tags();
        self.tag_as_member(name, id, tags);
        self.plan_member(name, id, now + self.habits.attach_lag);
    }

    /// Attached instances get the group's tags, which take the place of their own of the same key. AWS does not document
    /// the fate of tags beyond the limit: here they are dropped, as in `_copy_tags` of `endpoint/autoscaling.py`, unless
    /// [`AwsHabits::attach_refuses_too_many_tags`](crate::fleet::AwsHabits) has refused the attach.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-tagging.html>
    fn tag_as_member(&mut self, name: &str, id: &str, tags: impl IntoIterator<Item = (String, String)>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.tags.insert(GROUP_TAG.to_owned(), name.to_owned());
        for (key, value) in tags {
            if refuse_too_many(instance.tags.keys().chain([&key])).is_ok() {
                instance.tags.insert(key, value);
            }
        }
    }

    /// Plans the next state of a member. An earlier plan is void.
    pub(super) fn plan_member(&mut self, name: &str, id: &str, at: Timestamp) {
        if let Some(member) = self.groups.get_mut(name).and_then(|group| group.member_mut(id)) {
            member.proceeds_at = Some(at);
            let change = DueChange::MemberProceeds { group: name.to_owned(), instance: id.to_owned() };
            self.at(at, change);
        }
    }

    pub(super) fn member_proceeds(&mut self, name: &str, id: &str, at: Timestamp) {
        let Some(group) = self.groups.get(name) else { return };
        let Some(member) = group.member(id).filter(|member| member.proceeds_at == Some(at)) else { return };
        match member.state {
            // A dead one waits for the health check.
            LifecycleState::Pending | LifecycleState::PendingWait if !self.runs(id) => {}
            LifecycleState::Pending if !member.is_attached && group.hooks_at(true).next().is_some() => {
                self.wait_for_launch(name, id, at);
            }
            LifecycleState::Pending => self.comes_into_service(name, id, at),
            LifecycleState::PendingWait => self.launch_hooks_end(name, id, at),
            LifecycleState::InService => {}
            LifecycleState::TerminatingWait => self.terminate_member(name, id, at),
            LifecycleState::Terminating | LifecycleState::Detaching => self.member_leaves(name, id, at),
        }
    }

    /// Holds a member of the group's own launch until its owner completes the hooks.
    fn wait_for_launch(&mut self, name: &str, id: &str, now: Timestamp) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let wait = group.hooks_at(true).map(|hook| hook.waits_seconds()).max().unwrap_or(0);
        if let Some(member) = group.member_mut(id) {
            member.state = LifecycleState::PendingWait;
        }
        self.plan_member(name, id, now + SignedDuration::from_secs(wait.into()));
    }

    /// Takes the member into service, or abandons it if a hook's time has run out.
    fn launch_hooks_end(&mut self, name: &str, id: &str, now: Timestamp) {
        let is_completed = self.groups.get(name).is_some_and(|group| {
            group
                .hooks_at(true)
                .all(|hook| hook.completed_after_seconds.is_some_and(|s| s <= hook.heartbeat_seconds))
        });
        if is_completed {
            self.comes_into_service(name, id, now);
        } else {
            self.terminate_member(name, id, now);
        }
    }

    fn comes_into_service(&mut self, name: &str, id: &str, now: Timestamp) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let registers = !group.is_suspended("AddToLoadBalancer");
        let arns = group.target_group_arns.clone();
        if let Some(member) = group.member_mut(id) {
            member.state = LifecycleState::InService;
            member.is_extra = false;
        }
        for arn in arns.iter().filter(|_| registers) {
            self.register(arn, id, now);
        }
    }
}

fn refuse_sizes(group: &AutoScalingGroup, count: usize) -> Result<(), ApiError> {
    let name = &group.name;
    if group.is_suspended("Launch") {
        return Err(ApiError::validation(format!(
            "AutoScalingGroup {name} has its Launch process suspended. Instances cannot be attached."
        )));
    }
    let desired = group.desired.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    if desired > group.max {
        return Err(ApiError::validation(format!(
            "AutoScalingGroup {name} has {}. To attach {count} more instances, please update the AutoScalingGroup sizes \
             appropriately.",
            group.sizes()
        )));
    }
    Ok(())
}
