"""What Auto Scaling does and moto does not: refusals, lifecycle states that take time, zones kept in balance.

The texts of the refusals are AWS's where they are known: most are a `ValidationError`, told apart by text alone.
"""

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    DetachInstanceActivity,
    FakeAutoScalingGroup,
    InstanceState,
    TerminateInstanceActivity,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import InvalidInstanceIdError

from .elb import deregister, register
from .world import WORLD

# Members that the group counts towards its desired capacity.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
NO_GROUP_IS_NO_ERROR = {"DescribeAutoScalingGroups", "DescribeAutoScalingInstances", "DescribeTags"}


def install():
    FakeAutoScalingGroup.active_instances = lambda self: [
        s for s in self.instance_states if s.lifecycle_state in COUNTED
    ]
    AutoScalingBackend.attach_instances = _attach
    AutoScalingBackend.detach_instances = _detach
    AutoScalingBackend.terminate_instance = _terminate
    AutoScalingBackend.notify_terminate_instances = _notice_deaths
    AutoScalingResponse.describe_instance_refreshes = _describe_refreshes
    AutoScalingResponse.complete_lifecycle_action = lambda self: EmptyResult()
    _launch_in_balance()
    _update_keeps_policy()
    _unknown_group_is_refused()


def suspended(group, process):
    return any(p["ProcessName"] == process for p in group.suspended_processes)


def member(group, instance_id):
    return next((s for s in group.instance_states if s.instance.id == instance_id), None)


def _sizes(group):
    return f"min-size={group.min_size}, max-size={group.max_size}, and desired-size={group.desired_capacity}"


def _attach(self, group_name, instance_ids):
    group = self.autoscaling_groups[group_name]
    instances = [_attachable(self, group, i) for i in instance_ids]
    if suspended(group, "Launch"):
        raise ValidationError(
            f"AutoScalingGroup {group_name} has its Launch process suspended. Instances cannot be attached."
        )
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
        self.ec2_backend.create_tags([instance.id], {ASG_NAME_TAG: group.name})
        stuck = (WORLD.newcomer_ids.get(instance.id) or {}).get("lifecycle_state")
        if stuck:
            state.lifecycle_state = stuck
        else:
            WORLD.later(WORLD.timing["attach"], lambda s=state: in_service(group, s))


def _attachable(self, group, instance_id):
    try:
        instance = self.ec2_backend.get_instance(instance_id)
    except InvalidInstanceIdError as error:
        raise ValidationError(f"Invalid Instance ID(s): [{instance_id}] specified") from error
    for other in self.autoscaling_groups.values():
        if member(other, instance_id):
            raise ValidationError(f"Instance {instance_id} is already part of AutoScalingGroup:{other.name}")
    if instance.state != "running":
        raise ValidationError(
            f"Instance {instance_id} is not in correct state. Instance(s) must be in 'running' state."
        )
    if instance.placement.zone not in group.availability_zones:
        raise ValidationError(
            f"The instance {instance_id} is not in an Availability Zone of the AutoScalingGroup {group.name}"
        )
    return instance


def in_service(group, state):
    if state in group.instance_states and state.lifecycle_state.startswith("Pending"):
        state.lifecycle_state = "InService"
        if not suspended(group, "AddToLoadBalancer"):
            register(group, state.instance)


def _detach(self, group_name, instance_ids, should_decrement):
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
    activities = [DetachInstanceActivity(s.instance) for s in states]
    for state in states:
        state.lifecycle_state = "Detaching"
        deregister(group, state.instance)
        WORLD.later(WORLD.timing["detach"], lambda s=state: _leave(self, group, s))
    if should_decrement:
        group.desired_capacity -= len(states)
    else:
        _replace(group, len(states))
    return activities


def _leave(self, group, state):
    if state in group.instance_states:
        group.instance_states.remove(state)
        self.ec2_backend.delete_tags([state.instance.id], {ASG_NAME_TAG: group.name})
        state.instance.autoscaling_group = None


def _terminate(self, instance_id, should_decrement):
    group, state = _group_of(self, instance_id)
    if state.lifecycle_state.startswith("Terminating"):
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
        _replace(group, 1)
    deregister(group, state.instance)
    hooked = any(
        h.auto_scaling_group_name == group.name and h.lifecycle_transition == "autoscaling:EC2_INSTANCE_TERMINATING"
        for h in self.lifecycle_hooks.values()
    )
    state.lifecycle_state = "Terminating:Wait" if hooked else "Terminating"
    activity = TerminateInstanceActivity(state.instance, before)
    WORLD.later(WORLD.timing["terminate_hook" if hooked else "detach"], lambda: _end(self, group, state))
    return activity


def _end(self, group, state):
    if state in group.instance_states:
        group.instance_states.remove(state)
        self.ec2_backend.terminate_instances([state.instance.id])


def _group_of(self, instance_id):
    for group in self.autoscaling_groups.values():
        if state := member(group, instance_id):
            return group, state
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


def _notice_deaths(self, instance_ids):
    """A member that somebody terminated stays in the group, useless, until a health check finds it."""
    for group in self.autoscaling_groups.values():
        for state in [s for s in group.instance_states if s.instance.id in instance_ids]:
            WORLD.later(WORLD.timing["replace"], lambda g=group, s=state: _bury(g, s))


def _bury(group, state):
    if state in group.instance_states:
        counted = state.lifecycle_state in COUNTED
        group.instance_states.remove(state)
        if counted:
            _replace(group, 1)


def _replace(group, count):
    if not suspended(group, "Launch"):
        group.replace_autoscaling_group_instances(count, group.get_propagated_tags())


def _launch_in_balance():
    """The group launches into the zone that has the fewest members; moto takes the first subnet for all."""
    launch = FakeAutoScalingGroup.replace_autoscaling_group_instances

    def balanced(self, count_needed, propagated_tags):
        created = self.name not in self.autoscaling_backend.autoscaling_groups
        subnets = self.vpc_zone_identifier
        for _ in range(count_needed):
            if subnets:
                taken = [s.instance.subnet_id for s in self.instance_states]
                self.vpc_zone_identifier = min(subnets.split(","), key=taken.count)
            try:
                launch(self, 1, dict(propagated_tags))
            finally:
                self.vpc_zone_identifier = subnets
            state = self.instance_states[-1]
            if not created:  # A new group starts complete, so that tests need not wait for it.
                state.lifecycle_state = "Pending"
                WORLD.later(WORLD.timing["group_launch"], lambda s=state: in_service(self, s))

    FakeAutoScalingGroup.replace_autoscaling_group_instances = balanced


def _update_keeps_policy():
    """moto forgets the MixedInstancesPolicy on an update that does not mention it."""
    update = FakeAutoScalingGroup.update

    def keeping(self, *args, **kwargs):
        policy = self.mixed_instances_policy
        desired = kwargs.get("desired_capacity")
        smallest = kwargs.get("min_size") if kwargs.get("min_size") is not None else self.min_size
        largest = kwargs.get("max_size") if kwargs.get("max_size") is not None else self.max_size
        if desired is not None and not smallest <= desired <= largest:
            raise ValidationError(
                f"Desired capacity:{desired} must be between the specified min size:{smallest} and max size:{largest}"
            )
        update(self, *args, **kwargs)
        if not kwargs.get("mixed_instances_policy") and not kwargs.get("launch_template"):
            self.mixed_instances_policy = policy

    FakeAutoScalingGroup.update = keeping


def _unknown_group_is_refused():
    """moto answers an unknown group with an internal error (a KeyError)."""
    call_action = AutoScalingResponse.call_action

    def checked(self):
        name, action = self._get_param("AutoScalingGroupName"), self._get_action()
        known = self.autoscaling_backend.autoscaling_groups
        if name and name not in known and action not in NO_GROUP_IS_NO_ERROR | {"CreateAutoScalingGroup"}:
            error = ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
            status, headers, body = self.serialized(ActionResult(error))
            return status, headers, body
        return call_action(self)

    AutoScalingResponse.call_action = checked


def _describe_refreshes(self):
    refreshes = WORLD.refreshes.get(self._get_param("AutoScalingGroupName"), [])
    return ActionResult({"InstanceRefreshes": refreshes})
