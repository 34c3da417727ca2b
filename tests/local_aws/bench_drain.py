"""The drain of a node of 200 pods, ours beside kubectl's on one control plane, and how often ours asks a budget that blocks.

Ours is the example `drain` of shared/cluster as the tests build it, without optimisation: a handicap that saves a release build.
Two nodes hand all pods to each other. The order ours, kubectl, kubectl, ours gives each both directions and both places in a pair.
Evictions are counted where they arrive: kube-apiserver's audit log has one line for each, with the time at which it was received.
What a pass costs in a large cluster is read from kube-apiserver's own figures, while a budget holds the swap in its drain.
"""

from __future__ import annotations

import collections
import concurrent.futures
import datetime
import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import requests

from . import build
from .kubernetes import assets, objects
from .paths import ROOT, target_dir
from .progress import say, step

if TYPE_CHECKING:
    from .stack import LocalAws

PODS = 200
DRAIN = f"drain of {PODS} pods"
DRAIN_WITH_BUDGET = f"drain of {PODS} pods, a quarter at a time"
ASKED = "evictions per pod in 5 s, blocked"
NODES, PODS_ELSEWHERE = 1_000, 5_000
LISTS_OF_NODES = f"lists of nodes in a drain, of {NODES}"
CALLS = f"calls of a pass, {NODES} nodes, {PODS_ELSEWHERE} pods"
KILOBYTES = "kilobytes of a pass, there"
LIMITS = {
    DRAIN: (0.9, "times kubectl"),
    DRAIN_WITH_BUDGET: (0.9, "times kubectl"),
    ASKED: (1, "requests"),
    LISTS_OF_NODES: (0, "calls"),
    CALLS: (8.0, "calls"),  # Without evictions: two nodes, the pods in pages of 100, what a controller has.
    KILOBYTES: (1_000.0, "kB"),
}
WINDOW_SECONDS = 5
MARKS = ("spot-optimizer/cordoned-by", "spot-optimizer/excluded-from-load-balancers-by")
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
BLOCKED_SECONDS = 17  # Time for a fourth request of each pod.
OF_A_PASS = (("GET", "nodes"), ("LIST", "nodes"), ("LIST", "pods"), ("GET", "replicasets"))


def rows(aws: LocalAws) -> list[tuple[str, str, float]]:
    """On local AWS with the stack deployed."""
    try:
        assets.provide()
    except assets.AssetsMissing as error:
        say(f"  drains were NOT measured: {error}")
        return []
    bench = Bench(aws)
    try:
        return [
            ("spot-cluster", DRAIN, bench.ratio(rounds=2)),
            ("spot-cluster", DRAIN_WITH_BUDGET, bench.ratio(rounds=2, maxUnavailable=PODS // 4)),
            ("spot-cluster", ASKED, bench.asked_by_example()),
            ("kubernetes-optimizer", ASKED, bench.asked_by_swap()),
            *(("kubernetes-optimizer", measure, value) for measure, value in bench.a_pass_in_a_large_cluster()),
        ]
    finally:
        bench.end()


class Bench:
    """Two nodes, and a Deployment whose pods all run on one of them."""

    def __init__(self, aws: LocalAws) -> None:
        with step("build the example"), build.cargo_lock():
            subprocess.run([*build.COMMAND, "--quiet", "--example", "drain"], cwd=ROOT, check=True)
        self.aws, self.kubernetes, self.large = aws, aws.kubernetes, []
        with step(f"a node of {PODS} pods"):
            self.group = self.kubernetes.create_group(size=2, zones=("us-east-1a",))
            nodes = self.kubernetes.wait_nodes(self.group.instance_ids)
            self.full, self.empty = (node["metadata"]["name"] for node in nodes)
            self.namespace = self.kubernetes.create_namespace()
            self._cordon(self.empty)
            # Without it the look after the cordon ends a swap whose budget never grants an eviction.
            waived = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
            self.kubernetes.create(objects.deployment(self.namespace, "web", PODS, annotations=waived))
            self._settle()

    def end(self) -> None:
        self._for_each(lambda name: self.kubernetes.api.delete("Node", name), self.large)
        self.kubernetes.clean()
        self.group.delete()

    def ratio(self, rounds: int, **budget: int) -> float:
        """Our median wall clock, divided by kubectl's."""
        tools = [_example, self._kubectl]
        took = {tool: [] for tool in tools}
        if budget:
            self._budget(**budget)
        with step(f"drains under the budget {budget}" if budget else "drains") as progress:
            for number in range(rounds):
                for tool in tools if number % 2 == 0 else reversed(tools):
                    took[tool].append(self._drain(tool))
            ours, kubectl = took.values()
            progress.detail = f"ours {_seconds(ours)}, kubectl {_seconds(kubectl)}"
        if budget:
            self._remove_budget()
        return statistics.median(ours) / statistics.median(kubectl)

    def asked_by_example(self) -> int:
        self._budget(maxUnavailable=0)
        began = time.time()
        with step("the example, while a budget blocks"):
            ended = self._run(_example(self.full, f"--timeout={BLOCKED_SECONDS}"))
        self._remove_budget()
        _expect(ended.returncode == 1, f"a drain that a budget blocks: {ended.stdout[-500:]}")
        return self._most_in_window(began)

    def asked_by_swap(self) -> int:
        began = time.time()
        with step("the node swap, while a budget blocks"):
            self._blocked_swap()
        return self._most_in_window(began)

    def a_pass_in_a_large_cluster(self) -> list[tuple[str, int]]:
        """[(measure, value)]"""
        with step(f"{NODES} nodes and {PODS_ELSEWHERE} pods more"):
            self._enlarge()

        def watch(execution: str):
            def seen():
                return [name for _, name in self.aws.states(execution)].count("Drain"), *self._figures()

            before = seen()
            time.sleep(BLOCKED_SECONDS / 2)
            return [now - then for then, now in zip(before, seen(), strict=True)]

        with step("the node swap there, while a budget blocks"):
            passes, calls, sent = self._blocked_swap(watch)
        _expect(passes >= 2, f"too few passes to tell: {passes}")
        return [
            (LISTS_OF_NODES, int(calls["LIST", "nodes"])),
            (CALLS, sum(calls[what] for what in OF_A_PASS) / passes),
            (KILOBYTES, sum(sent[what] for what in OF_A_PASS) / passes / 1000),
        ]

    def _blocked_swap(self, during: Callable[[str], Any] = lambda execution: None):
        """The budget comes after the preflight, which would refuse the swap. Returns what `during` did in the drain."""
        instance_id = next(i for i in self.group.instance_ids if self._name(i) == self.full)
        self.kubernetes.newcomers(join_after_seconds=3)
        request = {"instance_id": instance_id, "drain_timeout_seconds": BLOCKED_SECONDS}
        execution = self.aws.start_execution(request, machine="NodeSwapStateMachineArn")
        self.aws.wait_state(execution, "AwaitReady")
        self._budget(maxUnavailable=0)
        self.aws.wait_state(execution, "PauseForDrain")
        seen = during(execution)
        output = self.aws.wait_execution(execution)["output"]
        _expect((output or {}).get("outcome") == "ROLLED_BACK", f"a node swap that a budget blocks: {output}")
        self._remove_budget()
        return seen

    def _enlarge(self):
        """Nodes without a kubelet, and pods that tolerate it."""
        namespace = self.kubernetes.create_namespace()
        self.large = [f"large-{number}" for number in range(NODES)]
        nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in self.large]
        anywhere = {"tolerations": [{"operator": "Exists"}]}
        names = [self.large[number % NODES] for number in range(PODS_ELSEWHERE)]
        pods = [objects.bare_pod(namespace, f"elsewhere-{n}", name, pod=anywhere) for n, name in enumerate(names)]
        self._for_each(self.kubernetes.api.create, nodes)
        self._for_each(self.kubernetes.api.create, pods)

    def _for_each(self, call: Callable[[Any], Any], things: Iterable[Any]):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            collections.deque(pool.map(call, things), maxlen=0)

    def _figures(self):
        """({(verb, resource): calls}, {(verb, resource): bytes sent}) of kube-apiserver since its start"""
        found = {"apiserver_request_total": collections.Counter(), "apiserver_response_sizes_sum": collections.Counter()}
        admin = self.kubernetes.plane.certificate("admin")
        metrics = requests.get(f"{self.kubernetes.server}/metrics", cert=admin, verify=str(self.kubernetes.plane.authority))
        for line in metrics.text.splitlines():
            name, _, rest = line.partition("{")
            if name in found:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', rest))
                resource = "/".join(filter(None, (labels["resource"], labels.get("subresource"))))
                found[name][labels["verb"], resource] += float(line.rsplit(" ", 1)[1])
        return tuple(found.values())

    # -- steps ---------------------------------------------------------------------------------------------------

    def _drain(self, tool: Callable[..., list[str]]):
        """Wall clock of one drain; the pods are Ready on the other node afterwards, and both nodes schedulable."""
        began = time.monotonic()
        ended = self._run(tool(self.full))
        took = time.monotonic() - began
        _expect(ended.returncode == 0, f"{ended.args}: {ended.stdout[-1000:]}")
        _expect(not self.kubernetes.pods_on(self.full), f"{ended.args} left pods on {self.full}")
        self.full, self.empty = self.empty, self.full
        self._settle()
        return took

    def _settle(self):
        pods = self.kubernetes.wait_ready(self.namespace, "web", PODS, timeout=120)
        _expect({p["spec"]["nodeName"] for p in pods} == {self.full}, f"pods run elsewhere than on {self.full}")
        self._cordon(self.empty, None)
        time.sleep(2)  # What the controllers still do about the last drain is no part of the next one.

    def _cordon(self, node: str, cordoned: bool = True):
        """Whoever cordoned it before: the marks of ours go."""
        marks = {"annotations": dict.fromkeys(MARKS), "labels": {EXCLUDED: None}}
        self.kubernetes.api.patch("Node", node, {"metadata": marks, "spec": {"unschedulable": cordoned}})

    def _budget(self, **limit):
        self.kubernetes.create(objects.budget(self.namespace, "web", **limit))
        self.kubernetes.wait_budget(self.namespace, "web", limit["maxUnavailable"])

    def _remove_budget(self):
        self.kubernetes.api.delete("PodDisruptionBudget", "web", self.namespace)

    def _name(self, instance_id: str):
        return self.kubernetes.node_of(instance_id)["metadata"]["name"]

    def _kubectl(self, node: str):
        return [str(self.kubernetes.binary("kubectl")), "drain", node]

    def _run(self, command: list[str]):
        environment = {**os.environ, "KUBECONFIG": str(self.kubernetes.admin_kubeconfig)}
        return subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)

    def _most_in_window(self, since: float):
        """The most eviction requests that one pod got within any five seconds since then."""
        received = collections.defaultdict(list)
        for line in self.kubernetes.plane.evictions.read_text().splitlines():
            event = json.loads(line)
            at = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
            if at >= since and event["objectRef"]["namespace"] == self.namespace:
                _expect(event["responseStatus"]["code"] == 429, f"a budget that blocks let a pod go: {line}")
                received[event["objectRef"]["name"]].append(at)
        _expect(len(received) == PODS and all(len(times) > 1 for times in received.values()), "too few requests to tell")
        return max(sum(at <= t < at + WINDOW_SECONDS for t in times) for times in received.values() for at in times)


def _example(node: str, *flags):
    return [str(target_dir() / "debug" / "examples" / "drain"), node, *flags]


def _seconds(times: list[float]):
    return f"{' '.join(f'{t:.1f}' for t in times)} s"


def _expect(condition: object, message: str):
    if not condition:
        raise build.BuildFailed(message)
