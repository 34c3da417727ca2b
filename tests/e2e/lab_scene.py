"""A lab swap in a scene: a stand-alone instance, the execution that swaps it, and the state that must hold afterwards."""

from local_aws.lab import create_instance
from scene import is_change, wait_for, wait_for_look

MACHINE = "LabSwapStateMachineArn"


class Lab:
    """A stand-alone instance, the execution that swaps it, and the state that must hold afterwards."""

    def __init__(self, aws, **options):
        self.aws, self.old, self.arn = aws, create_instance(aws, **options), None
        if self.old.target_groups:
            wait_for(lambda: set(self.old.health()) == {"healthy"})

    def start(self, **input):
        self.arn = self.aws.start_execution({"instance_id": self.old.id, **input}, machine=MACHINE)
        return self

    def reach(self, state):
        self.aws.wait_state(self.arn, state)
        return self

    def reach_again(self, state):
        """Returns once the execution has gone through one full visit, from one entry into the state to the next."""
        wait_for_look(lambda: [name for _, name in self.aws.states(self.arn)], state)
        return self

    def stop(self):
        self.aws.stop_execution(self.arn)

    def end(self, timeout=180):
        execution = self.aws.wait_execution(self.arn, timeout)
        assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
        return execution["output"]

    def swap(self, **input):
        return self.start(**input).end()

    def drains(self, **input):
        """Starts the swap; the old instance then leaves its target groups, and drains there until `drained`."""
        self.aws.control.timing(target_drain=600)
        return self.start(**input).reach("PauseForRetirement")

    def drained(self):
        self.aws.control.timing(target_drain=0.2)
        return self

    def reconcile(self):
        """Runs the reconciler as its schedule does, until no execution holds the instance any more."""
        sweep = lambda: self.aws.invoke("ReconcilerFunctionName", {"task": "sweep"})  # noqa: E731
        wait_for(lambda: not self.old.leased() or (sweep() and False))

    def assert_swapped(self, report, old_state="stopped"):
        old, new = self.old, report["new_instance_id"]
        assert (report["outcome"], report["instance_id"]) == ("SWAPPED", old.id)
        assert [i["InstanceId"] for i in old.newcomers()] == [new]
        wait_for(lambda: old.state() == old_state)
        assert (old.state(new), old.describe(new)["InstanceLifecycle"]) == ("running", "spot")
        if old.allocation_id:
            assert old.address_at() == new
        assert set(old.health(new)) <= {"healthy"} and set(old.health()) <= {"unused"}
        self.assert_nothing_left()

    def assert_untouched(self):
        """The old instance runs with all its resources, and nothing of a swap is left."""
        old = self.old
        wait_for(lambda: old.state() == "running" and set(old.health()) <= {"healthy"})
        if old.allocation_id:
            assert old.address_at() == old.id
        assert old.newcomer() is None
        self.assert_nothing_left()

    def assert_nothing_left(self):
        assert not self.old.images() and not self.old.snapshots()
        assert not {"lease_owner", "journal"} & set(self.old.row()), self.old.row()

    def assert_nothing_changed(self, but=()):
        """No Lambda made a call that changes anything."""
        changes = [c["action"] for c in self.aws.control.calls() if is_change(c)]
        assert set(changes) <= set(but), changes
        self.assert_untouched()

    def delete(self):
        if self.arn and self.aws.client("stepfunctions").describe_execution(executionArn=self.arn)["status"] == "RUNNING":
            self.stop()
        self.old.modify(DisableApiTermination={"Value": False})
        ids = [self.old.id, *[i["InstanceId"] for i in self.old.newcomers()]]
        self.aws.client("ec2").terminate_instances(InstanceIds=ids)
        self.old.delete_belongings()


def held_up(lab, state, **options):
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
