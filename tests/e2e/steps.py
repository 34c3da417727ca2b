"""The steps of a script that both models of AWS play: calls of boto3, and what is compared of their answers.

Their parameters name things by `$`: `$group`, `$1` (the first member), `$new` (launched under this name). What is compared
names them so, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_aws.shapes import Shape

TABLE = {"TableName": "$table"}
# The last row of a page: no order of rows is promised, so that each side has its own.
CURSOR = "$last"


@dataclass(frozen=True)
class Step:
    """One call. `keep` takes what is compared out of the answer; `names` takes the id that a later `$name` stands for."""

    service: str
    method: str
    parameters: Shape = field(default_factory=dict)
    keep: Callable[[Shape], Any] = lambda answer: "accepted"
    names: dict[str, Callable[[Shape], str]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.method


@dataclass(frozen=True)
class Act:
    """Something besides a call: a look at the state, or the course of time before it."""

    label: str


LOOK, SETTLE, PROTECT, END_EXECUTION = Act("look"), Act("settle"), Act("protect $1 from termination"), Act("end the execution")
SCHEDULE = Act("schedule an action in an hour")


@dataclass(frozen=True)
class Script:
    """Steps over a group of this kind."""

    steps: Sequence[Step | Act]
    size: int = 1
    minimum: int = 0
    maximum: int = 2
    has_target_group: bool = False
    has_address: bool = False
    hook: str = ""  # launching, terminating


def attach(*names: str) -> Step:
    return Step("autoscaling", "attach_instances", {"AutoScalingGroupName": "$group", "InstanceIds": list(names)})


def detach(name: str, decrement: bool = True) -> Step:
    parameters = {"AutoScalingGroupName": "$group", "InstanceIds": [name], "ShouldDecrementDesiredCapacity": decrement}
    return Step("autoscaling", "detach_instances", parameters, keep=lambda answer: _shrinking(answer["Activities"][0]))


def terminate_in_group(name: str, decrement: bool = True) -> Step:
    parameters = {"InstanceId": name, "ShouldDecrementDesiredCapacity": decrement}
    method = "terminate_instance_in_auto_scaling_group"
    return Step("autoscaling", method, parameters, keep=lambda answer: _shrinking(answer["Activity"]))


def _shrinking(activity: Shape) -> list[str]:
    """Returns the part of an activity's cause that says what became of desired."""
    return re.findall(r"shrinking the capacity from \d+ to \d+", activity["Cause"])


def of_group(method: str, **parameters: Any) -> Step:
    return Step("autoscaling", method, {"AutoScalingGroupName": "$group", **parameters})


def launch(name: str, token: str = "", **more: Any) -> Step:
    """Launches an instance, which is called `$name` from then on; asked again with its token, it has the same id."""
    parameters = {"ImageId": "$image", "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1, "SubnetId": "$subnet", **more}
    parameters |= {"ClientToken": f"$group-{token}"} if token else {}
    return Step(
        "ec2", "run_instances", parameters, names={f"${name}": lambda answer: answer["Instances"][0]["InstanceId"]},
        keep=lambda answer: [[i["InstanceId"], i["State"]["Name"], i.get("InstanceLifecycle")] for i in answer["Instances"]],
    )  # fmt: skip


def terminate(name: str) -> Step:
    keep: Callable[[Shape], Any] = lambda answer: [i["PreviousState"]["Name"] for i in answer["TerminatingInstances"]]  # noqa: E731
    return Step("ec2", "terminate_instances", {"InstanceIds": [name]}, keep=keep)


def tag_group(value: str) -> Step:
    tag = {"ResourceId": "$group", "ResourceType": "auto-scaling-group", "Key": "team", "Value": value, "PropagateAtLaunch": True}
    return Step("autoscaling", "create_or_update_tags", {"Tags": [tag]})


def untag_group(key: str) -> Step:
    tag = {"ResourceId": "$group", "ResourceType": "auto-scaling-group", "Key": key}
    return Step("autoscaling", "delete_tags", {"Tags": [tag]})


def group_tags() -> Step:
    def keep(answer: Shape) -> Any:
        return [[t["Key"], t["Value"], t["PropagateAtLaunch"]] for t in answer["AutoScalingGroups"][0]["Tags"]]

    return Step("autoscaling", "describe_auto_scaling_groups", {"AutoScalingGroupNames": ["$group"]}, keep=keep)


def members() -> Step:
    def keep(answer: Shape) -> Any:
        told = ("InstanceId", "InstanceType", "AvailabilityZone", "LifecycleState", "HealthStatus", "ProtectedFromScaleIn")
        found = answer["AutoScalingGroups"][0]["Instances"]
        return [[*(m[key] for key in told), m.get("LaunchTemplate", {}).get("Version")] for m in found]

    return Step("autoscaling", "describe_auto_scaling_groups", {"AutoScalingGroupNames": ["$group"]}, keep=keep)


def hooks() -> Step:
    def keep(answer: Shape) -> Any:
        told = ("LifecycleHookName", "LifecycleTransition", "HeartbeatTimeout", "GlobalTimeout", "DefaultResult")
        return [[hook[key] for key in told] for hook in answer["LifecycleHooks"]]

    return Step("autoscaling", "describe_lifecycle_hooks", {"AutoScalingGroupName": "$group"}, keep=keep)


def status_checks(name: str) -> Step:
    def keep(answer: Shape) -> Any:
        return [
            [s["InstanceState"]["Name"], s["InstanceStatus"]["Status"], s["SystemStatus"]["Status"]] for s in answer["InstanceStatuses"]
        ]

    return Step("ec2", "describe_instance_status", {"InstanceIds": [name]}, keep=keep)


def spot_request(name: str) -> Step:
    def keep(answer: Shape) -> Any:
        return [[r["InstanceId"], r["State"], r["Status"]["Code"]] for r in answer["SpotInstanceRequests"]]

    wanted = [{"Name": "instance-id", "Values": [name]}]
    return Step("ec2", "describe_spot_instance_requests", {"Filters": wanted}, keep=keep)


def tags_of(name: str, *keys: str) -> Step:
    """Reads these tags of an instance: the templates of the two sides have others, too."""

    def keep(answer: Shape) -> Any:
        found = answer["Reservations"][0]["Instances"][0].get("Tags", [])
        return sorted([tag["Key"], tag["Value"]] for tag in found if tag["Key"] in keys)

    return Step("ec2", "describe_instances", {"InstanceIds": [name]}, keep=keep)


def ec2(method: str, keep: Callable[[Shape], Any] = lambda answer: "accepted", **parameters: Any) -> Step:
    return Step("ec2", method, parameters, keep=keep)


def instances_by(**filters: str) -> Step:
    """Returns the instances that pass the filters; `_` stands for `-`."""
    wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    return ec2("describe_instances", _instance_ids, Filters=wanted)


def _instance_ids(answer: Shape) -> list[str]:
    return [i["InstanceId"] for reservation in answer["Reservations"] for i in reservation["Instances"]]


def publish(topic: str = "$topic", **message: str) -> Step:
    return Step("sns", "publish", {"TopicArn": topic, **message})


def put_events(*entries: Shape) -> Step:
    def keep(answer: Shape) -> Any:
        return [answer["FailedEntryCount"], [entry.get("ErrorCode") for entry in answer["Entries"]]]

    return Step("events", "put_events", {"Entries": list(entries)}, keep=keep)


def batch(method: str, rows: Any) -> Step:
    """A call about many rows of the table."""

    def keep(answer: Shape) -> Any:
        found = answer.get("Responses", {})
        return [sorted(json.dumps(item, sort_keys=True) for items in found.values() for item in items), answer.get("UnprocessedKeys")]

    return Step("dynamodb", method, {"RequestItems": {"$table": rows}}, keep=keep)


def targets(method: str, *names: str, **more: Any) -> Step:
    parameters = {"TargetGroupArn": "$target_group", "Targets": [{"Id": name} for name in names], **more}

    def keep(answer: Shape) -> Any:
        found = answer.get("TargetHealthDescriptions", [])
        return [[t["Target"]["Id"], t["TargetHealth"]["State"], t["TargetHealth"].get("Reason")] for t in found]

    return Step("elbv2", method, parameters, keep=keep)


def row(method: str, **parameters: Any) -> Step:
    """A call about rows of the table, whose whole answer is compared."""
    return Step("dynamodb", method, {**TABLE, **parameters}, keep=_of_rows)


def page(**parameters: Any) -> Step:
    """A page of a scan. Its rows are counted: which ones come first is up to each side."""
    keep: Callable[[Shape], Any] = lambda answer: [answer["Count"], answer["ScannedCount"], "LastEvaluatedKey" not in answer]  # noqa: E731
    last: Callable[[Shape], str] = lambda answer: answer.get("LastEvaluatedKey", {}).get("target", {}).get("S", "")  # noqa: E731
    return Step("dynamodb", "scan", {**TABLE, **parameters}, keep=keep, names={CURSOR: last})


def transaction(*writes: Shape, token: str | None = None) -> Step:
    parameters: Shape = {"TransactItems": [{verb: {**TABLE, **write}} for each in writes for verb, write in each.items()]}
    return Step("dynamodb", "transact_write_items", parameters | ({"ClientRequestToken": token} if token else {}))


def _of_rows(answer: Shape) -> Shape:
    told = {key: value for key, value in answer.items() if key not in ("ResponseMetadata", "LastEvaluatedKey", "ConsumedCapacity")}
    if "Items" in told:
        told["Items"] = sorted(told["Items"], key=lambda item: json.dumps(item, sort_keys=True))
        told["is_last_page"] = "LastEvaluatedKey" not in answer
    return told


def start(name: str, input: Shape, machine: str = "$machine") -> Step:
    parameters = {"stateMachineArn": machine, "name": name, "input": json.dumps(input)}
    arn: Callable[[Shape], str] = lambda answer: answer["executionArn"]  # noqa: E731
    return Step("stepfunctions", "start_execution", parameters, keep=arn, names={"$execution": arn})


def describe_execution(arn: str = "$execution") -> Step:
    return Step(
        "stepfunctions", "describe_execution", {"executionArn": arn}, keep=lambda answer: [answer["name"], answer["status"] == "RUNNING"]
    )
