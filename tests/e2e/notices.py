"""Notices of EC2 about an instance, brought to the interruption responder as the rule brings them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_aws.shapes import Shape
    from scene import Scene

ENROLLED = {"spot-optimizer:enabled": "true"}
RESPONDER, MACHINE = "InterruptionResponderFunctionName", "InterruptionResponseStateMachineArn"


def hear(web: Scene, instance_id: str, *notice: str) -> Shape:
    """Brings the notice to the function; returns its answer."""
    event = web.aws.drill_event(instance_id, *notice, source="aws.ec2")
    answer, error = web.aws.invoke(RESPONDER, event)
    assert error is None, error
    return answer


def answered(web: Scene, started: Shape) -> Shape:
    """Returns the output of the execution that answers a notice."""
    assert "execution_arn" in started, started
    execution = web.aws.wait_execution(started["execution_arn"])
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return execution["output"]
