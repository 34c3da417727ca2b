"""A client of the Kubernetes API, as small as the tests need it: objects are dictionaries as in their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from ..shapes import Shape

if TYPE_CHECKING:
    pass

# kind → (API root, plural, whether it lives in a namespace)
KINDS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "PersistentVolume": ("/api/v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims", True),
    "Event": ("/api/v1", "events", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets", True),
    "VolumeAttachment": ("/apis/storage.k8s.io/v1", "volumeattachments", False),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "ValidatingWebhookConfiguration": ("/apis/admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", False),
    "CSINode": ("/apis/storage.k8s.io/v1", "csinodes", False),
    "ValidatingAdmissionPolicy": ("/apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", False),
    "ValidatingAdmissionPolicyBinding": (
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        False,
    ),  # fmt: skip
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
}


class ApiError(Exception):
    """A refusal of the API server: `status` is HTTP's, `reason` is Kubernetes' ("NotFound", "TooManyRequests", …)."""

    def __init__(self, status: int, body: Shape) -> None:
        self.status, self.body = status, body
        self.reason = body.get("reason", "")
        super().__init__(f"{status} {self.reason}: {body.get('message', '')}")


class Api:
    """One connection pool; `certificate` is (certificate file, key file), `token` a bearer token."""

    def __init__(self, server: str, authority: Path | str, certificate: tuple[str, str] | None = None, token: str | None = None) -> None:
        self.server, self.authority, self.certificate, self.token = server, authority, certificate, token
        self._session = requests.Session()
        self._session.trust_env = False  # No proxy stands between us and the loopback address.
        self._session.verify, self._session.cert = str(authority), certificate
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def another(self) -> Api:
        """Returns the same access through connections of its own, for another thread."""
        return Api(self.server, self.authority, self.certificate, self.token)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Shape:
        return self.call("GET", path(kind, namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Shape | None:
        """Returns the object, or None if it does not exist."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def list(self, kind: str, namespace: str | None = None, **params: Any) -> Sequence[Shape]:
        """Returns every object of the kind; `labelSelector` and `fieldSelector` are Kubernetes'."""
        return self.call("GET", path(kind, namespace), params=params)["items"]

    def create(self, manifest: Shape) -> Shape:
        where = path(manifest["kind"], manifest["metadata"].get("namespace"))
        return self.call("POST", where, manifest)

    def apply(self, manifest: Shape) -> Shape:
        """Creates the object or changes it as the manifest says, as `kubectl apply --server-side` does."""
        metadata = manifest["metadata"]
        where = path(manifest["kind"], metadata.get("namespace"), metadata["name"])
        params = {"fieldManager": "local-aws", "force": "true"}
        return self.call("PATCH", where, manifest, params, "application/apply-patch+yaml")

    def patch(self, kind: str, name: str, change: Shape, namespace: str | None = None, subresource: str | None = None) -> Shape:
        """Applies a merge patch: sets the fields of `change`, and removes those that are None."""
        where = path(kind, namespace, name, subresource)
        return self.call("PATCH", where, change, content_type="application/merge-patch+json")

    def delete(
        self, kind: str, name: str, namespace: str | None = None, grace_seconds: int | None = None, uid: str | None = None
    ) -> Shape | None:
        """Deletes the object, if it exists. With `uid`, deletes only that object, not another of the same name."""
        options: Shape = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            return self.call("DELETE", path(kind, namespace, name), options)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def evict(self, pod: str, namespace: str) -> Shape:
        """Asks for an eviction. Returns the answer's body in any case: a refusal can come with HTTP 201."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        return self.call("POST", path("Pod", namespace, pod, "eviction"), eviction)

    def watch(self, kind: str, namespace: str | None = None, timeout: float = 5, **params: Any) -> Iterator[tuple[str, Shape]]:
        """Yields (type, object) as it happens, until the server ends the watch."""
        params = {**params, "watch": "1"}
        url = self.server + path(kind, namespace)
        with self._session.get(url, params=params, stream=True, timeout=timeout) as answer:
            if answer.status_code >= 400:
                raise ApiError(answer.status_code, _body(answer))
            for line in answer.iter_lines(chunk_size=None):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"])
                yield event["type"], event["object"]

    def call(
        self,
        method: str,
        where: str,
        body: Shape | None = None,
        params: Shape | None = None,
        content_type: str = "application/json",
        timeout: float = 30,
    ) -> Shape:
        answer = self._session.request(
            method, self.server + where, params=params, timeout=timeout,
            data=None if body is None else json.dumps(body), headers={"Content-Type": content_type},
        )  # fmt: skip
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, _body(answer))
        return _body(answer)


def path(kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    root, plural, namespaced = KINDS[kind]
    parts = [root, *(["namespaces", namespace] if namespaced and namespace else []), plural]
    return "/".join(parts + [part for part in (name, subresource) if part])


def _body(answer: requests.Response):
    try:
        return answer.json()
    except ValueError:
        return {"message": answer.text}
