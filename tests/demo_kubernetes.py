"""A chapter of the demo: a node of a real Kubernetes control plane moves to Spot, and its pods keep their budget."""

import collections
import time

from local_aws.kubernetes import assets, objects
from local_aws.progress import BLUE, BOLD, DIM, GREEN, RED, YELLOW, paint, say, step, table
from local_aws.stack import ENDED

REPLICAS, MINIMUM = 6, 5
TIMEOUT_SECONDS = 120


def tell(aws):
    """Returns True if the chapter did not end as it should. Without a control plane the chapter is skipped, and says
    so."""
    say(paint("\nA Kubernetes node", BOLD))
    try:
        kubernetes = aws.kubernetes
    except assets.AssetsMissing as missing:
        say(paint(f"  skipped: {missing}", YELLOW))
        return 0
    group, namespace, old = _prepare(aws, kubernetes)
    try:
        return _swap(aws, kubernetes, namespace, old)
    finally:
        kubernetes.clean()
        group.delete()


def _prepare(aws, kubernetes):
    with step("two On-Demand nodes join a real control plane") as progress:
        group = kubernetes.create_group(size=2)
        nodes = kubernetes.wait_nodes(group.instance_ids)
        progress.detail = ", ".join(node["metadata"]["name"] for node in nodes)
    old = group.instance_ids[0]
    with step(f"deployment shop, {REPLICAS} replicas, a budget that keeps {MINIMUM}"):
        namespace = kubernetes.create_namespace()
        slow = {"local.aws/ready-after": "1s"}
        shop = objects.deployment(namespace, "shop", replicas=REPLICAS, annotations=slow)
        kubernetes.create(shop, objects.budget(namespace, "shop", minAvailable=MINIMUM))
        kubernetes.wait_ready(namespace, "shop", REPLICAS)
        kubernetes.wait_budget(namespace, "shop", REPLICAS - MINIMUM)
    return group, namespace, old


def _swap(aws, kubernetes, namespace, old):
    say(paint(f"\nSwap the node of {old}", BOLD))
    started = time.time()
    with kubernetes.watch(namespace, "shop") as seen:
        arn = aws.start_execution({"instance_id": old}, machine="NodeSwapStateMachineArn")
        _show(aws, arn, seen, started)
        execution = aws.wait_execution(arn)
    output = execution["output"] or {"outcome": execution["status"], "detail": execution.get("cause")}
    by_node = {node: len(pods) for node, pods in kubernetes.pods_by_node(namespace, "shop").items()}
    say()
    table(
        [
            ("outcome", output["outcome"] + (f": {output['detail']}" if output.get("detail") else "")),
            ("replaced by", output.get("new_instance_id", "")),
            ("pods evicted", output.get("evicted", 0)),
            ("lowest ready replicas", f"{seen.lowest_ready} (the budget keeps {MINIMUM})"),
            ("moments of a violated budget", len(seen.violated)),
            ("pods by node now", ", ".join(f"{node} {count}" for node, count in sorted(by_node.items()))),
            ("time of the execution", f"{time.time() - started:.1f} s (waits are scaled down)"),
        ],
        ("measure", "value"),
    )
    good = output["outcome"] == "SWAPPED" and seen.lowest_ready >= MINIMUM and not seen.violated
    if good:
        say(paint("\n✓ the node runs on Spot, its pods moved by eviction, the budget was never violated", GREEN, BOLD))
    else:
        say(paint("✗ the node swap did not end as it should", RED))
    return int(not good)


def _show(aws, arn, seen, started):
    """Prints states and ready replicas in the order in which they happened, until the execution has ended."""
    shown_states, shown_samples, recent = 0, 0, collections.deque(maxlen=3)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        status = aws.client("stepfunctions").describe_execution(executionArn=arn)["status"]
        states, samples = aws.states(arn), list(seen.ready)
        events = [(at.timestamp(), paint(name, BLUE)) for at, name in states[shown_states:] if not name.startswith("Pause")]
        events += [(s.t, f"{'●' * s.count}{'○' * (REPLICAS - s.count)}  {s.count} ready") for s in samples[shown_samples:]]
        shown_states, shown_samples = len(states), len(samples)
        for at, what in sorted(events):
            if what not in recent:  # Shows a loop of waiting and checking as one line.
                say(f"  {paint(f'{max(at - started, 0):6.2f} s', DIM)}  {what}")
            recent.append(what)
        if status in ENDED:
            return
        time.sleep(0.1)
    raise TimeoutError(f"the node swap still runs after {TIMEOUT_SECONDS} s")
