"""Preflight reads the whole pod, its controller, its budgets and the node. It refuses before any launch if the swap can't
end well, and lets through if it can.
"""

import threading

from local_aws.kubernetes import objects
from scene import wait_for
from test_node_refusals import refused

SAFE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
HOSTNAME = "kubernetes.io/hostname"
NEVER_READY = {"local.aws/ready-after": "never"}


def required(key, value):
    term = {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}


def spread(app, **more):
    constraint = {
        "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}}, **more,
    }  # fmt: skip
    return {"topologySpreadConstraints": [constraint]}


def job(namespace, name, labels=None, annotations=NEVER_READY, **spec):
    """Makes a Job that runs until it is evicted."""
    made = objects.job(namespace, name, annotations)
    made["spec"]["template"]["metadata"]["labels"].update(labels or {})
    made["spec"].update(spec)
    return made


def replication_controller(kubernetes, namespace, name):
    """Returns the reference to a new ReplicationController of one pod, which local Kubernetes doesn't control."""
    template = objects.deployment(namespace, name)["spec"]["template"]
    spec = {"replicas": 1, "selector": {"app": name}, "template": template}
    made = {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name}, "spec": spec}
    made = kubernetes.api.call("POST", f"/api/v1/namespaces/{namespace}/replicationcontrollers", made)
    return {"apiVersion": "v1", "kind": made["kind"], "name": name, "uid": made["metadata"]["uid"], "controller": True}


def late(kubernetes, web):
    """Makes a Job on the old node that allows no failure and runs until `finish_job`."""
    made = job(web.namespace, "late", backoffLimit=0)
    made["spec"]["template"]["spec"]["nodeName"] = web.node
    kubernetes.create(made)
    running(kubernetes, web.namespace, "late", web.node)


def finish_job(kubernetes, web, name):
    (pod,) = (p["metadata"]["name"] for p in kubernetes.pods(web.namespace, name))
    kubernetes.api.patch("Pod", pod, {"metadata": {"annotations": {"local.aws/ready-after": "0s"}}}, web.namespace)


def alone(nodes, **options):
    """Makes a group of nodes once those of earlier tests are gone with their pods: they may have had the same names."""
    web = nodes(**options)
    wait_for(lambda: set(web.aws.control.kubernetes("GET", "nodes")) == set(web.old), 60)
    return web


def why_of(report, name):
    """Returns the obstacles of the pods whose names begin with this prefix."""
    return " ".join(b["why"] for b in report["blocked"] if b["pod"].startswith(name))


def running(kubernetes, namespace, app, node):
    """Waits until a pod of `app` runs on `node`."""
    runs = lambda pod: pod["metadata"]["labels"].get("app") == app and pod["status"].get("phase") == "Running"  # noqa: E731
    wait_for(lambda: any(map(runs, kubernetes.pods_on(node, namespace))))


def test_pods_that_would_be_lost_return_or_find_no_place_are_named_before_the_launch(nodes, kubernetes):
    web = alone(nodes, instance_tags={"local:node-labels": "node.kubernetes.io/lifecycle=normal"})
    web.only_on_old()
    kubernetes.create(
        job(web.namespace, "ledger", backoffLimit=0),
        job(web.namespace, "patient", backoffLimit=6),
    )
    hostname = kubernetes.node_of(web.instance_id)["metadata"]["labels"][HOSTNAME]
    for name, pod in {
        "demanding": required("node.kubernetes.io/lifecycle", "normal"),
        "pinned": {"nodeSelector": {HOSTNAME: hostname}},
        "placed": {"nodeName": web.node},
        "lingering": {"terminationGracePeriodSeconds": 7200},
        "guarded": None,
        "innocent": None,
    }.items():
        web.deploy(name, replicas=1, pod=pod)
    kubernetes.create(job(web.namespace, "report", labels={"app": "guarded"}, annotations={}))
    wait_for(lambda: any(p["status"].get("phase") == "Succeeded" for p in kubernetes.pods(web.namespace, "guarded")))
    kubernetes.create(objects.budget(web.namespace, "guarded", maxUnavailable=1))
    budget = lambda: kubernetes.api.get("PodDisruptionBudget", "guarded", web.namespace)  # noqa: E731
    wait_for(lambda: [c for c in budget().get("status", {}).get("conditions", []) if c["reason"] == "SyncFailed"])
    for app in ("ledger", "patient"):
        running(kubernetes, web.namespace, app, web.node)
    web.schedulable()

    report = refused(web, "PODS_NOT_EVICTABLE", dry_run=True)
    expected = {
        "ledger": "backoffLimit 0",
        "demanding": "node.kubernetes.io/lifecycle In [normal]",
        "pinned": HOSTNAME,
        "placed": "nodeName",
        "lingering": "drain_timeout_seconds",
        "guarded": "does not implement the scale",
    }
    for name, words in expected.items():
        assert words in why_of(report, name), (name, report["blocked"])
    assert why_of(report, "innocent") == why_of(report, "patient") == ""
    assert "7200" in why_of(report, "lingering")
    assert [b["budget"] for b in report["blocked"] if b["pod"].startswith("guarded")] == ["guarded"]
    table = report["plan"]["table"]
    assert table[0].split() == ["VERDICT", "POD", "WORKLOAD", "WHY"]
    assert table[1].startswith("BLOCKED") and any(line.startswith("moves") and "Deployment" in line for line in table)


def test_what_comes_back_elsewhere_is_swapped(nodes, kubernetes):
    """The neighbours of the refused pods: each has another node to run on, and a controller that starts it again."""
    web = alone(nodes)
    web.deploy("spread", replicas=2, pod=spread("spread"))
    slow = {"local.aws/gone-after": "1s"}
    web.deploy("honest", replicas=6, pod=spread("honest", nodeTaintsPolicy="Honor"), annotations=slow)
    web.deploy("loose", replicas=6, pod=spread("loose", whenUnsatisfiable="ScheduleAnyway"), annotations=slow)
    # The cordon keeps it off no node; it finds the newcomer while the old node is still the fuller one.
    web.deploy("open", replicas=2, pod={"tolerations": [{"operator": "Exists"}]})
    web.only_on_old()
    kubernetes.create(job(web.namespace, "patient", backoffLimit=6))
    # Guarded until it ends: waited for.
    kubernetes.create(job(web.namespace, "quick", annotations={"local.aws/ready-after": "6s"}))
    kubernetes.create(objects.budget(web.namespace, "quick", maxUnavailable=0))
    for app in ("patient", "quick"):
        running(kubernetes, web.namespace, app, web.node)
    web.schedulable()
    # Comes after the preflight, and would be lost by an eviction: waited for before anybody is evicted.
    web.start_held(drain_timeout_seconds=60).reach("PauseForReady")
    late(kubernetes, web)
    there = web.pods_on_old()
    web.let_go().reach("PauseForCordon")
    web.reach_again("PauseForCordon")
    assert there - web.pods_on_old() == set()
    finish_job(kubernetes, web, "late")
    report = web.finish()
    web.assert_node_swapped(report)
    for name in ("quick", "late"):
        assert kubernetes.api.get("Job", name, web.namespace)["status"]["succeeded"] == 1, name
    failed = [c for c in kubernetes.api.get("Job", "patient", web.namespace)["status"].get("conditions", []) if c["type"] == "Failed"]
    assert failed == []


def test_a_job_that_came_late_and_does_not_end_in_time_leads_back(nodes, kubernetes):
    web = alone(nodes)
    web.deploy(replicas=2)
    web.start_held(drain_timeout_seconds=3).reach("PauseForReady")
    late(kubernetes, web)
    with kubernetes.watch(web.namespace, "web") as seen:
        report = web.let_go().finish()
    assert seen.evicted == set() and "Drain" not in web.states()
    assert "late" in report["detail"] and "3 s to end by itself" in report["detail"], report
    assert [b["pod"].split("-")[0] for b in report["blocked"]] == ["late"]
    web.assert_node_kept(report, "PODS_NOT_EVICTABLE")


def test_a_plan_tells_who_has_all_replicas_here_and_lets_the_harmless_through(nodes, kubernetes):
    web = alone(nodes)
    web.only_on_old()
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    kubernetes.create(job(web.namespace, "ledger", backoffLimit=0, podFailurePolicy={"rules": [ignore]}))
    controller = replication_controller(kubernetes, web.namespace, "old")
    kubernetes.create(objects.bare_pod(web.namespace, "old", web.node, owner=controller))
    web.deploy(replicas=4)
    for app in ("ledger", "old"):
        running(kubernetes, web.namespace, app, web.node)
    web.schedulable()
    report = web.run(dry_run=True)
    assert report["outcome"] == "PLANNED", report
    here = report["plan"]["all_replicas_here"]
    assert f"Deployment {web.namespace}/web: 4 of 4 replicas on this node, no budget" in here
    assert f"ReplicationController {web.namespace}/old: 1 of 1 replicas on this node, no budget" in here


def test_pods_that_keep_apart_need_nodes_enough(nodes, kubernetes):
    web = alone(nodes)
    web.deploy("spread", replicas=6, pod=spread("spread"))
    apart = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": "apart"}}}
    everywhere = {
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
    }
    kubernetes.create(objects.deployment(web.namespace, "apart", replicas=3, pod=everywhere))
    for node in map(web.node_name, web.old):
        running(kubernetes, web.namespace, "apart", node)
    report = refused(web, "PODS_NOT_EVICTABLE")
    assert "maxSkew 1" in why_of(report, "spread")
    assert "tolerates the cordon" in why_of(report, "apart")


def test_an_operator_that_moves_the_role_after_the_cordon(nodes, kubernetes):
    """The owner waives the forecast of a budget; the API server still enforces the budget."""
    web = alone(nodes)
    web.deploy("db", replicas=2, kind=objects.stateful_set)
    by_node = {p["spec"]["nodeName"]: p["metadata"]["name"] for p in kubernetes.pods(web.namespace, "db")}
    here, there = by_node.pop(web.node), *by_node.values()

    def role(pod, role, **annotations):
        change = {"metadata": {"labels": {"role": role}, "annotations": annotations}}
        kubernetes.api.patch("Pod", pod, change, web.namespace)

    role(here, "primary")
    role(there, "replica")
    budget = objects.budget(web.namespace, "primary", minAvailable=1)
    budget["spec"]["selector"] = {"matchLabels": {"role": "primary"}}
    kubernetes.create(budget)
    kubernetes.wait_budget(web.namespace, "primary", 0)
    wait_for(lambda: kubernetes.api.get("PodDisruptionBudget", "primary", web.namespace)["status"]["expectedPods"] == 1)
    assert "safe-to-evict" in why_of(refused(web, "PODS_NOT_EVICTABLE"), "db")

    role(here, "primary", **SAFE)
    api = kubernetes.api.another()

    def operate():
        wait_for(lambda: api.get("Node", web.node)["spec"].get("unschedulable"), 60)
        for pod, new in ((there, "primary"), (here, "replica")):
            api.patch("Pod", pod, {"metadata": {"labels": {"role": new}}}, web.namespace)

    operator = threading.Thread(target=operate)
    operator.start()
    report = web.run(drain_timeout_seconds=60)
    operator.join()
    web.assert_node_swapped(report)


def test_a_node_that_must_stay_as_it_is(nodes, kubernetes):
    web = alone(nodes)
    node = web.node
    set_taints = lambda *taints: {"spec": {"taints": list(taints) or None}}  # noqa: E731
    taint = lambda key: {"key": key, "effect": "NoSchedule"}  # noqa: E731
    change = lambda part, key, value: {"metadata": {part: {key: value}}}  # noqa: E731
    marks = [
        ("MANAGED_ELSEWHERE", "control plane", "labels", "node-role.kubernetes.io/etcd", ""),
        ("NOT_SPOT_CAPABLE", "lifecycle=normal", "labels", "node.kubernetes.io/lifecycle", "normal"),
        ("OPTED_OUT", "scale-down-disabled", "annotations", "cluster-autoscaler.kubernetes.io/scale-down-disabled", "true"),
        ("OPTED_OUT", "do-not-disrupt", "annotations", "karpenter.sh/do-not-disrupt", "true"),
    ]
    for reason, words, part, key, value in marks:
        kubernetes.api.patch("Node", node, change(part, key, value))
        assert words in refused(web, reason)["detail"], key
        kubernetes.api.patch("Node", node, change(part, key, None))
    kubernetes.api.patch("Node", node, set_taints(taint("ToBeDeletedByClusterAutoscaler")))
    assert "ToBeDeletedByClusterAutoscaler" in refused(web, "MANAGED_ELSEWHERE")["detail"]
    kubernetes.api.patch("Node", node, set_taints())

    kubernetes.create(objects.mirror_pod(web.namespace, "etcd-a", kubernetes.node_of(web.instance_id)))
    assert "etcd-a" in refused(web, "MANAGED_ELSEWHERE")["detail"]
    kubernetes.api.delete("Pod", "etcd-a", web.namespace, grace_seconds=0)

    provider_id = kubernetes.node_of(web.instance_id)["spec"]["providerID"]
    stale = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "stale"}, "spec": {"providerID": provider_id}}
    kubernetes.create(stale)
    try:
        assert "stale" in refused(web, "NOT_A_NODE")["detail"]
    finally:
        kubernetes.api.delete("Node", "stale")
