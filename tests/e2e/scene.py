"""A group as its owner had it before a swap, and its state in AWS afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from local_aws.shapes import Call, Shape

if TYPE_CHECKING:
    from local_aws.stack import LocalAws

SIZES = ("DesiredCapacity", "MinSize", "MaxSize")
REPORT = {"asg_name", "account_id", "region", "swapped", "skipped", "rolled_back", "remaining"}


class Scene:
    target_groups: tuple[tuple[str, str], ...] = ()  # Of others, with their balancers.

    def __init__(self, aws: LocalAws, **options: Any) -> None:
        self.aws = self.stack = aws  # Where the group lies, and where its journal does.
        self.group = aws.create_group(**options)
        self.name = self.group.name
        self.arn: str | None = None
        self.remember()

    def remember(self) -> None:
        """Records the owner's group now, as it must be afterwards."""
        self.before = self.group.describe()
        self.old = [i["InstanceId"] for i in self.before["Instances"]]
        self.capacity = self.aws.watch(self.name).__enter__()

    # -- acts ----------------------------------------------------------------------------------------------------

    def start(self, **input: Any) -> Scene:
        self.arn = self.aws.start_execution({"asg_name": self.name, **input})
        return self

    def start_held(self, **input: Any) -> Scene:
        """Starts the swap. The newcomer's status checks pass only after `let_go`, however long the test takes until then."""
        self.aws.control.newcomers(status="initializing")
        return self.start(**input)

    def let_go(self) -> Scene:
        """Lets the status checks of the newcomer pass, and those of all later ones."""
        self.aws.control.newcomers(status="ok")
        self.aws.control.instance(self.newcomer(), status="ok")
        return self

    def reach(self, state: str) -> Scene:
        """Returns once the execution has entered the state. The execution goes on: the rest of the test needs a hold."""
        self.aws.wait_state(self.arn, state)
        return self

    def reach_again(self, state: str) -> Scene:
        """Returns once the execution has gone through one full visit, from one entry into the state to the next."""
        wait_for_look(self.states, state)
        return self

    def end(self, timeout: float = 180) -> Shape:
        self.execution = self.aws.wait_execution(self.arn, timeout)
        return self.execution

    def swap(self, **input: Any) -> Shape:
        """Runs the swap to success; returns the report."""
        execution = self.start(**input).end()
        assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
        return execution["output"]

    def refused(self, **input: Any) -> tuple[str, str]:
        """Runs the swap to failure; returns its error and cause, once nothing of the swap is left."""
        self.aws.control.clear_calls()
        execution = self.start(**input).end()
        assert execution["status"] == "FAILED", execution["output"]
        return execution["error"], execution["cause"]

    def stop(self, then: Callable[[], object] | None = None) -> None:
        self.aws.stop_execution(self.arn, then=then)

    def reconcile_until_free(self, timeout: float = 60) -> None:
        """Runs the reconciler as its schedule does, until no execution holds the group any more."""
        wait_for(lambda: not self.leased() or (self.aws.invoke("ReconcilerFunctionName", {"task": "sweep"}) and False), timeout)

    def delete(self) -> None:
        if self.arn and self.running():
            self.stop()
        for balancer, target_group in self.target_groups:  # An address that they hold may be another's in the next test.
            self.aws.client("elbv2").delete_load_balancer(LoadBalancerArn=balancer)
            self.aws.client("elbv2").delete_target_group(TargetGroupArn=target_group)
        if self.exists():
            for instance_id in self.old:
                self.protect_from_termination(instance_id, False)
            self.group.delete()

    def protect_from_termination(self, instance_id: str, protect: bool = True) -> None:
        ec2 = self.aws.client("ec2")
        ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": protect})

    def tag_group(self, key: str, value: str, propagate: bool = False) -> None:
        tag = {"Key": key, "Value": value, "PropagateAtLaunch": propagate}
        tag |= {"ResourceId": self.name, "ResourceType": "auto-scaling-group"}
        self.aws.client("autoscaling").create_or_update_tags(Tags=[tag])

    def tag(self, instance_id: str, key: str, value: str) -> None:
        self.aws.client("ec2").create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": value}])

    def hook(self, transition: str, name: str = "drain", **more: Any) -> None:
        """Adds a lifecycle hook of the owner: "LAUNCHING" or "TERMINATING"."""
        self.aws.client("autoscaling").put_lifecycle_hook(
            AutoScalingGroupName=self.name, LifecycleHookName=name,
            LifecycleTransition=f"autoscaling:EC2_INSTANCE_{transition}", **more,
        )  # fmt: skip

    def foreign_target_group(self, *targets: str, kind: str = "instance", port: int = 80, vpc: str | None = None) -> str:
        """Makes a target group of another party, whose own port is 80, with these instances in it; returns its ARN."""
        elb, name = self.aws.client("elbv2"), f"other-{uuid.uuid4().hex[:8]}"
        made = elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=vpc or self.aws.network.vpc, TargetType=kind)
        arn = made["TargetGroups"][0]["TargetGroupArn"]
        self.target_groups = (*self.target_groups, (self.aws.network.listen(arn), arn))
        self.register(arn, *targets, port=port)
        return arn

    def register(self, target_group: str, *targets: str, port: int = 80) -> None:
        if targets:
            found = [{"Id": target, "Port": port} for target in targets]
            self.aws.client("elbv2").register_targets(TargetGroupArn=target_group, Targets=found)

    def new_template_version(self, **data: Any) -> None:
        self.aws.client("ec2").create_launch_template_version(
            LaunchTemplateId=self.group.template_id, SourceVersion="1", LaunchTemplateData=data
        )

    # -- looks ---------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        return self.name in self.aws.control.groups()

    @property
    def newcomers(self) -> list[Shape]:
        """Returns every instance that swaps of this group launched, in any state."""
        tagged = {"Name": "tag-key", "Values": ["spot-optimizer:swap"]}
        found = self.aws.client("ec2").describe_instances(Filters=[tagged])["Reservations"]
        return [i for r in found for i in r["Instances"] if self._swap_of(i).rsplit("-", 1)[0] in self.old]

    def newcomer(self, timeout: float = 60) -> str:
        """Returns the first newcomer, as soon as there is one."""
        return wait_for(lambda: self.newcomers, timeout)[0]["InstanceId"]

    @staticmethod
    def _swap_of(instance: Shape) -> str:
        return {t["Key"]: t["Value"] for t in instance.get("Tags", [])}.get("spot-optimizer:swap", "")

    def tags(self, instance_id: str) -> dict[str, str]:
        return {t["Key"]: t["Value"] for t in self.aws.instance(instance_id).get("Tags", [])}

    def serving_since(self, instance_id: str) -> float:
        """Returns the time when the group first had the instance in service."""
        return next(
            s["t"] for s in self.capacity.samples
            if any(m["instance_id"] == instance_id and m["lifecycle_state"] == "InService" for m in s["members"])
        )  # fmt: skip

    def row(self, target: str | None = None) -> Shape:
        key = {"target": target or self.before["AutoScalingGroupARN"]}
        return self.stack.table("SwapsTableName").get_item(Key=key, ConsistentRead=True).get("Item", {})

    def kept_pool(self, newcomer: str) -> str | None:
        """The pool that the Swaps table keeps, for news of the interruption that comes when EC2 has forgotten the instance."""
        region, account = self.before["AutoScalingGroupARN"].split(":")[3:5]
        return self.row(f"newcomer#{account}#{region}#{newcomer}").get("launched_into")

    def running(self) -> bool:
        return self.aws.client("stepfunctions").describe_execution(executionArn=self.arn)["status"] == "RUNNING"

    def leased(self) -> bool:
        return "lease_owner" in self.row()

    def states(self) -> list[str]:
        return [name for _, name in self.aws.states(self.arn)]

    # -- asserts -------------------------------------------------------------------------------------------------

    def assert_owners(self) -> None:
        """Sizes and processes are the owner's, capacity was never below, no stray instance runs, and no lease is held."""
        after = self.group.describe()
        assert {s: after[s] for s in SIZES} == {s: self.before[s] for s in SIZES}
        assert _processes(after) == _processes(self.before)
        assert self.capacity.lowest >= self.before["DesiredCapacity"]
        self.assert_no_stray()
        assert not {"lease_owner", "journal"} & set(self.row()), self.row()

    def assert_no_stray(self) -> None:
        members = self.group.instance_ids if self.exists() else []
        alive = [i["InstanceId"] for i in self.newcomers if i["State"]["Name"] in ("pending", "running")]
        assert set(alive) <= set(members), f"{set(alive) - set(members)} runs outside the group"

    def assert_swapped(self, report: Shape, *old: str) -> None:
        """These instances, by default all, were replaced by Spot; the rest is untouched."""
        replaced = old or self.old
        new = {s["old_instance_id"]: s["new_instance_id"] for s in report["swapped"]}
        assert sorted(new) == sorted(replaced), report
        assert sorted(self.group.instance_ids) == sorted({*self.old} - {*replaced} | {*new.values()})
        assert {self.aws.instance(i)["State"]["Name"] for i in replaced} == {"terminated"}
        assert {self.aws.instance(i)["InstanceLifecycle"] for i in new.values()} == {"spot"}
        assert [self.kept_pool(s["new_instance_id"]) for s in report["swapped"]] == [s["pool"] for s in report["swapped"]]
        self.assert_owners()

    def assert_rolled_back(self, report: Shape, reason: str, count: int = 1) -> None:
        """`count` swaps were undone for this reason, and the group has its old members."""
        assert [r["reason"] for r in report["rolled_back"]] == [reason] * count, report
        assert report["swapped"] == []
        assert {self.kept_pool(i["InstanceId"]) for i in self.newcomers} <= {None}, "we ended it ourselves"
        self.assert_untouched()

    def assert_untouched(self) -> None:
        """The owner's instances, all of them and only them, are in service."""
        instances = self.group.describe()["Instances"]
        assert sorted(i["InstanceId"] for i in instances) == sorted(self.old)
        assert [i["LifecycleState"] for i in instances] == [i["LifecycleState"] for i in self.before["Instances"]]
        self.assert_owners()

    def assert_nothing_changed(self, but: Iterable[str] = ()) -> None:
        """No Lambda made a call that changes anything."""
        changes = [c["action"] for c in self.aws.control.calls() if is_change(c)]
        assert set(changes) <= set(but), changes
        self.assert_untouched()

    def assert_never_leased(self) -> None:
        """The swap was refused before anything began: no lease, no row, no call that changes anything."""
        self.assert_nothing_changed()
        assert self.row() == {}

    def assert_nothing_changed_in_ec2(self) -> None:
        """The swap only acquired and released the lease, wrote the result of the run on the group, and told of it."""
        self.assert_nothing_changed(but=["UpdateItem", "CreateOrUpdateTags", "PutEvents", "Publish"])


def is_change(call: Call) -> bool:
    looks = ("Describe", "Get", "BatchGet", "List", "Query", "Scan", "AssumeRole")
    return not call["action"].startswith(looks)


def wait_for_look(states: Callable[[], list[str]], state: str) -> None:
    """Returns once the execution has gone through one full visit, from one entry into the state to the next."""
    entered = states().count(state)
    wait_for(lambda: states().count(state) >= entered + 2)


def wait_for(condition: Callable[[], Any], timeout: float = 60) -> Any:
    """Returns the condition's value once it is true."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return value


def reasons(lefts: list[Shape]) -> dict[str, str]:
    return {left["instance_id"]: left["reason"] for left in lefts}


def _processes(group: Shape):
    return sorted(p["ProcessName"] for p in group["SuspendedProcesses"])
