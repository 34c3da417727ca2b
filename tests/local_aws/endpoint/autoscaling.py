"""Auto Scaling's behaviour that moto lacks when members come and go by API: refusals, and states that take time.

The texts of the refusals are AWS's if they are known. Most are a `ValidationError`, told apart by text alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    DetachInstanceActivity,
    InstanceState,
    TerminateInstanceActivity,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidInstanceIdError

from .elb import deregister
from .launches import MAX_TAGS, own_tags
from .lifecycle import COUNTED, in_service, leave, member, replace, suspended
from .world import WORLD

if TYPE_CHECKING:
    from moto.autoscaling.models import Activity, FakeAutoScalingGroup
    from moto.ec2.models.instances import Instance

NO_GROUP_IS_NO_ERROR = {"DescribeAutoScalingGroups", "DescribeAutoScalingInstances", "DescribeTags"}


def install() -> None:
    AutoScalingBackend.attach_instances = _attach
    AutoScalingBackend.detach_instances = _detach
    AutoScalingBackend.terminate_instance = _terminate
    AutoScalingBackend.notify_terminate_instances = _notice_deaths
    AutoScalingResponse.describe_instance_refreshes = _describe_refreshes
    _unknown_group_is_refused()


def _sizes(group: FakeAutoScalingGroup):
    return f"min-size={group.min_size}, max-size={group.max_size}, and desired-size={group.desired_capacity}"


def _attach(self: Any, group_name: str, instance_ids: list[str]):
    group = self.autoscaling_groups[group_name]
    instances = [_attachable(self, group, i) for i in instance_ids]
    if suspended(group, "Launch"):
        raise ValidationError(f"AutoScalingGroup {group_name} has its Launch process suspended. Instances cannot be attached.")
    if group.desired_capacity + len(instances) > group.max_size:
        raise ValidationError(
            f"AutoScalingGroup {group_name} has {_sizes(group)}. To attach {len(instances)} more instances, "
            "please update the AutoScalingGroup sizes appropriately."
        )
    group.desired_capacity += len(instances)
    for instance in instances:
        instance.autoscaling_group = group
        state = InstanceState(instance, "Pending", protected_from_scale_in=group.new_instances_protected_from_scale_in)
        group.instance_states.append(state)
        _copy_tags(self, group, instance)
        stuck = (WORLD.newcomer_ids.get(instance.id) or {}).get("lifecycle_state")
        if stuck:
            state.lifecycle_state = stuck
        else:
            WORLD.later("attach", lambda s=state: in_service(group, s))


def _attachable(self: Any, group: FakeAutoScalingGroup, instance_id: str):
    try:
        instance = self.ec2_backend.get_instance(instance_id)
    except InvalidInstanceIdError as error:
        raise ValidationError(f"Invalid Instance ID(s): [{instance_id}] specified") from error
    for other in self.autoscaling_groups.values():
        if member(other, instance_id):
            raise ValidationError(f"Instance {instance_id} is already part of AutoScalingGroup:{other.name}")
    if instance.state != "running":
        raise ValidationError(f"Instance {instance_id} is not in correct state. Instance(s) must be in 'running' state.")
    if instance.placement.zone not in group.availability_zones:
        raise ValidationError(f"The instance {instance_id} is not in an Availability Zone of the AutoScalingGroup {group.name}")
    return instance


def _copy_tags(self: Any, group: FakeAutoScalingGroup, instance: Instance):
    """Auto Scaling User Guide, "Tag Auto Scaling groups and instances": attached instances get the group's tags, which
    overwrite their own of the same key. AWS does not document the fate of tags beyond the limit: here they are
    dropped."""
    self.ec2_backend.create_tags([instance.id], {ASG_NAME_TAG: group.name})
    for key, value in group.get_propagated_tags().items():
        if len(own_tags({*self.ec2_backend.tags[instance.id], key})) <= MAX_TAGS:
            self.ec2_backend.create_tags([instance.id], {key: value})


def _detach(self: Any, group_name: str, instance_ids: list[str], should_decrement: bool):
    group = self.autoscaling_groups[group_name]
    states = []
    for instance_id in instance_ids:
        state = member(group, instance_id)
        if state is None or state.lifecycle_state in ("Detaching", "Terminating:Wait"):
            raise ValidationError(f"The instance {instance_id} is not part of Auto Scaling group {group_name}.")
        if state.lifecycle_state not in ("InService", "Standby"):
            raise ValidationError(f"The instance {instance_id} is not in InService or Standby.")
        states.append(state)
    if should_decrement and group.desired_capacity - len(states) < group.min_size:
        raise ValidationError(
            f"AutoScalingGroup {group_name} has {_sizes(group)}. To detach {len(states)} more instances, "
            "please update the AutoScalingGroup sizes appropriately."
        )
    before = group.desired_capacity
    for state in states:
        state.lifecycle_state = "Detaching"
        deregister(group, state.instance)
        WORLD.later("detach", lambda s=state: _leave(self, group, s))
    if should_decrement:
        group.desired_capacity -= len(states)
    else:
        replace(group, len(states))
    return [_caused(DetachInstanceActivity(s.instance), "was detached", before - n) for n, s in enumerate(states)]


def _caused(activity: Activity, by: str, before: int):
    """Words the cause as AWS does: only a call that decrements names the capacity.
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DetachInstances.html
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_TerminateInstanceInAutoScalingGroup.html"""
    instance_id = activity.description.rsplit(" ", 1)[-1]
    is_decrement = activity.auto_scaling_group.desired_capacity < before
    shrinking = f", shrinking the capacity from {before} to {before - 1}" if is_decrement else ""
    activity.cause = f"At {activity.start_time:%Y-%m-%dT%H:%M:%SZ} instance {instance_id} {by} in response to a user request{shrinking}."
    return activity


def _leave(self: Any, group: FakeAutoScalingGroup, state: InstanceState):
    if state in group.instance_states:
        group.instance_states.remove(state)
        self.ec2_backend.delete_tags([state.instance.id], {ASG_NAME_TAG: group.name})
        state.instance.autoscaling_group = None


def _terminate(self: Any, instance_id: str, should_decrement: bool):
    group, state = _group_of(self, instance_id)
    if state.lifecycle_state.startswith("Terminating"):  # AWS may count it twice: docs/to-try-on-aws.md
        raise ValidationError(f"Instance {instance_id} is already being terminated.")
    if should_decrement and group.desired_capacity - 1 < group.min_size:
        raise ValidationError(
            f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement will "
            "violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower "
            "group's min size."
        )
    before = group.desired_capacity
    if should_decrement:
        group.desired_capacity -= 1
    else:
        replace(group, 1)
    leave(group, state)
    return _caused(TerminateInstanceActivity(state.instance, before), "was taken out of service", before)


def _group_of(self: Any, instance_id: str):
    for group in self.autoscaling_groups.values():
        if state := member(group, instance_id):
            return group, state
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


def _notice_deaths(self: Any, instance_ids: list[str]):
    """Keeps a member that was terminated from outside in the group, useless, until a health check finds it."""
    for group in self.autoscaling_groups.values():
        for state in [s for s in group.instance_states if s.instance.id in instance_ids]:
            WORLD.later("replace", lambda g=group, s=state: _bury(g, s))


def _bury(group: FakeAutoScalingGroup, state: InstanceState):
    """Takes out a dead member that a health check has found, through its hooks. ReplaceUnhealthy and Terminate, suspended, keep
    one in service. Amazon EC2 Auto Scaling User Guide, "How suspended processes affect other processes", "Considerations for
    suspending processes", and "How lifecycle hooks work"."""
    if state not in group.instance_states:
        return
    if not suspended(group, "HealthCheck"):
        state.health_status = "Unhealthy"
    is_kept = any(suspended(group, process) for process in ("ReplaceUnhealthy", "Terminate"))
    if state.health_status != "Unhealthy" or (is_kept and state.lifecycle_state == "InService"):
        WORLD.later(1.0, lambda: _bury(group, state))
    elif state.lifecycle_state == "InService":
        leave(group, state)
        replace(group, 1)
    elif not state.lifecycle_state.startswith("Terminating"):
        counted = state.lifecycle_state in COUNTED
        group.instance_states.remove(state)
        if counted:
            replace(group, 1)


def _unknown_group_is_refused():
    """Refuses an unknown group; moto answers it with an internal error (a KeyError)."""
    call_action = AutoScalingResponse.call_action

    def checked(self: Any):
        name, action = self._get_param("AutoScalingGroupName"), self._get_action()
        known = self.autoscaling_backend.autoscaling_groups
        if name and name not in known and action not in NO_GROUP_IS_NO_ERROR | {"CreateAutoScalingGroup"}:
            error = ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
            status, headers, body = self.serialized(ActionResult(error))
            return status, headers, body
        return call_action(self)

    AutoScalingResponse.call_action = checked


def _describe_refreshes(self: Any):
    refreshes = WORLD.refreshes.get(self._get_param("AutoScalingGroupName"), [])
    return ActionResult({"InstanceRefreshes": refreshes})
