"""`Kubernetes`: the local control plane for tests, the demo and benchmarks (`aws.kubernetes`)."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..paths import ACCOUNT, ROOT
from ..progress import step
from ..shapes import Shape
from . import assets, objects
from .api import Api
from .control_plane import TOKEN_CACHE_SECONDS, ControlPlane
from .watcher import Watcher, is_ready

if TYPE_CHECKING:
    from ..groups import Group
    from ..stack import LocalAws

NAME = "local"  # The cluster's name in EKS and in its instances' tag.
# The manifests that a customer applies to a cluster.
ACCESS = [ROOT / "functions" / "kubernetes-optimizer" / name for name in ("access.yaml", "admission.yaml")]
SYSTEM_NAMESPACES = {"default", "kube-system", "kube-public", "kube-node-lease"}


class Kubernetes:
    """A running control plane; the first use in a home starts it and makes it EKS' cluster `local`."""

    name = NAME
    tag = {f"kubernetes.io/cluster/{NAME}": "owned"}  # noqa: RUF012  Nobody changes it.

    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.plane = aws, ControlPlane(aws.home)
        if not self.plane.running:
            self._start()
        self.api = self.plane.api()
        self.server = self.plane.server

    def _start(self):
        binaries = assets.provide()
        with step(f"start Kubernetes {assets.release()}"):
            self.plane.start(binaries)
            for document in (d for file in ACCESS for d in yaml.safe_load_all(file.read_text())):
                self.plane.api().apply(document)
            self._connect()

    def _connect(self):
        certificate, key = self.plane.certificate("admin")
        connection = {"cluster": NAME, "server": self.plane.server, "authority": str(self.plane.authority)}
        self.aws.control.kubernetes("POST", "connect", {**connection, "certificate": certificate, "key": key})
        eks = self.aws.client("eks")
        if NAME not in eks.list_clusters()["clusters"]:
            subnets = list(self.aws.network.subnets.values())
            role = f"arn:aws:iam::{ACCOUNT}:role/local-cluster"
            eks.create_cluster(name=NAME, roleArn=role, resourcesVpcConfig={"subnetIds": subnets})

    # -- access --------------------------------------------------------------------------------------------------

    def as_user(self, user: str = "spot-optimizer", token: str | None = None) -> Api:
        """Returns the API with the rights of access.yaml and admission.yaml: by client certificate, or by this bearer
        token."""
        return Api(self.server, self.plane.authority, token=token) if token else self.plane.api(user)

    def kubeconfig(self, by: str = "certificate") -> str:
        """Returns a kubeconfig's text for a user in the group `spot-optimizer`, self-contained for Secrets Manager.

        `by` is "certificate" or "token" (a static one).
        """
        authority = base64.b64encode(self.plane.authority.read_bytes()).decode()
        certificate, key = self.plane.certificate("spot-optimizer")
        if by == "token":
            user = {"token": (self.plane.directory / "tokens.csv").read_text().split(",")[0]}
        else:
            user = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": {"server": self.server, "certificate-authority-data": authority}}],
            "users": [{"name": "spot-optimizer", "user": user}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": "spot-optimizer"}}],
            "current-context": NAME,
        }
        return yaml.safe_dump(config)

    @property
    def admin_kubeconfig(self) -> Path:
        """Returns the path of a kubeconfig that may do everything: for kubectl."""
        return self.plane.directory / "admin.kubeconfig"

    def binary(self, name: str) -> Path:
        return assets.provide() / name

    # -- nodes ---------------------------------------------------------------------------------------------------

    def create_group(self, size: int = 2, instance_tags: dict[str, str] | None = None, **options: Any) -> Group:
        """Creates an Auto Scaling group of nodes (see `groups.create_group`)."""
        return self.aws.create_group(size=size, instance_tags={**self.tag, **(instance_tags or {})}, **options)

    def node_of(self, instance_id: str) -> Shape | None:
        """Returns the Node of the instance, or None."""
        return next((n for n in self.api.list("Node") if n["spec"].get("providerID", "").endswith(f"/{instance_id}")), None)

    def wait_node(self, instance_id: str, timeout: float = 30) -> Shape:
        """Returns the instance's Node once it is Ready and schedulable."""
        return wait(lambda: _schedulable(self.node_of(instance_id)), timeout, f"no Ready node of {instance_id}")

    def wait_nodes(self, instance_ids: list[str], timeout: float = 60) -> list[Shape]:
        return [self.wait_node(i, timeout) for i in instance_ids]

    def wait_no_node(self, instance_id: str, timeout: float = 30) -> None:
        wait(lambda: self.node_of(instance_id) is None, timeout, f"the node of {instance_id} is still there")

    def wait_departed(self, timeout: float = 30) -> None:
        """Returns once no Node of a terminated instance is left."""

        def departed():
            alive = {i["InstanceId"] for i in self.aws.instances("pending", "running", "stopping", "stopped")}
            return {n["spec"].get("providerID", "").rsplit("/", 1)[-1] for n in self.api.list("Node")} <= alive

        wait(departed, timeout, "a node is left whose instance has terminated")

    def change_node(self, instance_id: str, **told: Any) -> None:
        """Changes a node: `ready=False` stops its kubelet (returns once the Node says so); sets `labels`,
        `annotations`, `taints`."""
        self.aws.control.kubernetes("POST", "nodes", {"instance_id": instance_id, **told})
        if "ready" in told:
            wait(lambda: _is_ready(self.node_of(instance_id)) == told["ready"], 20, f"{instance_id}'s kubelet goes on")

    def newcomers(self, **plan: Any) -> Shape:
        """Sets how later instances join: the keys of `endpoint/nodes.py`'s DEFAULT_PLAN."""
        return self.aws.control.kubernetes("POST", "newcomers", plan)

    def timing(self, **seconds: float) -> dict[str, float]:
        return self.aws.control.kubernetes("POST", "timing", seconds)

    # -- what runs -----------------------------------------------------------------------------------------------

    def create_namespace(self, name: str | None = None) -> str:
        name = name or f"web-{uuid.uuid4().hex[:8]}"
        self.api.create(objects.namespace(name))
        return name

    def create(self, *manifests: Shape) -> Shape:
        """Creates the objects in order; returns the last one as the API server has it."""
        return [self.api.create(manifest) for manifest in manifests][-1]

    def wait_ready(self, namespace: str, app: str, replicas: int, timeout: float = 60) -> Sequence[Shape]:
        """Returns the pods of `app` once exactly `replicas` are Ready and no other is left."""

        def ready():
            pods = self.pods(namespace, app)
            return [pods] if len(pods) == replicas and all(map(is_ready, pods)) else None

        return wait(ready, timeout, f"{app} in {namespace} has not {replicas} ready pods")[0]

    def wait_budget(self, namespace: str, name: str, allowed: int, timeout: float = 30) -> None:
        """Returns once the budget allows this number of disruptions."""

        def settled():
            status = self.api.get("PodDisruptionBudget", name, namespace).get("status", {})
            return status.get("disruptionsAllowed") == allowed and "observedGeneration" in status

        wait(settled, timeout, f"budget {name} does not allow {allowed}")

    def pods(self, namespace: str, app: str | None = None) -> Sequence[Shape]:
        return self.api.list("Pod", namespace, **({"labelSelector": f"app={app}"} if app else {}))

    def pods_on(self, node: str, namespace: str | None = None) -> Sequence[Shape]:
        """Returns the pods of a node, by its name, in every namespace if none is given."""
        return self.api.list("Pod", namespace, fieldSelector=f"spec.nodeName={node}")

    def pods_by_node(self, namespace: str, app: str | None = None) -> dict[str, list[str]]:
        """Returns {node's name, None for Pending pods: [pod's name]}."""
        found = {}
        for pod in self.pods(namespace, app):
            found.setdefault(pod["spec"].get("nodeName"), []).append(pod["metadata"]["name"])
        return found

    def watch(self, namespace: str, app: str, on_change: Callable[[Any], None] | None = None) -> Watcher:
        """Returns a `watcher.Watcher`."""
        return Watcher(self.api, namespace, app, on_change)

    def clean(self) -> None:
        """Deletes every namespace of the tests, volumes and attachments, and removes finalizers."""
        for found in self.api.list("Namespace"):
            name = found["metadata"]["name"]
            if name in SYSTEM_NAMESPACES:
                continue
            self.drop_finalizers(name)
            if "deletionTimestamp" not in found["metadata"]:
                self.api.delete("Namespace", name)
            # One that is left would lie on a new node with the name of the old one, under the budgets of its own test.
            for pod in self.pods(name):
                self.api.delete("Pod", pod["metadata"]["name"], name, grace_seconds=0)
        for kind in ("VolumeAttachment", "PersistentVolume"):
            for found in self.api.list(kind):
                self.api.delete(kind, found["metadata"]["name"])

    def drop_finalizers(self, namespace: str, only: str | None = None) -> None:
        """Lets the pods go that have a finalizer, or this one only."""
        for pod in self.pods(namespace):
            held_by = pod["metadata"].get("finalizers", [])
            if held_by and only in [None, *held_by]:
                self.api.patch("Pod", pod["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace)

    # -- trouble -------------------------------------------------------------------------------------------------

    def restart_api_server(self, down_seconds: float = 0) -> None:
        self.plane.restart_api_server(down_seconds)

    def expire_tokens(self) -> None:
        """Refuses tokens signed up to now; the next one that is signed will do. The API server forgets tokens within 10
        s."""
        self.aws.control.kubernetes("POST", "tokens", {"expire": True})
        time.sleep(TOKEN_CACHE_SECONDS)

    def refuse_tokens(self, times: int) -> None:
        """Refuses the next `times` tokens that the authenticator sees, however good; 0 ends it.

        The authenticator sees no token twice within 10 s, and two tokens that are signed in the same second are the
        same.
        """
        self.aws.control.kubernetes("POST", "tokens", {"refuse": times})

    @property
    def tokens(self) -> list[Shape]:
        """Returns the tokens that the authenticator saw since the last reset: [{t, signed_at, user, refused}]."""
        return self.aws.control.kubernetes("GET", "tokens")


def wait(condition: Callable[[], Any], timeout: float, message: str) -> Any:
    """Returns the value of `condition` once it is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"{message} after {timeout} s")


def _schedulable(node: Shape | None):
    if node is None or node["spec"].get("taints") or node["spec"].get("unschedulable"):
        return None
    return node if _is_ready(node) else None


def _is_ready(node: Shape):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))


def _base64(path: str):
    with open(path, "rb") as file:
        return base64.b64encode(file.read()).decode()
