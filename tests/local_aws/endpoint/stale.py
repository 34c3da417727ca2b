"""Descriptions of a group that lag behind its changes, each field for itself.

moto shows a change at once and whole. Auto Scaling does not: terraform-provider-aws reads a group again and again after a
change of it (pull request 40088, "Handle eventual consistency"; issue 46437). No document of AWS says how long, or that the
fields of one answer are of one moment. So a test says which of them are old, and until when.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from moto.autoscaling.responses import AutoScalingResponse

from .lifecycle import member
from .world import WORLD, groups

if TYPE_CHECKING:
    from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState

    from ..shapes import Call, Shape

# A test's name for a field → moto's. The two others are of the members: who is one, and in which state.
FIELDS = {"desired": "desired_capacity", "max": "max_size", "suspended": "_suspended_processes", "tags": "_tags"}
OF_MEMBERS = ("members", "lifecycle")


class Stale:
    """What a group's description still shows of the past. `answered` counts the answers that did."""

    def __init__(self, fields: list[str], after: str | None = None, reads: int | None = None) -> None:
        if unknown := set(fields) - {*FIELDS, *OF_MEMBERS}:
            raise ValueError(f"unknown field: {', '.join(unknown)}")
        self.fields, self.after, self.reads, self.answered = fields, after, reads, 0
        self.past: FakeAutoScalingGroup | None = None

    def remember(self, group: FakeAutoScalingGroup) -> None:
        self.past = copy.copy(group)
        for name in ("_suspended_processes", "_tags"):
            setattr(self.past, name, list(getattr(group, name)))
        self.past.instance_states = [copy.copy(state) for state in group.instance_states]

    def told(self) -> Shape:
        return {"fields": self.fields, "after": self.after, "reads": self.reads, "answered": self.answered, "begun": self.past is not None}

    def view(self, group: FakeAutoScalingGroup) -> FakeAutoScalingGroup:
        """Returns the group as this description shows it."""
        if self.past is None or self.answered == self.reads:
            return group
        self.answered += 1
        shown = copy.copy(group)
        for name in self.fields:
            if name in FIELDS:
                setattr(shown, FIELDS[name], getattr(self.past, FIELDS[name]))
        listed = self.past if "members" in self.fields else group
        shown.instance_states = [self._member(group, state) for state in listed.instance_states]
        return shown

    def _member(self, group: FakeAutoScalingGroup, listed: InstanceState) -> InstanceState:
        """Shows a member that has left as it was: nothing newer is known of it."""
        before, now = member(self.past, listed.instance.id), member(group, listed.instance.id)
        shown = copy.copy(now or before)
        if "lifecycle" in self.fields and before:
            shown.lifecycle_state = before.lifecycle_state
        return shown


def install() -> None:
    describe = AutoScalingResponse.describe_auto_scaling_groups

    def described(self: Any):
        answer = describe(self)
        if WORLD.caller == "lambda":  # Tests see the group as it is.
            found = answer.result["AutoScalingGroups"]
            answer.result["AutoScalingGroups"] = [WORLD.stale[g.name].view(g) if g.name in WORLD.stale else g for g in found]
        return answer

    AutoScalingResponse.describe_auto_scaling_groups = described


def about_to(call: Call) -> None:
    """Remembers the groups whose descriptions are to lag behind this very call."""
    for name, stale in WORLD.stale.items():
        if stale.past is None and stale.after == call["action"] and call["caller"] == "lambda":
            group = next((g for g in groups() if g.name == name), None)
            params = call["params"]
            if group and (params.get("AutoScalingGroupName") == name or member(group, params.get("InstanceId", ""))):
                stale.remember(group)
