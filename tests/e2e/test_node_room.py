"""Before the cordon, the newcomer must be able to hold the old node's pods; after it, the preflight runs once more."""

import pytest

from local_aws.kubernetes import objects
from local_aws.kubernetes.api import ApiError
from local_aws.kubernetes.cluster import wait
from node_scene import HELD, LET_GO, MARK
from scene import wait_for

KEPT = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
PAY = {"key": "dedicated", "value": "pay", "effect": "NoSchedule"}
GPU = {"example.com/gpu": "2"}
WHILE = 8  # Seconds in which a newcomer joins for sure, even on a slow machine.
STARTUP_TAINT = {"key": "node.cilium.io/agent-not-ready"}  # A startup taint that stays: the newcomer waits in AwaitReady.


@pytest.fixture
def special(nodes, kubernetes):
    """Deploys a node with a taint, a label and a resource set by hand, and pods that only such a node can hold."""
    web = nodes()
    kubernetes.change_node(web.instance_id, labels={"pool": "ledger"}, taints=[PAY])
    offer(kubernetes, web.node, GPU)
    pod = {
        "nodeSelector": {"pool": "ledger"}, "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "containers": [{"name": "main", "image": "web", "resources": {"limits": {"example.com/gpu": "1"}}}],
    }  # fmt: skip
    web.deploy(replicas=2, pod=pod)
    assert len(web.pods_on_old()) == 2
    return web


def test_what_the_old_node_has_by_hand_is_named_if_the_newcomer_never_gets_it(special, kubernetes, settings):
    settings(node_ready_timeout_seconds=WHILE)
    with kubernetes.watch(special.namespace, "web") as seen:
        report = special.run()
    for missing in ("lacks the taint dedicated=pay:NoSchedule", "pool=ledger", "0 of example.com/gpu"):
        assert missing in report["detail"]
    assert f"{special.namespace}/web-" in report["detail"]
    assert "Cordon" not in special.states() and report["evicted"] == 0
    assert seen.evicted == set() and seen.lowest_ready == 2
    kubernetes.change_node(special.instance_id, taints=[])
    special.assert_node_kept(report, "NODE_NOT_READY")


def test_a_newcomer_that_gets_it_late_is_waited_for(special, kubernetes):
    special.start().reach("PauseForReady")
    newcomer = joined(special, kubernetes)
    for give in (
        lambda: kubernetes.change_node(newcomer, taints=[PAY]),
        lambda: kubernetes.change_node(newcomer, labels={"pool": "ledger"}),
        lambda: offer(kubernetes, special.node_name(newcomer), GPU),
    ):
        special.reach_again("AwaitReady")
        assert "Cordon" not in special.states()
        give()
    report = special.finish()
    assert report["evicted"] == 2 and report["outcome"] == "SWAPPED", report
    pods = kubernetes.wait_ready(special.namespace, "web", 2)
    assert {pod["spec"]["nodeName"] for pod in pods} == {special.node_name(newcomer)}
    kubernetes.change_node(newcomer, taints=[])
    special.assert_node_swapped(report)


def test_a_spot_node_that_says_on_demand_never_gets_the_pods(nodes, kubernetes):
    web = nodes()
    web.deploy()
    kubernetes.newcomers(labels={"eks.amazonaws.com/capacityType": "ON_DEMAND"})
    with kubernetes.watch(web.namespace, "web") as seen:
        report = web.run()
    assert "eks.amazonaws.com/capacityType=ON_DEMAND" in report["detail"]
    assert "Cordon" not in web.states() and seen.evicted == set()
    web.assert_node_kept(report, "NODE_NOT_READY")


def test_a_newcomer_that_is_too_small_for_all_pods_is_none(nodes, kubernetes, settings):
    web = nodes()
    settings(node_ready_timeout_seconds=WHILE)
    web.only_on_old()
    web.deploy(replicas=2, pod=cpu("800m"))
    web.schedulable()
    kubernetes.newcomers(capacity={"cpu": "1"})  # As of a smaller type: each pod would fit, both don't.
    report = web.run()
    assert "it offers 1 of cpu" in report["detail"] and report["evicted"] == 0
    assert "Cordon" not in web.states()
    web.assert_node_kept(report, "NODE_NOT_READY")


def test_a_type_that_is_too_small_gives_way_to_the_next_one_in_the_same_run(aws, nodes, kubernetes):
    web = nodes(overrides=["m5.large", "m5a.large"])
    web.only_on_old()
    web.deploy(replicas=2, pod=cpu("800m"))
    web.schedulable()
    kubernetes.newcomers(capacity={"cpu": "1"})
    web.start_held().reach("PauseForReady")
    small = joined(web, kubernetes)
    kubernetes.newcomers(capacity={})
    web.let_go()
    report = web.finish()
    assert aws.instance(small)["State"]["Name"] == "terminated"
    launched = {aws.instance(i)["InstanceType"] for i in (small, report["new_instance_id"])}
    assert launched == {"m5.large", "m5a.large"}
    (warning,) = report["warnings"]
    assert aws.instance(small)["InstanceType"] in warning and "it offers 1 of cpu" in warning, report
    web.assert_node_swapped(report)


def test_room_that_others_took_on_the_newcomer_is_found_on_another_node(aws, nodes, kubernetes):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=2, pod=cpu("800m"))
    web.schedulable()
    aws.control.newcomers(status="initializing")
    web.start().reach("PauseForReady")
    newcomer = joined(web, kubernetes)
    there = {"nodeSelector": {"kubernetes.io/hostname": web.node_name(newcomer)}}
    web.deploy("fast", replicas=1, pod={**cpu("1"), **there})
    aws.control.instance(newcomer, status="ok")
    report = web.finish()
    kubernetes.wait_ready(web.namespace, "web", 2)
    web.assert_node_swapped(report)


def test_a_replica_that_comes_to_the_newcomer_first_leaves_no_node_for_one_that_spreads(aws, nodes, kubernetes, settings):
    web = nodes()
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }  # fmt: skip
    web.deploy(replicas=2, pod={"topologySpreadConstraints": [spread]})
    settings(node_ready_timeout_seconds=WHILE)
    aws.control.newcomers(status="initializing")
    before = web.pods_on_old()
    web.start().reach("PauseForReady")
    joined(web, kubernetes)
    kubernetes.api.patch("Deployment", "web", {"spec": {"replicas": 3}}, web.namespace)
    report = web.finish()
    assert "maxSkew 1" in report["detail"] and report["evicted"] == 0
    assert "Cordon" not in web.states() and web.pods_on_old() >= before
    web.assert_node_kept(report, "NODE_NOT_READY")


def test_pods_that_came_during_the_launch_and_can_never_be_evicted_lead_back(nodes, kubernetes):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=4)
    kubernetes.newcomers(startup_taint=STARTUP_TAINT)
    web.start().reach("PauseForReady")
    kubernetes.create(
        objects.bare_pod(web.namespace, "lonely", web.node),
        objects.deployment(web.namespace, "cache", 1, pod={"volumes": [{"name": "scratch", "emptyDir": {}}]}),
        objects.deployment(web.namespace, "peace", 1, annotations={"karpenter.sh/do-not-disrupt": "true"}),
    )
    for app in ("lonely", "cache", "peace"):
        kubernetes.wait_ready(web.namespace, app, 1)
    web.schedulable()
    with kubernetes.watch(web.namespace, "web") as seen:
        kubernetes.change_node(joined(web, kubernetes), taints=[])
        report = web.finish()
    assert "Drain" not in web.states() and report["evicted"] == 0
    assert seen.evicted == set() and seen.lowest_ready == 4
    assert sorted(blocked["pod"].split("-")[0] for blocked in report["blocked"]) == ["cache", "lonely", "peace"]
    web.assert_node_kept(report, "PODS_NOT_EVICTABLE")


@pytest.mark.parametrize("owners", [None, "false"])
def test_cluster_autoscaler_is_kept_from_the_newcomer_while_the_swap_works(nodes, kubernetes, owners):
    web = nodes()
    web.deploy()
    kubernetes.newcomers(annotations={KEPT: owners} if owners else {})
    pod = sorted(web.pods_on_old())[0]
    kubernetes.api.patch("Pod", pod, HELD, web.namespace)
    web.start().reach("PauseForDrain")
    newcomer = web.newcomer()
    assert annotations(kubernetes, newcomer).get(KEPT) == (owners or "true")
    kubernetes.api.patch("Pod", pod, LET_GO, web.namespace)
    report = web.finish()
    assert annotations(kubernetes, newcomer).get(KEPT) == owners
    web.assert_node_swapped(report)


def test_the_cluster_lets_us_change_no_more_of_a_node_than_a_swap_does(nodes, kubernetes):
    web = nodes(size=1)
    may = kubernetes.as_user()
    kubernetes.change_node(web.instance_id, labels={"team": "a"}, annotations={"team": "a"})
    forbidden = [
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
        {"metadata": {"labels": {"team": "b"}}},
        {"metadata": {"labels": {"team": None}}},
        {"metadata": {"labels": {"pool": "ledger"}}},
        {"metadata": {"annotations": {"team": "b"}}},
        {"metadata": {"annotations": {"team": None}}},
        {"metadata": {"annotations": {"pool": "ledger"}}},
        {"metadata": {"finalizers": ["example.org/hold"]}},
        {"metadata": {"annotations": {MARK: "x"}}},  # without a cordon
        {"metadata": {"labels": {EXCLUDED: "true"}}},  # without its mark
        {"metadata": {"annotations": {KEPT: "true"}}},
    ]
    wait(lambda: refusal(may, web.node, forbidden[0]) == 422, 30, "the policy is not in force")
    assert {str(change): refusal(may, web.node, change) for change in forbidden} == {str(c): 422 for c in forbidden}
    kept, cordon = "spot-optimizer/scale-down-disabled-by", {MARK: "x", "spot-optimizer/excluded-from-load-balancers-by": "x"}
    for annotations_, label, unschedulable in (({**cordon, kept: "x", KEPT: "true"}, "true", True), (None, None, None)):
        marks = annotations_ or dict.fromkeys([*cordon, kept, KEPT])
        change = {"metadata": {"annotations": marks, "labels": {EXCLUDED: label}}, "spec": {"unschedulable": unschedulable}}
        assert refusal(may, web.node, change) is None
    # What somebody else did is not ours to take back, nor to call ours.
    theirs = {"metadata": {"labels": {EXCLUDED: "true"}, "annotations": {KEPT: "true"}}, "spec": {"unschedulable": True}}
    kubernetes.api.patch("Node", web.node, theirs)
    for change in (
        {"spec": {"unschedulable": None}},
        {"metadata": {"labels": {EXCLUDED: None}}},
        {"metadata": {"annotations": {KEPT: None}}},
        *({"metadata": {"annotations": {mark: "x"}}} for mark in (*cordon, kept)),
    ):
        assert refusal(may, web.node, change) == 422, change
    assert refusal(kubernetes.api, web.node, {"metadata": {"labels": {"pool": "ledger"}}}) is None


def test_the_cluster_lets_us_shorten_no_grace_period(nodes, kubernetes):
    web = nodes(size=1)
    web.deploy(replicas=1)
    pod, may = web.pods_on_old().pop(), kubernetes.as_user()
    eviction = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": web.namespace},
        "deleteOptions": {"gracePeriodSeconds": 0},
    }  # fmt: skip
    where = f"/api/v1/namespaces/{web.namespace}/pods/{pod}/eviction"
    with pytest.raises(ApiError, match="shorten the grace period"):
        may.call("POST", where, eviction)
    may.evict(pod, web.namespace)


def cpu(requested):
    return {"containers": [{"name": "main", "image": "web", "resources": {"requests": {"cpu": requested}}}]}


def joined(web, kubernetes):
    """Returns the instance id of the running newcomer, as soon as it is a Ready node."""
    running = wait_for(lambda: [i for i in web.newcomers if i["State"]["Name"] == "running"])
    newcomer, ready = running[0]["InstanceId"], {"type": "Ready", "status": "True"}.items()

    def is_there():
        status = (kubernetes.node_of(newcomer) or {}).get("status", {})
        return any(ready <= condition.items() for condition in status.get("conditions", []))

    wait(is_there, 30, f"{newcomer} is no Ready node")
    return newcomer


def annotations(kubernetes, instance_id):
    return kubernetes.node_of(instance_id)["metadata"]["annotations"]


def offer(kubernetes, node, resources):
    status = {"status": {"capacity": resources, "allocatable": resources}}
    kubernetes.api.patch("Node", node, status, subresource="status")


def refusal(api, node, change):
    try:
        api.patch("Node", node, change)
    except ApiError as error:
        return error.status
    return None
