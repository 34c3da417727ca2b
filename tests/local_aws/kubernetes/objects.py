"""Manifests of the tests' workloads, with an argument for each property that matters to a drain.

`annotations` are the pods': `local.aws/ready-after` ("2s", "never") and `local.aws/gone-after` make them slow (see
stages.yaml). `pod` is merged into the pod's spec: volumes, tolerations, nodeSelector, …
"""

from __future__ import annotations

from typing import Any

from ..shapes import Shape

IMAGE = "web"


def namespace(name: str) -> Shape:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def deployment(
    namespace: str,
    name: str,
    replicas: int = 2,
    annotations: dict[str, str] | None = None,
    pod: Shape | None = None,
    strategy: Shape | None = None,
) -> Shape:
    spec = {"replicas": replicas, **_template(name, annotations, pod)}
    if strategy:
        spec["strategy"] = strategy
    return _workload("Deployment", namespace, name, spec)


def stateful_set(
    namespace: str, name: str, replicas: int = 2, annotations: dict[str, str] | None = None, pod: Shape | None = None
) -> Shape:
    spec = {"replicas": replicas, "serviceName": name, **_template(name, annotations, pod)}
    return _workload("StatefulSet", namespace, name, spec)


def daemon_set(namespace: str, name: str, annotations: dict[str, str] | None = None, pod: Shape | None = None) -> Shape:
    """A DaemonSet that runs on every node, whatever its taints."""
    pod = {"tolerations": [{"operator": "Exists"}], **(pod or {})}
    return _workload("DaemonSet", namespace, name, _template(name, annotations, pod))


def job(namespace: str, name: str, annotations: dict[str, str] | None = None, pod: Shape | None = None) -> Shape:
    pod = {"restartPolicy": "Never", **(pod or {})}
    template = _template(name, annotations, pod)["template"]
    return {**_workload("Job", namespace, name, {"template": template}), "apiVersion": "batch/v1"}


def bare_pod(
    namespace: str,
    name: str,
    node: str | None = None,
    annotations: dict[str, str] | None = None,
    finalizers: list[str] | None = None,
    labels: dict[str, str] | None = None,
    owner: Shape | None = None,
    pod: Shape | None = None,
) -> Shape:
    """A pod that no controller would bring back; on `node` if given, else where the scheduler puts it."""
    metadata = {
        "name": name, "namespace": namespace, "labels": labels or {"app": name}, "annotations": annotations or {},
        "finalizers": finalizers or [], "ownerReferences": [owner] if owner else [],
    }  # fmt: skip
    spec = {**_pod_spec(pod), **({"nodeName": node} if node else {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def mirror_pod(namespace: str, name: str, node: Shape) -> Shape:
    """The API's image of a static pod, as the kubelet of `node` (the Node object) makes it."""
    metadata = node["metadata"]
    owner = {
        "apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"], "controller": True,
    }  # fmt: skip
    annotations = {"kubernetes.io/config.mirror": "local", "kubernetes.io/config.hash": "local"}
    return bare_pod(namespace, name, metadata["name"], annotations, owner=owner)


def budget(namespace: str, name: str, app: str | None = None, **limit: Any) -> Shape:
    """A PodDisruptionBudget for the pods of `app` (its own name if absent): `minAvailable=2` or `maxUnavailable=1`, …"""
    spec = {"selector": {"matchLabels": {"app": app or name}}, **limit}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


def _workload(kind: str, namespace: str, name: str, spec: Shape):
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _template(name: str, annotations: dict[str, str] | None, pod: Shape | None):
    metadata = {"labels": {"app": name}, "annotations": annotations or {}}
    return {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": metadata, "spec": _pod_spec(pod)},
    }


def _pod_spec(more: Shape | None):
    return {"containers": [{"name": "main", "image": IMAGE}], "terminationGracePeriodSeconds": 5, **(more or {})}
