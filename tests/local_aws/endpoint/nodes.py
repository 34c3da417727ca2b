"""The node simulator: plays the kubelet's registration and the cloud's node controller for the local control plane.

A running instance with the tag `kubernetes.io/cluster/NAME` (owned or shared) becomes a Node. kwok sees the Node's
annotation, keeps the Node Ready and runs its pods. When the instance has terminated, its Node and the Node's pods go.

A plan (`DEFAULT_PLAN`) says how a node joins: the plan of the tests when the instance is first seen running, overridden
by the instance's own tag `local:node` (a JSON object). More tags: `local:node-labels` and `local:node-annotations`
("eks.amazonaws.com/nodegroup=web,a=b").
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import requests
from moto.ec2.models.instance_types import INSTANCE_TYPES

from ..kubernetes.api import ApiError
from ..shapes import Shape
from . import ec2
from .world import WORLD

if TYPE_CHECKING:
    from ..kubernetes.api import Api

PASS_SECONDS = 0.1
AGAIN_SECONDS = 1
KUBELET = "local.aws/kubelet"  # See kubernetes/stages.yaml.
PODS = "250"
DEFAULT_PLAN = {
    "join": True,  # False: the instance runs and never becomes a Node.
    "join_after_seconds": 0.3,  # running → Node exists
    "ready": True,  # False: the Node exists and is never Ready.
    "name": "ip",  # "resource": the node's name is the instance id, as on hosts with resource-based names.
    "startup_taint": None,  # {key, effect?, seconds?}: there from the start; goes after `seconds`, or never.
    "labels": {},
    "annotations": {},
    "capacity": {},  # Replaces the capacity of the type: {"cpu": "1", "example.com/gpu": "2"}.
}
DEFAULT_TIMING = {
    "node_gone": 0.2,  # instance terminated → Node deleted
    # Node deleted → its pods deleted, as podgc does on a real cluster after 40 s to a minute.
    "pods_collected": 1.0,
}
ALIVE = ("running", "shutting-down", "stopping", "stopped")


class Node:
    """The plan of an instance's node and the actions that are due, each with its time."""

    def __init__(self, instance: Shape, plan: Shape) -> None:
        self.name = instance["id"] if plan["name"] == "resource" else instance["private_dns"]
        self.plan, self.joined, self.stopped = plan, False, False
        self.left = set()  # UIDs of the pods on the node when it left: another node may bear its name by then.
        self.due = [(time.time() + plan["join_after_seconds"], "join")] if plan["join"] else []


class Nodes:
    def __init__(self) -> None:
        self._api: Api | None = None
        self._cluster: str | None = None
        self._thread: threading.Thread | None = None
        self._nodes: dict[str, Node] = {}  # by instance id
        self.reset()

    def reset(self) -> None:
        self.newcomers, self.timing = dict(DEFAULT_PLAN), dict(DEFAULT_TIMING)

    def connect(self, cluster: str, api: Api) -> None:
        """Simulates the nodes of this cluster from now on, and forgets those of an earlier control plane."""
        with WORLD.lock:
            self._cluster, self._api, self._nodes = cluster, api, {}
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def list(self) -> dict[str, Shape]:
        return {i: {"name": n.name, "joined": n.joined} for i, n in self._nodes.items()}

    def change(
        self,
        instance_id: str,
        ready: bool | None = None,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        taints: Sequence[Shape] | None = None,
    ) -> Shape:
        """Changes the Node of an instance; `ready` false stops its kubelet."""
        node, metadata = self._nodes[instance_id], {}
        if labels is not None:
            metadata["labels"] = labels
        if annotations is not None or ready is not None:
            kubelet = {} if ready is None else {KUBELET: None if ready else "stopped"}
            metadata["annotations"] = {**(annotations or {}), **kubelet}
        spec = {} if taints is None else {"spec": {"taints": taints}}
        return self._api.patch("Node", node.name, {"metadata": metadata, **spec})

    def _run(self):
        while True:
            try:
                self._pass()
            except requests.RequestException:
                pass  # The API server is being started again.
            except Exception as error:
                print(f"node simulator: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(PASS_SECONDS)

    def _pass(self):
        with WORLD.lock:
            nodes = self._nodes  # The nodes of this control plane, even if another is connected meanwhile.
            instances = {i["id"]: i for i in _instances(self._cluster)}
            for instance_id, instance in instances.items():
                if instance_id not in nodes and instance["state"] == "running":
                    nodes[instance_id] = Node(instance, _plan(self.newcomers, instance["tags"]))
        for instance_id, node in list(nodes.items()):
            self._follow(node, instances.get(instance_id))
            self._do_what_is_due(nodes, instance_id, node, instances.get(instance_id))

    def _follow(self, node: Node, instance: Shape | None):
        """Follows the instance's state."""
        leaving = any(what in ("leave", "collect") for _, what in node.due)
        if instance is None and not leaving:
            node.due = [(time.time() + self.timing["node_gone"], "leave")]
        elif instance is not None and instance["state"] != "running" and node.joined and not node.stopped:
            self._api.patch("Node", node.name, {"metadata": {"annotations": {KUBELET: "stopped"}}})
            node.stopped = True

    def _do_what_is_due(self, nodes: dict[str, Shape], instance_id: str, node: Node, instance: Shape | None):
        now = time.time()
        for item in [i for i in node.due if i[0] <= now]:
            try:
                self._do(item[1], nodes, instance_id, node, instance)
            except ApiError as error:
                print(f"node simulator: {node.name} cannot {item[1]}: {error}", file=sys.stderr, flush=True)
                node.due.append((now + AGAIN_SECONDS, item[1]))
            node.due.remove(item)  # Only after the action: an API server that is away is asked again.

    def _do(self, what: str, nodes: dict[str, Shape], instance_id: str, node: Node, instance: Shape):
        if what == "join":
            self._join(node, instance)
        elif what == "untaint":
            self._untaint(node)
        elif what == "leave":
            if _is_of(self._api.find("Node", node.name), instance_id):
                self._api.delete("Node", node.name)
                # Garbage collection would delete the old lease later, when the next node of this name uses it: kwok
                # keeps an existing lease.
                self._api.delete("Lease", node.name, "kube-node-lease")
            node.left = {pod["metadata"]["uid"] for pod in self._pods_on(node)}
            node.due.append((time.time() + self.timing["pods_collected"], "collect"))
        elif what == "collect":
            self._collect(node)
            nodes.pop(instance_id, None)

    def _collect(self, node: Node):
        """Deletes the pods of a departed node. Its address and name are free at once: another node's pods must stay."""
        taken = self._api.find("Node", node.name) is not None
        for pod in self._pods_on(node):
            metadata = pod["metadata"]
            if not taken or metadata["uid"] in node.left:
                self._api.delete("Pod", metadata["name"], metadata["namespace"], grace_seconds=0, uid=metadata["uid"])

    def _pods_on(self, node: Node):
        return self._api.list("Pod", fieldSelector=f"spec.nodeName={node.name}")

    def _join(self, node: Node, instance: Shape):
        found = self._api.find("Node", node.name)
        if found and not _is_of(found, instance["id"]):  # The node that had the address before has yet to leave.
            node.due.append((time.time(), "join"))
            return
        if not found:
            # The kubelet registers with its status, and the API server takes it: no Ready node is without capacity.
            # kubernetes: pkg/kubelet/kubelet_node_status.go (initialNode), pkg/registry/core/node/strategy.go.
            self._api.create(_manifest(node, instance) | {"status": _status(node, instance)})
        node.joined = True
        taint = node.plan["startup_taint"]
        if taint and taint.get("seconds") is not None:
            node.due.append((time.time() + taint["seconds"], "untaint"))

    def _untaint(self, node: Node):
        found = self._api.get("Node", node.name)
        kept = [t for t in found["spec"].get("taints", []) if t["key"] != node.plan["startup_taint"]["key"]]
        version = {"resourceVersion": found["metadata"]["resourceVersion"]}  # Other clients write taints, too.
        self._api.patch("Node", node.name, {"metadata": version, "spec": {"taints": kept}})


def _is_of(node: Shape | None, instance_id: str):
    return node is not None and node["spec"].get("providerID", "").endswith(f"/{instance_id}")


def _instances(cluster: str):
    """Returns the cluster's instances as plain values, so that moto is read under the world's lock only."""
    backend = ec2.backend()
    for reservation in backend.reservations.values():
        for instance in reservation.instances:
            tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
            if tags.get(f"kubernetes.io/cluster/{cluster}") in ("owned", "shared") and instance.state in ALIVE:
                zone = instance.placement.zone
                yield {
                    "id": instance.id, "state": instance.state, "type": instance.instance_type, "zone": zone,
                    "zone_id": ec2.zone_ids().get(zone, ""), "private_dns": instance.private_dns_name,
                    "private_ip": instance.private_ip, "tags": tags,
                }  # fmt: skip


def _plan(newcomers: Shape, tags: dict[str, str]):
    plan = {**newcomers, **json.loads(tags.get("local:node", "{}"))}
    for name in ("labels", "annotations"):
        told = (pair.partition("=") for pair in tags.get(f"local:node-{name}", "").split(",") if pair)
        plan[name] = {**plan[name], **{key: value for key, _, value in told}}
    return plan


def _manifest(node: Node, instance: Shape):
    region = instance["zone"][:-1]
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _architecture(instance["type"]),
        "node.kubernetes.io/instance-type": instance["type"],
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": instance["zone"],
        "topology.k8s.aws/zone-id": instance["zone_id"],
    }
    kubelet = {} if node.plan["ready"] else {KUBELET: "stopped"}
    taint = node.plan["startup_taint"]
    taints = [{"key": taint["key"], "effect": taint.get("effect", "NoSchedule")}] if taint else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {**labels, **node.plan["labels"]},
            "annotations": {"kwok.x-k8s.io/node": "fake", **kubelet, **node.plan["annotations"]},
        },
        "spec": {"providerID": f"aws:///{instance['zone']}/{instance['id']}", "taints": taints},
    }


def _status(node: Node, instance: Shape):
    kind = INSTANCE_TYPES.get(instance["type"], {})
    cores, mebibytes = kind.get("VCpuInfo", {}).get("DefaultVCpus", 2), kind.get("MemoryInfo", {}).get("SizeInMiB", 8192)
    capacity = {"cpu": str(cores), "memory": f"{mebibytes}Mi", "pods": PODS, "ephemeral-storage": "20Gi"}
    capacity |= node.plan["capacity"]
    addresses = [("InternalIP", instance["private_ip"]), ("InternalDNS", node.name), ("Hostname", node.name)]
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": kind, "address": address} for kind, address in addresses],
        "nodeInfo": {
            "architecture": _architecture(instance["type"]), "operatingSystem": "linux", "kubeletVersion": "v1.36.0",
            "kubeProxyVersion": "", "containerRuntimeVersion": "kwok", "kernelVersion": "kwok", "osImage": "kwok",
            "bootID": instance["id"], "machineID": instance["id"], "systemUUID": instance["id"],
        },
    }  # fmt: skip


def _architecture(instance_type: str):
    known = INSTANCE_TYPES.get(instance_type, {}).get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"])
    return "arm64" if "arm64" in known else "amd64"


NODES = Nodes()
