"""A group of Kubernetes nodes with pods on them, and the state of AWS and the cluster after a swap of one node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from local_aws.kubernetes import objects
from local_aws.shapes import Shape
from scene import Scene, wait_for

if TYPE_CHECKING:
    from local_aws.kubernetes.cluster import Kubernetes
    from local_aws.stack import LocalAws

MARK = "spot-optimizer/cordoned-by"
HOLD = "example.org/hold"  # A finalizer.
HELD = {"metadata": {"finalizers": [HOLD]}}
LET_GO = {"metadata": {"finalizers": None}}


class NodeScene(Scene):
    def __init__(self, aws: LocalAws, kubernetes: Kubernetes, size: int = 2, **options: Any) -> None:
        self.aws = self.stack = aws
        self.kubernetes, self.arn = kubernetes, None
        self.group = kubernetes.create_group(size=size, **options)
        self.name = self.group.name
        kubernetes.wait_nodes(self.group.instance_ids)
        kubernetes.wait_departed()  # Those of an earlier test would take pods of this one with them.
        self.namespace = kubernetes.create_namespace()
        self.remember()
        self.instance_id = self.old[0]
        self.node = self.node_name(self.instance_id)

    # -- acts ----------------------------------------------------------------------------------------------------

    def start(self, **input: Any) -> NodeScene:
        request = {"instance_id": self.instance_id, **input}
        self.arn = self.aws.start_execution(request, machine="NodeSwapStateMachineArn")
        return self

    def run(self, timeout: float = 180, **input: Any) -> Shape:
        """Runs the swap to success; returns the report."""
        return self.finish(self.start(**input), timeout)

    def finish(self, started: NodeScene | None = None, timeout: float = 180) -> Shape:
        execution = self.end(timeout)
        assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
        assert execution["output"]["instance_id"] == self.instance_id
        return execution["output"]

    def deploy(
        self,
        name: str = "web",
        replicas: int = 4,
        budget: Shape | None = None,
        kind: Callable[..., Shape] = objects.deployment,
        **more: Any,
    ) -> Sequence[Shape]:
        """Deploys a workload until its pods are Ready and its budget, say {"minAvailable": 3}, has settled."""
        self.kubernetes.create(kind(self.namespace, name, replicas=replicas, **more))
        pods = self.kubernetes.wait_ready(self.namespace, name, replicas)
        if budget:
            self.budget(name, name, **budget)
        return pods

    def budget(self, name: str, app: str = "web", **limit: Any) -> None:
        self.kubernetes.create(objects.budget(self.namespace, name, app, **limit))
        at = ("PodDisruptionBudget", name, self.namespace)
        wait_for(lambda: "observedGeneration" in self.kubernetes.api.get(*at).get("status", {}))

    def hold_pods(self) -> None:
        """Holds the pods of the old node, and so the drain, by a finalizer."""
        for pod in self.pods_on_old():
            self.kubernetes.api.patch("Pod", pod, HELD, self.namespace)

    def let_pods_go(self) -> None:
        self.kubernetes.drop_finalizers(self.namespace, only=HOLD)

    def cordon(self, instance_id: str, cordoned: bool = True) -> None:
        """Cordons the node as another party does, with kubectl."""
        self.kubernetes.api.patch("Node", self.node_name(instance_id), {"spec": {"unschedulable": cordoned or None}})

    def only_on_old(self) -> None:
        """Sends new pods to the old node only, until `schedulable`."""
        for other in self.old[1:]:
            self.cordon(other)

    def schedulable(self) -> None:
        for other in self.old[1:]:
            self.cordon(other, False)

    def delete(self) -> None:
        """Deletes the group, and the rest of a test that failed half-way: the cluster has one slot for all tests."""
        if self.arn and self.running():
            self.stop()
        if self.leased():
            self.aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
            self.reconcile_until_free()
        super().delete()
        left = [newcomer["InstanceId"] for newcomer in self.newcomers]  # One that was kept may be in no group.
        if left:
            self.aws.client("ec2").terminate_instances(InstanceIds=left)

    # -- looks ---------------------------------------------------------------------------------------------------

    def node_name(self, instance_id: str) -> str:
        return self.kubernetes.node_of(instance_id)["metadata"]["name"]

    def pods_on_old(self) -> set[str]:
        return {p["metadata"]["name"] for p in self.kubernetes.pods_on(self.node, self.namespace)}

    def held(self) -> list[str]:
        rows = self.aws.table("SwapsTableName").scan(ConsistentRead=True)["Items"]
        return [row["target"] for row in rows if "lease_owner" in row]

    def leased(self) -> bool:
        return bool(self.held())

    # -- asserts -------------------------------------------------------------------------------------------------

    def assert_node_swapped(self, report: Shape) -> None:
        assert report["outcome"] == "SWAPPED", report
        assert "reason" not in report and report["blocked"] == []
        new = report["new_instance_id"]
        assert sorted(self.group.instance_ids) == sorted({*self.old} - {self.instance_id} | {new})
        assert self.aws.instance(new)["InstanceLifecycle"] == "spot"
        assert self.kept_pool(new) == self.aws.pool_of(new)
        assert self.aws.instance(self.instance_id)["State"]["Name"] == "terminated"
        self.kubernetes.wait_node(new)
        self.kubernetes.wait_no_node(self.instance_id)
        self.assert_owners()
        self.assert_cluster_as_found()

    def assert_node_kept(self, report: Shape, reason: str, outcome: str = "ROLLED_BACK") -> None:
        """The owner's group and node are as they were; nothing of ours runs, and no node is cordoned."""
        assert (report["outcome"], report.get("reason")) == (outcome, reason), report
        assert "new_instance_id" not in report
        self.assert_kept()

    def assert_newcomer_stays(self, report: Shape, reason: str) -> None:
        """The old node is as it was. The newcomer is a member beyond the owner's capacity, safe from a rebalance."""
        assert (report["outcome"], report.get("reason")) == ("ROLLED_BACK", reason), report
        self.assert_stays(report["kept_instance_id"])

    def assert_stays(self, newcomer: str) -> None:
        assert sorted(self.group.instance_ids) == sorted([*self.old, newcomer])
        after = self.group.describe()
        assert after["DesiredCapacity"] == self.before["DesiredCapacity"] + 1
        suspended = {process["ProcessName"] for process in after["SuspendedProcesses"]}
        before = {process["ProcessName"] for process in self.before["SuspendedProcesses"]}
        assert suspended == before | {"AZRebalance"}, "a rebalance could take the newcomer with the pod"
        wait_for(lambda: self.kept_pool(newcomer) == self.aws.pool_of(newcomer))  # The reconciler keeps it last.
        for instance_id in (self.instance_id, newcomer):
            assert self.aws.instance(instance_id)["State"]["Name"] == "running"
            self.kubernetes.wait_node(instance_id)
        self.assert_cluster_as_found()

    def assert_kept(self) -> None:
        self.assert_untouched()
        self.kubernetes.wait_node(self.instance_id)
        self.assert_cluster_as_found()

    def assert_cluster_as_found(self) -> None:
        for node in self.kubernetes.api.list("Node"):
            metadata = node["metadata"]
            if node["spec"].get("providerID", "").rsplit("/", 1)[-1] not in self.group.instance_ids:
                continue  # of a terminated instance: it goes
            assert not node["spec"].get("unschedulable"), metadata["name"]
            assert not [a for a in metadata.get("annotations", {}) if a.startswith("spot-optimizer/")], metadata
            assert "node.kubernetes.io/exclude-from-external-load-balancers" not in metadata["labels"]
        assert self.held() == []
