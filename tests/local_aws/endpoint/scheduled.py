"""Runs scheduled actions at their time; moto only keeps them.

Auto Scaling User Guide, "Scheduled scaling for Amazon EC2 Auto Scaling"; DescribeScheduledActions: EndTime is the
latest scheduled start time to return. Recurring actions are not played: for those, AWS returns the next time
(terraform-provider-aws #41200).
"""

from __future__ import annotations

import datetime
from typing import Any

from moto.autoscaling.models import AutoScalingBackend
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from .lifecycle import suspended
from .world import WORLD


def install() -> None:
    put = AutoScalingBackend.put_scheduled_update_group_action

    def scheduled(self: Any, **given):
        if given["start_time"] is None:
            raise NotImplementedError("local AWS plays scheduled actions that have a StartTime")
        action = put(self, **{**given, "start_time": _moment(given["start_time"])})
        seconds = (action.start_time - datetime.datetime.now(datetime.UTC)).total_seconds()
        WORLD.later(max(seconds, 0), lambda: _perform(self, action))
        return action

    AutoScalingBackend.put_scheduled_update_group_action = scheduled
    AutoScalingResponse.describe_scheduled_actions = _describe


def _perform(backend: AutoScalingBackend, action: Any):
    if backend.scheduled_actions.get(action.scheduled_action_name) is not action:
        return  # The action was deleted or replaced.
    del backend.scheduled_actions[action.scheduled_action_name]
    group = backend.autoscaling_groups.get(action.auto_scaling_group_name)
    if group is None or suspended(group, "ScheduledActions"):
        return
    group.min_size = group.min_size if action.min_size is None else action.min_size
    group.max_size = group.max_size if action.max_size is None else action.max_size
    wanted = group.desired_capacity if action.desired_capacity is None else action.desired_capacity
    group.desired_capacity = min(max(wanted, group.min_size), group.max_size)
    WORLD.later("group_reacts", lambda: group.set_desired_capacity(group.desired_capacity))


def _describe(self: Any):
    found = self.autoscaling_backend.describe_scheduled_actions(
        autoscaling_group_name=self._get_param("AutoScalingGroupName"),
        scheduled_action_names=self._get_param("ScheduledActionNames", []),
    )
    if until := self._get_param("EndTime"):
        found = [action for action in found if action.start_time <= _moment(until)]
    return ActionResult({"ScheduledUpdateGroupActions": found})


def _moment(told: str):
    moment = told if isinstance(told, datetime.datetime) else datetime.datetime.fromisoformat(told)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
