"""The loop and the answer to an interruption, measured.

A sweep over 500 enrolled groups that are on Spot already runs alone, against pre-rendered pages. The rest runs on local AWS:
a notice, and groups of 50 whose instances boot and drain as long as real ones, scaled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from . import bench_governance
from .build import BuildFailed
from .progress import say

if TYPE_CHECKING:
    from .groups import Group
    from .stack import LocalAws

LIMITS = {
    "a sweep over 500 groups": (20, "calls"),
    "a sweep over 500 groups, CPU": (0.2, "s CPU"),
    "notice to the first change, warm": (2.0, "s"),
    "a group of 50, one ahead of three": (0.34, "times"),
    "state transitions of a swap": (40, "transitions"),
}
GROUPS, MEMBERS, SIZE = 500, 3, 50
# A twentieth of what real instances take, as Step Functions' waits on local AWS: four minutes until both status checks pass,
# ten seconds until the target group finds them healthy, half a minute of connections to drain.
SCALE = 20
TIMING = {"pending": 20 / SCALE, "boot": 240 / SCALE, "target_initial": 10 / SCALE, "target_drain": 30 / SCALE}
CHANGES = ("UpdateAutoScalingGroup", "SetDesiredCapacity", "TerminateInstanceInAutoScalingGroup")

_GROUP = (
    "<member><AutoScalingGroupName>web-{n}</AutoScalingGroupName><AutoScalingGroupARN>arn:aws:autoscaling:us-east-1:123456789012:"
    "autoScalingGroup:00000000-0000-0000-0000-{n:012}:autoScalingGroupName/web-{n}</AutoScalingGroupARN><LaunchTemplate>"
    "<LaunchTemplateId>lt-0abcdef1234567890</LaunchTemplateId><LaunchTemplateName>web</LaunchTemplateName><Version>$Latest</Version>"
    "</LaunchTemplate><MinSize>1</MinSize><MaxSize>6</MaxSize><DesiredCapacity>3</DesiredCapacity><DefaultCooldown>300</DefaultCooldown>"
    "<AvailabilityZones><member>us-east-1a</member></AvailabilityZones><LoadBalancerNames/><TargetGroupARNs/>"
    "<HealthCheckType>EC2</HealthCheckType><HealthCheckGracePeriod>0</HealthCheckGracePeriod><Instances>{members}</Instances>"
    "<CreatedTime>2026-01-01T00:00:00.000Z</CreatedTime><SuspendedProcesses/><VPCZoneIdentifier>subnet-0abcdef1234567890"
    "</VPCZoneIdentifier><EnabledMetrics/><Tags><member><ResourceId>web-{n}</ResourceId><ResourceType>auto-scaling-group</ResourceType>"
    "<Key>spot-optimizer:enabled</Key><Value>true</Value><PropagateAtLaunch>false</PropagateAtLaunch></member></Tags>"
    "<TerminationPolicies><member>Default</member></TerminationPolicies><NewInstancesProtectedFromScaleIn>false"
    "</NewInstancesProtectedFromScaleIn><CapacityRebalance>false</CapacityRebalance></member>"
)
_MEMBER = (
    "<member><InstanceId>i-{i:017x}</InstanceId><InstanceType>m5.large</InstanceType><AvailabilityZone>us-east-1a</AvailabilityZone>"
    "<LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus><LaunchTemplate><LaunchTemplateId>"
    "lt-0abcdef1234567890</LaunchTemplateId><LaunchTemplateName>web</LaunchTemplateName><Version>1</Version></LaunchTemplate>"
    "<ProtectedFromScaleIn>false</ProtectedFromScaleIn></member>"
)
_SPOT = "<instanceLifecycle>spot</instanceLifecycle><spotInstanceRequestId>sir-0abcdef1</spotInstanceRequestId></item>"


def sweep(bootstrap: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """(seconds of CPU, calls) of one sweep over 500 groups of three Spot instances each."""
    rendered = [_GROUP.format(n=n, members="".join(_MEMBER.format(i=n * MEMBERS + m) for m in range(MEMBERS))) for n in range(GROUPS)]
    pages = {"DescribeAutoScalingGroups": _pages(rendered), "DescribeInstances": _instances}
    measured = bench_governance.measure(bootstrap, pages, environment)
    if measured.answer.get("looked_at") != GROUPS or any(measured.answer.get(k) for k in ("started", "deferred", "failed", "partial")):
        raise RuntimeError(f"{bootstrap} did not sweep {GROUPS} groups: {str(measured.answer)[:500]}")
    return measured.cpu, measured.calls


def _pages(groups: list[str], size: int = 100):
    firsts = range(0, len(groups), size)
    following = [f"<NextToken>{number}</NextToken>" for number in range(1, len(firsts))] + [""]
    return [
        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups>"
        f"{''.join(groups[first : first + size])}</AutoScalingGroups>{token}</DescribeAutoScalingGroupsResult>"
        "</DescribeAutoScalingGroupsResponse>"
        for first, token in zip(firsts, following)
    ]


def _instances(body: str):
    """Renders the instances that the call names."""
    asked = [int(found, 16) for found in re.findall(r"InstanceId\.\d+=i-(\w+)", body)]
    items = [bench_governance.INSTANCE.format(n=n, owned=bench_governance.OWNED).removesuffix("</item>") + _SPOT for n in asked]
    whole = f"<item><instancesSet>{''.join(items)}</instancesSet></item>"
    return f"<DescribeInstancesResponse><reservationSet>{whole}</reservationSet></DescribeInstancesResponse>"


def rows(aws: LocalAws) -> list[tuple[str, str, float]]:
    return [*_notice(aws), *_group_of_fifty(aws)]


def _notice(aws: LocalAws):
    """The second notice: the first one warms the functions up."""
    for _ in range(2):
        group = aws.create_group(size=2, maximum=4, tags={"spot-optimizer:enabled": "true"})
        aws.swap(group.name)
        aws.control.clear_calls()
        told = time.time()
        aws.deliver("InterruptionResponderFunctionName", aws.drill_event(group.spot[0]))
        seconds = _first_change(aws, group) - told
    return [("interruption-responder", "notice to the first change, warm", seconds)]


def _first_change(aws: LocalAws, group: Group, timeout: float = 30):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if made := [call["t"] for call in aws.control.calls() if call["action"] in CHANGES]:
            return min(made)
        time.sleep(0.05)
    raise BuildFailed(f"nobody answered the notice in group {group.name}")


def _run_to_its_end(aws: LocalAws, arn: str):
    """Returns the executions of the run: one that comes near the limits of Step Functions goes on in another."""
    arns, swapped, left = [arn], 0, []
    while True:
        execution = aws.wait_execution(arns[-1], timeout=3600)
        if execution["status"] != "SUCCEEDED":
            raise BuildFailed(f"the swap of {SIZE} did not succeed: {execution.get('cause')}")
        output = execution["output"]
        swapped += len(output["swapped"])
        left += output["skipped"] + output["rolled_back"]
        if "continued_in" not in output:
            break
        arns.append(output["continued_in"])
    if swapped != SIZE:
        raise BuildFailed(f"{swapped} of {SIZE} were swapped; left: {left}")
    return arns


def _group_of_fifty(aws: LocalAws):
    """Two groups side by side; the machine does little but wait for them."""
    aws.control.timing(**TIMING)
    seconds, transitions = {}, {}
    began, running = time.monotonic(), {}
    for ahead in (1, 3):
        group = aws.create_group(size=SIZE, maximum=SIZE + 1, with_target_group=True)
        aws.settings(launch_ahead=ahead)
        running[ahead] = aws.start_execution({"asg_name": group.name})
        aws.wait_state(running[ahead], "Launch")  # The run has read its settings.
    for ahead in (3, 1):
        arns = _run_to_its_end(aws, running[ahead])
        seconds[ahead] = time.monotonic() - began
        transitions[ahead] = sum(len(aws.states(arn)) for arn in arns) / SIZE
    aws.control.reset()
    say(
        f"  a group of {SIZE}: {seconds[1]:.0f} s and {transitions[1]:.0f} transitions a swap with launch_ahead 1, "
        f"{seconds[3]:.0f} s and {transitions[3]:.0f} with 3 ({seconds[1] / seconds[3]:.1f} times faster)"
    )
    return [
        ("cluster-optimizer", "a group of 50, one ahead of three", seconds[3] / seconds[1]),
        ("cluster-optimizer", "state transitions of a swap", transitions[3]),
    ]
