"""The launches and sizes of a group: templates by type, zones in balance, sizes within bounds.

moto launches every member from the group's base template into its first subnet, and takes any desired capacity.
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.ec2.exceptions import EC2ClientError

from ..shapes import Shape
from . import elb, launches, lifecycle
from .world import WORLD

FALLBACK_TYPE = "m5.large"
# Fields of the request, by their AWS names, that moto does not keep.
KEPT = ("DefaultInstanceWarmup", "DesiredCapacityType", "CapacityReservationSpecification", "AvailabilityZoneDistribution")


def install() -> None:
    InstanceState.launch_template = property(lambda state: getattr(state.instance, "launched_from", None))
    FakeAutoScalingGroup.replace_autoscaling_group_instances = _launch
    _create_keeps_fields()
    _update_keeps_policy()
    _desired_within_bounds()
    _scale_in_takes_time()
    AutoScalingBackend.update_attached_target_groups = _register_serving


def _register_serving(self: Any, group_name: str):
    """Registers the members that serve. moto registers every member at each change of the size, leaving ones
    included."""
    group = self.autoscaling_groups[group_name]
    for state in group.instance_states:
        if state.lifecycle_state == "InService" and not lifecycle.suspended(group, "AddToLoadBalancer"):
            elb.register(group, state.instance)


def _launch(group: FakeAutoScalingGroup, count: int, _propagated_tags: Shape):
    created = group.name not in group.autoscaling_backend.autoscaling_groups
    for _ in range(count):
        try:
            instance = _launch_one(group)
        except EC2ClientError:
            if created:  # A mistake of the test. Later, AWS writes it into the group's activities.
                raise
            return
        instance.autoscaling_group = group
        protected = group.new_instances_protected_from_scale_in
        state = InstanceState(instance, protected_from_scale_in=protected, autoscaling_group=group)
        group.instance_states.append(state)
        if not created:  # A new group starts complete, so that tests need not wait for it.
            state.lifecycle_state = "Pending"
            WORLD.later("group_launch", lambda s=state: lifecycle.launched(group, s))


def _launch_one(group: FakeAutoScalingGroup):
    """Launches into the subnet that has the fewest members and a free address."""
    taken = [s.instance.subnet_id for s in group.instance_states]
    subnets = sorted((group.vpc_zone_identifier or "").split(","), key=taken.count)
    for subnet_id in subnets:
        try:
            return _launch_into(group, subnet_id or None)
        except EC2ClientError as error:
            if error.code != "InsufficientFreeAddressesInSubnet" or subnet_id == subnets[-1]:
                raise


def _launch_into(group: FakeAutoScalingGroup, subnet_id: str | None):
    source, override = _source(group)
    image, kind, user_data, security_groups, tags = (
        (group.image_id, group.instance_type, group.user_data, group.security_groups, {})
        if source is None
        else (source.image_id, source.instance_type, source.user_data, source.security_groups, source.instance_tags)
    )
    config = group.launch_config
    with launches.asking(placement={"GroupName": group.placement_group} if group.placement_group else {}):
        reservation = group.ec2_backend.run_instances(
            override.get("ImageId") or image,
            1,
            user_data,
            security_groups,
            instance_type=override.get("InstanceType") or _allowed(override) or kind or FALLBACK_TYPE,
            # Auto Scaling User Guide, "Tag Auto Scaling groups and instances".
            tags={"instance": {**tags, **group.get_propagated_tags(), ASG_NAME_TAG: group.name}},
            placement=group.availability_zones[0],
            launch_config=config,
            launch_template=source and {"LaunchTemplateId": source.template.id, "Version": source.number},
            is_instance_type_default=False,
            associate_public_ip=config.associate_public_ip_address if config else None,
            subnet_id=subnet_id,
        )
    instance = reservation.instances[0]
    if source:  # Auto Scaling API, Instance: the template and version that the member came from, resolved.
        template = source.template
        named = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": str(source.number)}
        instance.launched_from = named
    return instance


def _source(group: FakeAutoScalingGroup):
    """Returns the template version and the override of the next member (None and {} for a launch configuration).

    Auto Scaling User Guide, "Use a different launch template for an instance type": an override's own template takes
    the place of the base template. On-Demand members are `prioritized`: the first override goes first.
    """
    if not group.ec2_launch_template:
        return None, {}
    policy = group.mixed_instances_policy or {}
    override = next(iter(policy.get("LaunchTemplate", {}).get("Overrides") or []), {})
    own = override.get("LaunchTemplateSpecification") or {}
    if "LaunchTemplateId" in own:
        template = group.ec2_backend.get_launch_template(own["LaunchTemplateId"])
    elif "LaunchTemplateName" in own:
        template = group.ec2_backend.get_launch_template_by_name(own["LaunchTemplateName"])
    else:
        return group.ec2_launch_template.get_version(group.launch_template_version), override
    return template.get_version(own.get("Version") or "$Default"), override


def _allowed(override: Shape):
    """Returns a type that the override's attributes let through."""
    requirements = override.get("InstanceRequirements") or {}
    plain = [kind for kind in requirements.get("AllowedInstanceTypes") or [] if "*" not in kind]
    return plain[0] if plain else FALLBACK_TYPE if requirements else None


# -- sizes and fields --------------------------------------------------------------------------------------------------


def _create_keeps_fields():
    create, update = AutoScalingResponse.create_auto_scaling_group, AutoScalingResponse.update_auto_scaling_group

    def keep(self: Any, group: FakeAutoScalingGroup):
        for name in KEPT:
            if self._get_param(name) is not None:
                setattr(group, name, self._get_param(name))

    def created(self: Any):
        answer = create(self)
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        # Auto Scaling API, CreateAutoScalingGroup: "Default: 0 seconds"; moto takes 300, the console's.
        group.health_check_grace_period = self._get_int_param("HealthCheckGracePeriod", 0)
        keep(self, group)
        return answer

    def updated(self: Any):
        answer = update(self)
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        if self._get_param("PlacementGroup") is not None:
            group.placement_group = self._get_param("PlacementGroup")
        keep(self, group)
        return answer

    AutoScalingResponse.create_auto_scaling_group = created
    AutoScalingResponse.update_auto_scaling_group = updated


def _update_keeps_policy():
    """Keeps the MixedInstancesPolicy, which moto forgets on an update without one. moto counts dying members as the
    size."""
    update = FakeAutoScalingGroup.update

    def keeping(self: Any, *args, **kwargs):
        policy, desired = self.mixed_instances_policy, kwargs.get("desired_capacity")
        smallest = kwargs.get("min_size") if kwargs.get("min_size") is not None else self.min_size
        largest = kwargs.get("max_size") if kwargs.get("max_size") is not None else self.max_size
        if largest < smallest:
            raise ValidationError(f"Max bound, {largest}, must be greater than or equal to min bound, {smallest}")
        if desired is not None and not smallest <= desired <= largest:
            raise ValidationError(f"Desired capacity:{desired} must be between the specified min size:{smallest} and max size:{largest}")
        if desired is None:
            # Auto Scaling API, UpdateAutoScalingGroup: a MaxSize below the group's size lowers its desired capacity, and
            # the group picks the victim; a MinSize above it raises it.
            desired = min(max(self.desired_capacity, smallest), largest)
        update(self, *args, **{**kwargs, "desired_capacity": None, "min_size": None, "max_size": None})
        if not any(kwargs.get(source) for source in ("mixed_instances_policy", "launch_template", "launch_config_name")):
            self.mixed_instances_policy = policy
        self.min_size, self.max_size = smallest, largest
        if desired != self.desired_capacity or len(self.active_instances()) != desired:
            self.set_desired_capacity(desired)

    FakeAutoScalingGroup.update = keeping


def _desired_within_bounds():
    by_api = AutoScalingResponse.set_desired_capacity
    change = AutoScalingBackend.change_capacity

    def bounded(self: Any):
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        desired = self._get_int_param("DesiredCapacity")
        for beyond, word, bound in (
            (desired < group.min_size, "below min", group.min_size),
            (desired > group.max_size, "above max", group.max_size),
        ):
            if beyond:
                text = f"New SetDesiredCapacity value {desired} is {word} value {bound} for the AutoScalingGroup."
                raise ValidationError(text)
        return by_api(self)

    def clipped(self: Any, group_name: str, scaling_adjustment: int):
        """Auto Scaling User Guide, "Set scaling limits": a policy never scales beyond them."""
        group = self.autoscaling_groups[group_name]
        wanted = min(max(group.desired_capacity + scaling_adjustment, group.min_size), group.max_size)
        change(self, group_name, wanted - group.desired_capacity)

    AutoScalingResponse.set_desired_capacity = bounded
    AutoScalingBackend.change_capacity = clipped


def _scale_in_takes_time():
    """Sends a victim of scale-in through its hooks. moto terminates the first members at once, dying ones included."""
    set_desired_capacity = FakeAutoScalingGroup.set_desired_capacity
    delete_auto_scaling_group = AutoScalingBackend.delete_auto_scaling_group

    def scale(self: Any, new_capacity: int | None):
        surplus = len(self.active_instances()) - (new_capacity or 0) if new_capacity is not None else 0
        if surplus <= 0 or getattr(self, "deleted", False):
            set_desired_capacity(self, new_capacity)
            return
        self.desired_capacity = new_capacity
        candidates = [s for s in self.active_instances() if not s.protected_from_scale_in]
        for state in candidates[:surplus]:
            lifecycle.leave(self, state)

    def delete(self: Any, group_name: str):
        """Deletes the group and its members, at once: no test waits for that."""
        if group := self.autoscaling_groups.get(group_name):
            group.deleted = True
        delete_auto_scaling_group(self, group_name)

    FakeAutoScalingGroup.set_desired_capacity = scale
    AutoScalingBackend.delete_auto_scaling_group = delete
