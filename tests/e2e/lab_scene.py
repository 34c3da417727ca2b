"""A lab swap in a scene: a stand-alone instance, the execution that swaps it, and the state that must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from local_aws.lab import create_instance
from local_aws.shapes import Shape
from scene import is_change, wait_for, wait_for_look

if TYPE_CHECKING:
    from local_aws.stack import LocalAws

MACHINE = "LabSwapStateMachineArn"


class Lab:
    """A stand-alone instance, the execution that swaps it, and the state that must hold afterwards."""

    def __init__(self, aws: LocalAws, **options: Any) -> None:
        self.aws, self.old = aws, create_instance(aws, **options)
        self.arn: str | None = None
        if self.old.target_groups:
            wait_for(lambda: set(self.old.health()) == {"healthy"})

    def start(self, **input: Any) -> Lab:
        self.arn = self.aws.start_execution({"instance_id": self.old.id, **input}, machine=MACHINE)
        return self

    def reach(self, state: str) -> Lab:
        self.aws.wait_state(self.arn, state)
        return self

    def reach_again(self, state: str) -> Lab:
        """Returns once the execution has gone through one full visit, from one entry into the state to the next."""
        wait_for_look(lambda: [name for _, name in self.aws.states(self.arn)], state)
        return self

    def stop(self) -> None:
        self.aws.stop_execution(self.arn)

    def end(self, timeout: float = 180) -> Shape:
        execution = self.aws.wait_execution(self.arn, timeout)
        assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
        return execution["output"]

    def swap(self, **input: Any) -> Shape:
        return self.start(**input).end()

    def drains(self, **input: Any) -> Lab:
        """Starts the swap; the old instance then leaves its target groups, and drains there until `drained`."""
        self.aws.control.timing(target_drain=600)
        return self.start(**input).reach("PauseForRetirement")

    def drained(self) -> Lab:
        self.aws.control.timing(target_drain=0.2)
        return self

    def reconcile(self) -> None:
        """Runs the reconciler as its schedule does, until no execution holds the instance any more."""
        sweep = lambda: self.aws.invoke("ReconcilerFunctionName", {"task": "sweep"})  # noqa: E731
        wait_for(lambda: not self.old.leased() or (sweep() and False))

    def assert_swapped(self, report: Shape, old_state: str = "stopped") -> None:
        old, new = self.old, report["new_instance_id"]
        assert (report["outcome"], report["instance_id"]) == ("SWAPPED", old.id)
        assert [i["InstanceId"] for i in old.newcomers()] == [new]
        wait_for(lambda: old.state() == old_state)
        assert (old.state(new), old.describe(new)["InstanceLifecycle"]) == ("running", "spot")
        if old.allocation_id:
            assert old.address_at() == new
        assert set(old.health(new)) <= {"healthy"} and set(old.health()) <= {"unused"}
        self.assert_nothing_left()

    def assert_untouched(self) -> None:
        """The old instance runs with all its resources, and nothing of a swap is left."""
        old = self.old
        wait_for(lambda: old.state() == "running" and set(old.health()) <= {"healthy"})
        if old.allocation_id:
            assert old.address_at() == old.id
        assert old.newcomer() is None
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        assert not self.old.images() and not self.old.snapshots()
        assert not {"lease_owner", "journal"} & set(self.old.row()), self.old.row()

    def assert_nothing_changed(self, but: Iterable[str] = ()) -> None:
        """No Lambda made a call that changes anything."""
        changes = [c["action"] for c in self.aws.control.calls() if is_change(c)]
        assert set(changes) <= set(but), changes
        self.assert_untouched()

    def delete(self) -> None:
        if self.arn and self.aws.client("stepfunctions").describe_execution(executionArn=self.arn)["status"] == "RUNNING":
            self.stop()
        self.old.modify(DisableApiTermination={"Value": False})
        ids = [self.old.id, *[i["InstanceId"] for i in self.old.newcomers()]]
        self.aws.client("ec2").terminate_instances(InstanceIds=ids)
        self.old.delete_belongings()


def held_up(lab: Callable[..., Lab], state: str, **options: Any) -> tuple[Lab, str, Callable[[], Shape]]:
    """Holds a newcomer in this pause; returns the instance, the newcomer, and a function that releases it."""
    web = lab(**{"address": True, "target_groups": 1, **options})
    groups, control = web.old.target_groups, web.aws.control
    control.newcomers(status="initializing")
    newcomer = web.start().reach("PauseForHealth").old.newcomer()
    if state == "PauseForTakeOver":
        for group in groups:
            control.target_health(group, newcomer, "initial")
        control.instance(newcomer, status="ok")
        web.reach(state)

    def let_go():
        for group in groups:
            control.target_health(group, newcomer, state=None)
        control.instance(newcomer, status="ok")
        return web.end()

    return web, newcomer, let_go
