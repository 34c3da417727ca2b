"""The two models of AWS, each behind the same calls of boto3: local AWS, and the world of `tests/world`."""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local_aws.paths import REGION, target_dir
from local_aws.shapes import Shape
from steps import CURSOR, LOOK, PROTECT, SCHEDULE, SETTLE, Script, Step

if TYPE_CHECKING:
    from local_aws.stack import LocalAws

# Longer than any script. Local AWS holds each delayed transition until the script lets the time pass.
HELD_SECONDS = 600
TRANSITIONS = (
    "pending", "boot", "attach", "detach", "group_launch", "replace", "launch_hook", "terminate_hook", "target_initial", "target_drain",
    "stop", "image",
)  # fmt: skip
SETTLES_SECONDS = 20
HOUR = datetime.timedelta(hours=1)
TARGET_OF_RULE = "arn:aws:lambda:us-east-1:123456789012:function:risk-manager"


class Side:
    """One model of AWS with a group in it. `things` has its ids by the names of the script."""

    def __init__(self) -> None:
        self.things: dict[str, str] = {}

    def client(self, service: str) -> Any:
        raise NotImplementedError

    def settle(self, until: Any) -> Any:
        """Lets everything come that is under way. Returns the state then."""
        raise NotImplementedError

    def protect(self, instance_id: str) -> None:
        raise NotImplementedError

    def end_execution(self, arn: str) -> None:
        raise NotImplementedError

    def schedule(self) -> None:
        """Plans an action of the group in an hour, between `$soon` and `$late`."""
        raise NotImplementedError

    def _moments(self, now: datetime.datetime) -> dict[str, str]:
        return {"$soon": (now + HOUR / 2).isoformat(), "$late": (now + 2 * HOUR).isoformat()}

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
            elif step is PROTECT:
                outcomes.append(self.protect(self.things["$1"]))
            elif step is SCHEDULE:
                outcomes.append(self.schedule())
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
            "members": sorted([self._name(m["InstanceId"]), m["LifecycleState"], m["HealthStatus"]] for m in group["Instances"]),
            "instances": {name: self._state(id) for name, id in self.things.items() if id.startswith("i-")},
        }
        seen |= {"targets": self._targets()} if "$target_group" in self.things else {}
        seen |= {"address": self._holder()} if "$address" in self.things else {}
        own = {name: id for name, id in self.things.items() if id.startswith("ami-") and name != "$image"}
        return seen | ({"images": {name: self._image(id) for name, id in own.items()}} if own else {})

    def _targets(self) -> dict[str, str]:
        found = self.client("elbv2").describe_target_health(TargetGroupArn=self.things["$target_group"])
        return {self._name(t["Target"]["Id"]): t["TargetHealth"]["State"] for t in found["TargetHealthDescriptions"]}

    def _holder(self) -> str:
        (found,) = self.client("ec2").describe_addresses(AllocationIds=[self.things["$address"]])["Addresses"]
        return self._name(found["InstanceId"]) if found.get("InstanceId") else ""

    def _image(self, image_id: str) -> str:
        named = [{"Name": "image-id", "Values": [image_id]}]
        return next((i["State"] for i in self.client("ec2").describe_images(Owners=["self"], Filters=named)["Images"]), "")

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
        more = {"hook": script.hook} if script.hook else {}
        more |= {"address": "true"} if script.has_address else {}
        scene = self.act("begin", **sizes, zones=2, target_group=has, **more)
        self.things = {
            "$group": scene["group"], "$image": scene["image"], "$subnet": scene["subnets"][0],
            "$elsewhere": scene["subnets"][1], "$table": "spot-optimizer-swaps", "$machine": scene["state_machine"],
            "$topic": scene["topic"], "$rule": "spot-optimizer-notices",
            **self._moments(datetime.datetime.fromisoformat(self.act("pass", seconds=0)["now"][:19] + "+00:00")),
            **{f"${number}": member for number, member in enumerate(scene["members"], 1)},
            **({"$target_group": scene["target_group"]} if scene["target_group"] else {}),
            **({"$address": scene["address"]} if script.has_address else {}),
        }  # fmt: skip
        described = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[scene["group"]])
        self.things["$template"] = described["AutoScalingGroups"][0]["LaunchTemplate"]["LaunchTemplateId"]
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

    def protect(self, instance_id: str) -> None:
        self.act("act/protect", instance=instance_id)

    def end_execution(self, arn: str) -> None:
        self.act("act/end-execution", arn=arn)

    def schedule(self) -> None:
        self.act("act/schedule", group=self.things["$group"], seconds=int(HOUR.total_seconds()))

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
            "$template": self.group.template_id, "$rule": self._rule(),
            **self._moments(datetime.datetime.now(datetime.timezone.utc)),
            **({"$target_group": self.group.target_group} if script.has_target_group else {}),
            **({"$address": self.client("ec2").allocate_address(Domain="vpc")["AllocationId"]} if script.has_address else {}),
        }  # fmt: skip
        if script.hook:
            self.client("autoscaling").put_lifecycle_hook(
                AutoScalingGroupName=self.group.name, LifecycleHookName="hook", HeartbeatTimeout=300,
                LifecycleTransition=f"autoscaling:EC2_INSTANCE_{script.hook.upper()}",
            )  # fmt: skip
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

    def protect(self, instance_id: str) -> None:
        self.client("ec2").modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": True})

    def end_execution(self, arn: str) -> None:
        self.client("stepfunctions").stop_execution(executionArn=arn)

    def schedule(self) -> None:
        self.client("autoscaling").put_scheduled_update_group_action(
            AutoScalingGroupName=self.group.name, ScheduledActionName="scale", DesiredCapacity=1,
            StartTime=datetime.datetime.now(datetime.timezone.utc) + HOUR,
        )  # fmt: skip

    def delete(self) -> None:
        self.aws.control.reset()
        with contextlib.suppress(ClientError):
            self.client("autoscaling").delete_scheduled_action(AutoScalingGroupName=self.group.name, ScheduledActionName="scale")
        self.group.delete()
        self._delete_belongings()
        self.client("dynamodb").delete_table(TableName=self.things["$table"])
        self.client("sns").delete_topic(TopicArn=self.things["$topic"])
        self.client("stepfunctions").delete_state_machine(stateMachineArn=self.things["$machine"])
        self.client("iam").delete_role(RoleName=self.things["$machine"].rsplit(":", 1)[1])

    def _delete_belongings(self) -> None:
        """Deletes what later tests would take for waste: images, their snapshots, the address. And the rule."""
        ec2, events = self.client("ec2"), self.client("events")
        ours = [{"Name": "tag:probe", "Values": [self.group.name]}]
        for image in ec2.describe_images(Owners=["self"], Filters=ours)["Images"]:
            ec2.deregister_image(ImageId=image["ImageId"])
        for snapshot in ec2.describe_snapshots(OwnerIds=["self"], Filters=ours)["Snapshots"]:
            ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
        if "$address" in self.things:
            ec2.release_address(AllocationId=self.things["$address"])
        events.remove_targets(Rule=self.things["$rule"], Ids=["1"])
        events.delete_rule(Name=self.things["$rule"])

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

    def _rule(self) -> str:
        """Makes a rule that nothing matches."""
        name, pattern = f"fidelity-{uuid.uuid4().hex[:8]}", {"source": ["aws.ec2"], "detail-type": ["none"]}
        self.client("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
        self.client("events").put_targets(Rule=name, Targets=[{"Id": "1", "Arn": TARGET_OF_RULE}])
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
