//! Changes of a group itself: sizes, suspended processes, tags. Refusals are those of `endpoint/scaling.py` of local AWS.

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::groups::AutoScalingGroup;
use crate::fleet::habits::SetBesidePolicy;
use crate::fleet::parameters::{is_true, number, plays_only, required, structures};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>
const PROCESSES: [&str; 9] = [
    "AZRebalance",
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
];

/// A scale-out and a call are of the same second.
const SAME_SECOND: SignedDuration = SignedDuration::from_secs(1);

/// New sizes of a group; `None` leaves a size as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
    pub(super) desired: Option<u32>,
}

impl Fleet {
    pub(super) fn update_group(&mut self, call: &ApiCall) -> Answered {
        plays_only(call, &["AutoScalingGroupName", "MinSize", "MaxSize", "DesiredCapacity"])?;
        let sizes = Sizes {
            min: number(call, "MinSize")?,
            max: number(call, "MaxSize")?,
            desired: number(call, "DesiredCapacity")?,
        };
        self.resize(required(call, "AutoScalingGroupName")?, sizes).map(|()| Xml::default())
    }

    /// Sets sizes. A MaxSize below desired lowers desired, and a MinSize above it raises it.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html>
    pub(super) fn resize(&mut self, name: &str, sizes: Sizes) -> Result<(), ApiError> {
        let group = self.modifiable(name)?;
        let (min, max) = (sizes.min.unwrap_or(group.min), sizes.max.unwrap_or(group.max));
        if max < min {
            return Err(ApiError::validation(format!(
                "Max bound, {max}, must be greater than or equal to min bound, {min}"
            )));
        }
        if let Some(desired) = sizes.desired.filter(|desired| !(min..=max).contains(desired)) {
            return Err(ApiError::validation(format!(
                "Desired capacity:{desired} must be between the specified min size:{min} and max size:{max}"
            )));
        }
        if self.habits.max_covers_leaving && u32::try_from(group.members.len()).is_ok_and(|size| size > max) {
            // The words are ours: docs/to-try-on-aws.md asks if there is such a refusal.
            let text = format!("Max bound, {max}, must not be less than the number of instances");
            return Err(ApiError::validation(text));
        }
        if let Some(group) = self.groups.get_mut(name) {
            let desired = sizes.desired.unwrap_or_else(|| group.desired.clamp(min, max));
            (group.min, group.max, group.desired) = (min, max, desired);
        }
        Ok(())
    }

    /// Sets desired. What becomes of a policy's scale-out just before is one of the open questions.
    pub(super) fn set_desired_capacity(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["AutoScalingGroupName", "DesiredCapacity", "HonorCooldown"])?;
        required(call, "DesiredCapacity")?;
        let desired = number(call, "DesiredCapacity")?.unwrap_or_default();
        let name = required(call, "AutoScalingGroupName")?;
        let by_policy = self.scaled_out_just_before(name, now)?;
        match (self.habits.set_desired_beside_policy, by_policy) {
            (SetBesidePolicy::IsRefused, Some(_)) => {
                let text = "Scaling activity 0 is in progress and blocks this action";
                Err(ApiError::new("ScalingActivityInProgress", text))
            }
            (SetBesidePolicy::Yields, Some(by_policy)) if by_policy > desired => Ok(Xml::default()),
            _ => self.want(name, desired).map(|()| Xml::default()),
        }
    }

    /// Returns the desired capacity that a policy has asked for in the second before.
    fn scaled_out_just_before(&self, name: &str, now: Timestamp) -> Result<Option<u32>, ApiError> {
        let group = self.modifiable(name)?;
        let is_recent = |at: &Timestamp| now.duration_since(*at) <= SAME_SECOND;
        Ok(group.scaled_out_at.filter(is_recent).map(|_| group.desired))
    }

    /// Sets desired within the group's bounds.
    pub(super) fn want(&mut self, name: &str, desired: u32) -> Result<(), ApiError> {
        let group = self.modifiable(name)?;
        let beyond = if desired < group.min {
            Some(("below min", group.min))
        } else {
            (desired > group.max).then_some(("above max", group.max))
        };
        if let Some((word, bound)) = beyond {
            return Err(ApiError::validation(format!(
                "New SetDesiredCapacity value {desired} is {word} value {bound} for the AutoScalingGroup."
            )));
        }
        if let Some(group) = self.groups.get_mut(name) {
            group.desired = desired;
        }
        Ok(())
    }

    /// Carries out a scheduled action and removes it, as `endpoint/scheduled.py` of local AWS does.
    pub(super) fn action_runs(&mut self, name: &str, action: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(at) = group.scheduled.iter().position(|scheduled| scheduled.name == action) else { return };
        let scheduled = group.scheduled.remove(at);
        if !group.is_suspended("ScheduledActions") {
            group.desired = scheduled.desired.clamp(group.min, group.max);
        }
    }

    pub(super) fn suspend_processes(&mut self, call: &ApiCall) -> Answered {
        self.change_processes(call, |group, process| {
            group.suspended.insert(process.to_owned());
        })
    }

    pub(super) fn resume_processes(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        let answered = self.change_processes(call, |group, process| {
            group.suspended.remove(process);
        })?;
        self.look_for_deaths(required(call, "AutoScalingGroupName")?, now);
        Ok(answered)
    }

    /// Changes the processes that the call names; all of them if it names none. For a group that is being deleted:
    /// <https://github.com/cloud-custodian/cloud-custodian/issues/497>
    fn change_processes(&mut self, call: &ApiCall, change: fn(&mut AutoScalingGroup, &str)) -> Answered {
        plays_only(call, &["AutoScalingGroupName", "ScalingProcesses"])?;
        let group = self.group_of(call)?;
        if group.is_being_deleted {
            let text = "Processes may not be suspended while the AutoScaling group is pending delete";
            return Err(ApiError::validation(text));
        }
        let (name, asked) = (group.name.clone(), call.list("ScalingProcesses"));
        if let Some(unknown) = asked.iter().find(|process| !PROCESSES.contains(process)) {
            return Err(ApiError::validation(format!("{unknown} is not a valid process name")));
        }
        if let Some(group) = self.groups.get_mut(&name) {
            let all = PROCESSES.iter().filter(|process| asked.is_empty() || asked.contains(process));
            all.for_each(|process| change(group, process));
        }
        Ok(Xml::default())
    }

    pub(super) fn create_or_update_tags(&mut self, call: &ApiCall) -> Answered {
        plays_only(call, &["Tags"])?;
        for prefix in structures(call, "Tags") {
            let group = self.tagged(call, &prefix)?;
            let key = required(call, &format!("{prefix}.Key"))?.to_owned();
            let value = call.parameter(&format!("{prefix}.Value")).unwrap_or_default().to_owned();
            let propagates = is_true(call, &format!("{prefix}.PropagateAtLaunch"));
            group.tags.insert(key, (value, propagates));
        }
        Ok(Xml::default())
    }

    pub(super) fn delete_group_tags(&mut self, call: &ApiCall) -> Answered {
        plays_only(call, &["Tags"])?;
        for prefix in structures(call, "Tags") {
            let key = required(call, &format!("{prefix}.Key"))?;
            self.tagged(call, &prefix)?.tags.remove(key);
        }
        Ok(Xml::default())
    }

    fn tagged(&mut self, call: &ApiCall, prefix: &str) -> Result<&mut AutoScalingGroup, ApiError> {
        let name = required(call, &format!("{prefix}.ResourceId"))?;
        self.groups.get_mut(name).ok_or_else(|| super::auto_scaling::no_group(name))
    }
}
