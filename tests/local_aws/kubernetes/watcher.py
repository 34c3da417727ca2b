"""Records a workload while a node is drained: every change that the API server reports, none sampled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from ..shapes import Shape
from .api import ApiError, path

if TYPE_CHECKING:
    from .api import Api


@dataclass(frozen=True)
class Ready:
    """The number of pods that were Ready, and not being deleted, from `t` (time.time()) on."""

    t: float
    count: int


@dataclass(frozen=True)
class Budget:
    """A PodDisruptionBudget's status from `t` on, by the names of its fields."""

    t: float
    name: str
    allowed: int
    healthy: int
    desired: int


class Watcher:
    """`with Watcher(api, namespace, "web") as seen:` … then `seen.lowest_ready`, `seen.budgets`.

    Watches the pods with the label app=`app` and every budget of the namespace. While the API server is away nothing
    changes; after its return, a new list shows the state.
    """

    def __init__(self, api: Api, namespace: str, app: str, on_change: Callable[[Any], None] | None = None) -> None:
        self.api, self.namespace, self.app, self.on_change = api, namespace, app, on_change
        self.ready, self.budgets, self.evicted = [], [], set()
        self._pods, self._known = {}, {}
        self._stop = threading.Event()

    def __enter__(self) -> Watcher:
        parts = [("Pod", self._pods_are, {"labelSelector": f"app={self.app}"}), ("PodDisruptionBudget", self._budgets_are, {})]
        self._threads = []
        for kind, take, selection in parts:
            listed = threading.Event()
            arguments = (self.api.another(), kind, take, selection, listed)
            self._threads.append(threading.Thread(target=self._follow, args=arguments, daemon=True))
            self._threads[-1].start()
            if not listed.wait(30):
                raise TimeoutError(f"no list of {kind} within 30 s")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    @property
    def lowest_ready(self) -> int:
        return min(sample.count for sample in self.ready)

    @property
    def violated(self) -> list[Budget]:
        """Returns the samples in which a budget had fewer healthy pods than it desires."""
        return [sample for sample in self.budgets if sample.healthy < sample.desired]

    def _follow(self, api: Api, kind: str, take: Callable[[dict[str, Shape]], None], selection: dict[str, str], listed: threading.Event):
        while not self._stop.is_set():
            try:
                answer = api.call("GET", path(kind, self.namespace), params=selection)
                take({_key(o): o for o in answer["items"]})
                listed.set()
                self._watch(api, kind, take, selection, answer)
            except (requests.RequestException, ApiError):
                time.sleep(0.05)  # The API server is being started again, or the watch's place has become too old.

    def _watch(self, api: Api, kind: str, take: Callable[[dict[str, Shape]], None], selection: dict[str, str], answer: Any):
        objects = {_key(o): o for o in answer["items"]}
        version = answer["metadata"]["resourceVersion"]
        while not self._stop.is_set():  # The server ends each watch after a second, so that `__exit__` need not wait.
            params = {**selection, "resourceVersion": version, "timeoutSeconds": "1", "allowWatchBookmarks": "true"}
            for event, found in api.watch(kind, self.namespace, **params):
                version = found["metadata"]["resourceVersion"]
                if event == "BOOKMARK":
                    continue
                if event == "DELETED":
                    objects.pop(_key(found), None)
                else:
                    objects[_key(found)] = found
                take(objects)

    def _pods_are(self, pods: dict[str, Shape]):
        for pod in pods.values():
            if any(c["type"] == "DisruptionTarget" and c["reason"] == "EvictionByEvictionAPI" for c in _conditions(pod)):
                self.evicted.add(pod["metadata"]["uid"])
        count = sum(map(is_ready, pods.values()))
        if not self.ready or self.ready[-1].count != count:
            self.ready.append(Ready(time.time(), count))
            self._tell(self.ready[-1])

    def _budgets_are(self, budgets: dict[str, Shape]):
        for budget in budgets.values():
            status = budget.get("status", {})
            if status.get("observedGeneration") != budget["metadata"]["generation"]:
                continue  # The controller has not processed it yet.
            name = budget["metadata"]["name"]
            now = (status["disruptionsAllowed"], status["currentHealthy"], status["desiredHealthy"])
            if self._known.get(name) != now:
                self._known[name] = now
                self.budgets.append(Budget(time.time(), name, *now))
                self._tell(self.budgets[-1])

    def _tell(self, sample: Any):
        if self.on_change:
            self.on_change(sample)


def is_ready(pod: Shape) -> bool:
    """Returns True if the pod is Ready, and not on its way out: a budget counts such a pod as healthy."""
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in _conditions(pod))
    return ready and "deletionTimestamp" not in pod["metadata"]


def _conditions(found: Shape):
    return found.get("status", {}).get("conditions", [])


def _key(found: Shape):
    return found["metadata"]["uid"]
