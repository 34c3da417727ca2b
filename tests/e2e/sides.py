"""The two models of AWS, each behind the same calls of boto3: local AWS, and the world of `tests/world`.

A script is a list of steps. Its parameters name things by `$`: `$group`, `$1` (the first member), `$new` (launched under this
name). What is compared names them so, too.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws.paths import REGION, target_dir
from local_aws.shapes import Shape

if TYPE_CHECKING:
    from local_aws.stack import LocalAws

# Longer than any script. Local AWS holds each delayed transition until the script lets the time pass.
HELD_SECONDS = 600
TRANSITIONS = ("pending", "attach", "detach", "group_launch", "replace", "target_initial", "target_drain")
SETTLES_SECONDS = 20
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


LOOK, SETTLE, END_EXECUTION = Act("look"), Act("settle"), Act("end the execution")


@dataclass(frozen=True)
class Script:
    """Steps over a group of this kind."""

    steps: Sequence[Step | Act]
    size: int = 1
    minimum: int = 0
    maximum: int = 2
    has_target_group: bool = False


class Side:
    """One model of AWS with a group in it. `things` has its ids by the names of the script."""

    def __init__(self) -> None:
        self.things: dict[str, str] = {}

    def client(self, service: str) -> Any:
        raise NotImplementedError

    def settle(self, until: Any) -> Any:
        """Lets everything come that is under way. Returns the state then."""
        raise NotImplementedError

    def end_execution(self, arn: str) -> None:
        raise NotImplementedError

    def play(self, script: Script, until: Sequence[Any] = ()) -> list[Any]:
        """Returns the outcome of each step. `until` are the outcomes of the other side, to wait for."""
        outcomes: list[Any] = []
        for number, step in enumerate(script.steps):
            if isinstance(step, Step):
                outcomes.append(self._call(step))
            elif step is LOOK:
                outcomes.append(self.look())
            elif step is SETTLE:
                outcomes.append(self.settle(until[number] if until else None))
            else:
                outcomes.append(self.end_execution(self.things["$execution"]))
        return outcomes

    def _call(self, step: Step) -> Any:
        try:
            answer = getattr(self.client(step.service), step.method)(**self._with_ids(step.parameters))
        except ClientError as error:
            return self._with_names(_refusal(step.service, error.response))
        for name, of in step.names.items():
            self.things.setdefault(name, of(answer))
        return self._with_names(step.keep(answer))

    def look(self) -> Shape:
        """Returns group, instances and targets as they are described."""
        described = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.things["$group"]])
        group = described["AutoScalingGroups"][0]
        seen = {
            "sizes": [group[size] for size in ("MinSize", "DesiredCapacity", "MaxSize")],
            "suspended": sorted(process["ProcessName"] for process in group["SuspendedProcesses"]),
            "members": sorted([self._name(m["InstanceId"]), m["LifecycleState"]] for m in group["Instances"]),
            "instances": {name: self._state(id) for name, id in self.things.items() if id.startswith("i-")},
        }
        return seen | ({"targets": self._targets()} if "$target_group" in self.things else {})

    def _targets(self) -> dict[str, str]:
        found = self.client("elbv2").describe_target_health(TargetGroupArn=self.things["$target_group"])
        return {self._name(t["Target"]["Id"]): t["TargetHealth"]["State"] for t in found["TargetHealthDescriptions"]}

    def _state(self, instance_id: str) -> str:
        try:
            found = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        except ClientError as error:
            return error.response["Error"]["Code"]
        return found["Reservations"][0]["Instances"][0]["State"]["Name"]

    def _name(self, thing: str) -> str:
        return next((name for name, known in self.things.items() if known == thing), "another")

    def _with_ids(self, value: Any) -> Any:
        return _replaced(value, self.things)

    def _with_names(self, value: Any) -> Any:
        return _replaced(value, {known: name for name, known in self.things.items() if name != CURSOR})


def _refusal(service: str, response: Shape) -> Shape:
    """Returns what the code under test reads of a refusal. Auto Scaling tells its own apart by text alone."""
    error = response["Error"]
    told = {"refused": error["Code"]}
    if service == "autoscaling":
        told["text"] = error["Message"]
    if "Item" in response:
        told["item"] = response["Item"]
    if "CancellationReasons" in response:
        told["reasons"] = [[r.get("Code"), r.get("Item")] for r in response["CancellationReasons"]]
    return told


def _replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {_replaced(key, names): _replaced(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, names) for inner in value]
    if isinstance(value, str):
        for name in sorted(names, key=len, reverse=True):
            value = value.replace(name, names[name])
    return value


class WorldServer(Side):
    """The world's model, served by a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.process = subprocess.Popen([target_dir() / "debug" / "world"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.base = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.clients: dict[str, Any] = {}

    def begin(self, script: Script) -> WorldServer:
        has = "true" if script.has_target_group else "false"
        sizes = {"size": script.size, "min": script.minimum, "max": script.maximum}
        scene = self.act("begin", **sizes, zones=2, target_group=has)
        self.things = {
            "$group": scene["group"], "$image": scene["image"], "$subnet": scene["subnets"][0],
            "$elsewhere": scene["subnets"][1], "$table": "spot-optimizer-swaps", "$machine": scene["state_machine"],
            "$topic": scene["topic"],
            **{f"${number}": member for number, member in enumerate(scene["members"], 1)},
            **({"$target_group": scene["target_group"]} if scene["target_group"] else {}),
        }  # fmt: skip
        return self

    def client(self, service: str) -> Any:
        if service not in self.clients:
            session, config = boto3.Session("test", "test", region_name=REGION), Config(retries={"total_max_attempts": 1})
            self.clients[service] = session.client(service, endpoint_url=self.base, config=config)
        return self.clients[service]

    def act(self, act: str, **query: Any) -> Any:
        url = f"{self.base}/_world/{act}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{act}: {error.read().decode()}") from None

    def settle(self, until: Any) -> Any:
        for _ in range(4):
            self.act("act/groups")
            self.act("pass", seconds=120)
        return self.look()

    def end_execution(self, arn: str) -> None:
        self.act("act/end-execution", arn=arn)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=10)


class LocalSide(Side):
    """Local AWS. Its transitions are held but for `settle`."""

    def __init__(self, aws: LocalAws, script: Script) -> None:
        super().__init__()
        self.aws, network = aws, aws.network
        self.group = aws.create_group(
            size=script.size, minimum=script.minimum, maximum=script.maximum, with_target_group=script.has_target_group
        )
        self.things = {
            "$group": self.group.name, "$image": network.image, "$subnet": network.subnets["us-east-1a"],
            "$elsewhere": network.subnets["us-east-1b"], "$table": self._table(), "$machine": self._machine(),
            "$topic": self.client("sns").create_topic(Name=f"fidelity-{uuid.uuid4().hex[:8]}")["TopicArn"],
            **{f"${number}": member for number, member in enumerate(self.group.instance_ids, 1)},
            **({"$target_group": self.group.target_group} if script.has_target_group else {}),
        }  # fmt: skip
        self._hold(*TRANSITIONS)
        if script.size:
            aws.control.timing(target_initial=0)

    def client(self, service: str) -> Any:
        return self.aws.client(service)

    def settle(self, until: Any) -> Any:
        self.aws.control.timing(**dict.fromkeys(TRANSITIONS, 0))
        self._wait_for(lambda: self.look() == until, or_go_on=True)
        seen = self.look()
        # A target's delay counts from its registration: a longer one would take the registered ones out of service.
        self._hold(*(set(TRANSITIONS) - ({"target_initial"} if seen.get("targets") else set())))
        return seen

    def end_execution(self, arn: str) -> None:
        self.client("stepfunctions").stop_execution(executionArn=arn)

    def delete(self) -> None:
        self.aws.control.reset()
        self.group.delete()
        self.client("dynamodb").delete_table(TableName=self.things["$table"])
        self.client("sns").delete_topic(TopicArn=self.things["$topic"])
        self.client("stepfunctions").delete_state_machine(stateMachineArn=self.things["$machine"])
        self.client("iam").delete_role(RoleName=self.things["$machine"].rsplit(":", 1)[1])

    def _hold(self, *transitions: str) -> None:
        self.aws.control.timing(**dict.fromkeys(transitions, HELD_SECONDS))

    def _table(self) -> str:
        name = f"fidelity-{uuid.uuid4().hex[:8]}"
        self.client("dynamodb").create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "target", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "target", "AttributeType": "S"}],
        )  # fmt: skip
        return name

    def _machine(self) -> str:
        name, trust = f"fidelity-{uuid.uuid4().hex[:8]}", {"Version": "2012-10-17", "Statement": []}
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        waits = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 86400, "End": True}}}
        made = self.client("stepfunctions").create_state_machine(name=name, definition=json.dumps(waits), roleArn=role)
        return made["stateMachineArn"]

    @staticmethod
    def _wait_for(condition: Callable[[], bool], or_go_on: bool = False) -> None:
        deadline = time.monotonic() + SETTLES_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                if or_go_on:
                    return
                raise TimeoutError("local AWS does not settle")
            time.sleep(0.05)


# -- steps -----------------------------------------------------------------------------------------------------------------


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


def both(aws: LocalAws, world: WorldServer, script: Script) -> Iterator[tuple[str, Any, Any]]:
    """Plays the script on both sides. Yields each step with the outcome on local AWS and that in the world."""
    in_world = world.begin(script).play(script)
    local = LocalSide(aws, script)
    try:
        on_local = local.play(script, until=in_world)
    finally:
        local.delete()
    for number, (step, ours, theirs) in enumerate(zip(script.steps, on_local, in_world)):
        yield f"{number} {step.label}", ours, theirs
