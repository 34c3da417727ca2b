"""The endpoint's state beyond moto's own: time, overrides and records.

moto changes state at once; AWS does not. Every delayed transition (pending → running, Detaching → gone) is a deferred
action here, run under one lock by a ticker, so that a test sees the same intermediate states as on AWS. The capacity of
each group is recorded after every change: the history misses no dip, however short.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..shapes import Shape

if TYPE_CHECKING:
    from moto.autoscaling.models import FakeAutoScalingGroup

ACCOUNT = "123456789012"

# Seconds. Short, because the state machine's waits are scaled down too; never zero, so that asynchrony is exercised.
DEFAULT_TIMING = {
    "pending": 0.2,  # RunInstances → running
    "boot": 0.5,  # RunInstances → both status checks ok
    "invisible": 0.0,  # RunInstances → DescribeInstances and DescribeInstanceStatus show the instance
    "attach": 0.2,  # AttachInstances → InService
    "detach": 0.3,  # DetachInstances → out of the group
    "target_initial": 0.2,  # registered → healthy
    "target_drain": 0.2,  # deregistered → not known to the target group
    "group_reacts": 0.0,  # a scheduled action set the desired capacity → the group launches
    "group_launch": 0.5,  # the group's own launches → InService
    "replace": 1.0,  # a member died → the group notices and replaces it
    "stop": 0.2,  # StopInstances → stopped
    "image": 0.3,  # CreateImage → available
    "terminate_hook": 0.5,  # Terminating:Wait → the owner's hook completes
    "launch_hook": 0.5,  # Pending:Wait → the owner's hook completes
}

# Systems Manager parameters of `resolve:ssm:` → image; None is Amazon's newest for Linux.
IMAGE_PARAMETERS = {
    "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64": None,
    "/golden/web": None,
}

# Settings of the next launched instances; `control.py` says what each key means.
DEFAULT_NEWCOMERS = {
    "status": "ok",
    "stay_pending": False,
    "kill": None,
    "lifecycle_state": None,
    "target_health": None,
}


class World:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._actions = []  # (since when, seconds or a timing's name, action)
        self.reset()

    def reset(self) -> None:
        with self.lock:
            self._actions.clear()
            self.timing = dict(DEFAULT_TIMING)
            self.newcomers = dict(DEFAULT_NEWCOMERS)
            self.newcomer_ids = {}  # instance id → the newcomers' settings at its launch
            self.status = {}  # instance id → "initializing" | "ok" | "impaired" | "absent"
            self.spot_requests = {}  # instance id → status code of its Spot request, where it is not `fulfilled`
            self.past_spot_requests = {}  # instance id → the request of one that EC2 has forgotten
            self.launched_at = {}  # id of an instance that a caller of the API launched → time
            self.stale = {}  # group name → what its descriptions still show of the past (`stale.Stale`)
            self.target_health = {}  # (target group ARN, instance id or "*newcomers") → (state, reason)
            self.launch_events = False  # Auto Scaling tells of its launches (`notices`)
            self.refreshes = {}  # group name → [InstanceRefresh]
            self.image_state = "available"  # what an image comes to: or "failed"
            self.spot_discount = 0.65
            self.spot_prices = {}  # type → USD an hour for Linux, where it is not the discounted On-Demand price
            self.unpriced = set()  # types that neither the price list nor the Spot price history knows
            self.image_parameters = dict(IMAGE_PARAMETERS)
            self.snapshots_linger = False  # an image's snapshots are in use for a moment after its deregistration
            self.recycle_bin = {}  # id of a deleted image, snapshot or volume → when it leaves the bin
            self.locked_snapshots = {}  # snapshot id → the state of its lock
            self.account = ACCOUNT  # whose request is being answered
            self.caller = "test"  # who made it: or "lambda"
            self.zone_shift = {}  # account → by how many places its zone names lie off the usual ones
            self.history = {}  # group name → [{t, in_service, desired, ...}]

    @contextlib.contextmanager
    def within(self, account: str, caller: str = "test") -> Iterator[None]:
        """Directs moto to this account, for this caller. Call it only under the lock."""
        before = self.account, self.caller
        self.account, self.caller = account, caller
        try:
            yield
        finally:
            self.account, self.caller = before

    def later(self, wait: float | str, action: Callable[[], object]) -> None:
        """Defers an action. `wait` is in seconds, or a timing's name: a change of the timing meanwhile holds or
        releases the action."""
        self._actions.append((time.time(), wait, action))

    def shows(self, instance_id: str) -> bool:
        """Says if EC2's descriptions show the instance yet."""
        return time.time() - self.launched_at.get(instance_id, 0) >= self.timing["invisible"]

    def tick(self) -> None:
        """Runs the actions that are due, then records the changes."""
        with self.lock:
            while self._actions and self._due(first := min(self._actions, key=self._due)) <= time.time():
                self._actions.remove(first)
                first[2]()
                self.observe()
            self.observe()

    def _due(self, action: tuple[float, float | str, Callable[[], object]]):
        since, wait, _ = action
        return since + (self.timing[wait] if isinstance(wait, str) else wait)

    def observe(self) -> None:
        for group in groups():
            seen = describe(group)
            past = self.history.setdefault(group.name, [])
            if not past or {k: v for k, v in past[-1].items() if k != "t"} != seen:
                past.append({"t": time.time(), **seen})


def groups(region: str = "us-east-1") -> list[FakeAutoScalingGroup]:
    from moto.autoscaling.models import autoscaling_backends

    accounts = list(autoscaling_backends)
    return [g for account in accounts for g in autoscaling_backends[account][region].autoscaling_groups.values()]


def describe(group: FakeAutoScalingGroup) -> Shape:
    members = [
        {
            "instance_id": s.instance.id,
            "lifecycle_state": s.lifecycle_state,
            "state": s.instance.state,
            "type": s.instance.instance_type,
            "az": s.instance.placement.zone,
            "spot": s.instance.lifecycle == "spot",
        }
        for s in group.instance_states
    ]
    return {
        # A member that is dead but not yet noticed by the group doesn't count: it serves no traffic.
        "in_service": sum(m["lifecycle_state"] == "InService" and m["state"] == "running" for m in members),
        "desired": group.desired_capacity,
        "min": group.min_size,
        "max": group.max_size,
        "suspended": sorted(p["ProcessName"] for p in group.suspended_processes),
        "members": members,
    }


WORLD = World()
