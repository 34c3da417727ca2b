"""Targets that need time: `initial` before healthy, `draining` after deregistration, or the state that a test sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from moto.elbv2.models import ELBv2Backend, FakeTargetGroup, elbv2_backends

from .world import WORLD

if TYPE_CHECKING:
    from moto.autoscaling.models import FakeAutoScalingGroup
    from moto.ec2.models import EC2Backend
    from moto.ec2.models.instances import Instance

_since = {}  # (target group ARN, instance id) → time of the last registration or deregistration


def install() -> None:
    health_for = FakeTargetGroup.health_for

    def with_time(self: Any, target: Any, ec2_backend: EC2Backend):
        health = health_for(self, target, ec2_backend)
        instance_id = target["Id"]
        if _is_at_another_port(self, target):
            health.port, health.status, health.reason = _port(self, target), "unused", "Target.NotRegistered"
        elif told := instance_id in self.targets and _told(self.arn, instance_id):
            health.status, health.reason = told
        elif instance_id in self.targets and _young(self.arn, instance_id, "target_initial"):
            health.status, health.reason = "initial", "Elb.RegistrationInProgress"
        elif health.status == "draining" and not _young(self.arn, instance_id, "target_drain"):
            health.status, health.reason = "unused", "Target.NotRegistered"
        elif instance_id in self.deregistered_targets and _young(self.arn, instance_id, "target_drain"):
            health.status, health.reason = "draining", "Target.DeregistrationInProgress"
        return health

    FakeTargetGroup.health_for = with_time
    _by_api()
    _all_of_them()


def _port(group: FakeTargetGroup, target: Any):
    """Returns the port that a call asks about: the one that it names, or else the target group's own.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetDescription.html
    """
    return target.get("Port") or group.port


def _is_at_another_port(group: FakeTargetGroup, target: Any):
    """Says that the target is known at another port than the one asked about. moto keeps one port for each target."""
    known = group.targets.get(target["Id"]) or group.deregistered_targets.get(target["Id"])
    return known is not None and str(known["Port"]) != str(_port(group, target))


def _by_api():
    """Makes registrations by API callers take time, too. Elastic Load Balancing API, DeregisterTargets: "If the specified
    target does not exist, the action returns successfully."""
    register, deregister = FakeTargetGroup.register, FakeTargetGroup.deregister

    def timed(call: Callable[..., Any], starts: bool):
        def changed(self: Any, targets: Any):
            for target in targets:
                if (target["Id"] in self.targets) != starts:
                    _since[(self.arn, target["Id"])] = time.time()
            call(self, targets if starts else [target for target in targets if target["Id"] in self.targets])

        return changed

    FakeTargetGroup.register = timed(register, True)
    FakeTargetGroup.deregister = timed(deregister, False)


def _all_of_them():
    """Lists targets that drain, too: AWS does so without `Targets`, moto lists the registered ones only.

    https://github.com/kubernetes-sigs/aws-load-balancer-controller/pull/288
    """
    describe = ELBv2Backend.describe_target_health

    def described(self: Any, target_group_arn: str, targets: Any):
        found = describe(self, target_group_arn, targets)
        if not targets:
            group = self.target_groups[target_group_arn]
            left = [group.health_for(target, self.ec2_backend) for target in list(group.deregistered_targets.values())]
            found += [health for health in left if health.status == "draining"]
        return found

    ELBv2Backend.describe_target_health = described


def _told(arn: str, instance_id: str):
    plan = (WORLD.newcomer_ids.get(instance_id) or {}).get("target_health")
    if plan:
        return plan.get("state", "unhealthy"), plan.get("reason", "Target.FailedHealthChecks")
    if told := WORLD.target_health.get((arn, instance_id)):
        return told
    return WORLD.target_health.get((arn, "*newcomers")) if instance_id in WORLD.newcomer_ids else None


def _young(arn: str, instance_id: str, timing: str):
    return time.time() - _since.get((arn, instance_id), 0) < WORLD.timing[timing]


def _target_groups(group: FakeAutoScalingGroup):
    known = elbv2_backends[group.autoscaling_backend.account_id][group.region].target_groups
    return [known[arn] for arn in group.target_group_arns if arn in known]


def register(group: FakeAutoScalingGroup, instance: Instance) -> None:
    for target_group in _target_groups(group):
        if instance.state == "running" and instance.id not in target_group.targets:
            _since[(target_group.arn, instance.id)] = time.time()
            target_group.register([{"Id": instance.id, "Port": target_group.port}])


def deregister(group: FakeAutoScalingGroup, instance: Instance) -> None:
    for target_group in _target_groups(group):
        if instance.id in target_group.targets:
            _since[(target_group.arn, instance.id)] = time.time()
            target_group.deregister([{"Id": instance.id}])
