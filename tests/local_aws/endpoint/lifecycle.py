"""Members that come into service and leave: lifecycle hooks, load balancers, states that take time.

Auto Scaling User Guide, "How lifecycle hooks work": a launching hook holds a member that the group launched in
Pending:Wait. A terminating hook holds a member in Terminating:Wait. The member waits until a client completes the hook
or the timing says that its owner has. Neither hook runs for an instance that is attached or detached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import EmptyResult

from . import notices
from .elb import deregister, register
from .world import WORLD

if TYPE_CHECKING:
    from moto.autoscaling.models import InstanceState

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
# Members that the group counts towards its desired capacity.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")
MAX_WAIT_SECONDS = 172_800


def install() -> None:
    FakeAutoScalingGroup.active_instances = lambda self: [s for s in self.instance_states if s.lifecycle_state in COUNTED]
    AutoScalingResponse.complete_lifecycle_action = _complete
    _global_timeout()


def suspended(group: FakeAutoScalingGroup, process: str) -> bool:
    return any(p["ProcessName"] == process for p in group.suspended_processes)


def member(group: FakeAutoScalingGroup, instance_id: str) -> InstanceState | None:
    return next((s for s in group.instance_states if s.instance.id == instance_id), None)


def hooked(group: FakeAutoScalingGroup, transition: str) -> bool:
    hooks = group.autoscaling_backend.lifecycle_hooks.values()
    return any(h.auto_scaling_group_name == group.name and h.lifecycle_transition == transition for h in hooks)


def launched(group: FakeAutoScalingGroup, state: InstanceState) -> None:
    """Takes a booted member of the group's own launch into service, after its hooks."""
    if state not in group.instance_states or state.lifecycle_state != "Pending":
        return
    if not hooked(group, LAUNCHING):
        in_service(group, state)
        return
    state.lifecycle_state = "Pending:Wait"
    WORLD.later("launch_hook", lambda: in_service(group, state))


def in_service(group: FakeAutoScalingGroup, state: InstanceState) -> None:
    if state in group.instance_states and state.lifecycle_state.startswith("Pending"):
        state.lifecycle_state = "InService"
        if not suspended(group, "AddToLoadBalancer"):
            register(group, state.instance)
        notices.launched(group, state.instance)


def leave(group: FakeAutoScalingGroup, state: InstanceState) -> None:
    """Terminates this member of the group, after its hooks."""
    deregister(group, state.instance)
    waits = hooked(group, TERMINATING)
    state.lifecycle_state = "Terminating:Wait" if waits else "Terminating"
    WORLD.later("terminate_hook" if waits else "detach", lambda: end(group, state))


def end(group: FakeAutoScalingGroup, state: InstanceState) -> None:
    """EC2 User Guide, "Change instance termination protection": the protection does not stop Auto Scaling."""
    if state in group.instance_states:
        group.instance_states.remove(state)
        if state.instance.state != "terminated":
            state.instance.terminate()


def replace(group: FakeAutoScalingGroup, count: int) -> None:
    if not suspended(group, "Launch"):
        group.replace_autoscaling_group_instances(count, group.get_propagated_tags())


def _complete(self: Any):
    group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
    instance_id, result = self._get_param("InstanceId"), self._get_param("LifecycleActionResult")
    state = member(group, instance_id)
    if state is None or not state.lifecycle_state.endswith(":Wait"):
        raise ValidationError(f"No active Lifecycle Action found with instance ID {instance_id}")
    if state.lifecycle_state.startswith("Terminating") or result == "ABANDON":
        launching = state.lifecycle_state.startswith("Pending")
        end(group, state)
        if launching:
            replace(group, 1)
    else:
        in_service(group, state)
    return EmptyResult()


def _global_timeout():
    """Auto Scaling API, LifecycleHook: 48 hours or 100 times HeartbeatTimeout, whichever is smaller; moto says 48 hours."""
    create_lifecycle_hook = AutoScalingBackend.create_lifecycle_hook

    def create(self: Any, *args, **kwargs):
        hook = create_lifecycle_hook(self, *args, **kwargs)
        hook.global_timeout = min(100 * int(hook.heartbeat_timeout), MAX_WAIT_SECONDS)
        return hook

    AutoScalingBackend.create_lifecycle_hook = create
