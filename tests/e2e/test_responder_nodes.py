"""The answers to interruptions of Kubernetes nodes: cordoned, and drained by eviction under the budgets until the end."""

import pytest

from local_aws.kubernetes import objects
from local_aws.stack import REBALANCE
from node_scene import MARK
from notices import ENROLLED, answered, hear
from scene import SIZES, is_change, wait_for, wait_for_look

HANDLER = "aws-node-termination-handler"


@pytest.fixture
def doomed(nodes):
    """`doomed(…)` makes an enrolled group of nodes, all Spot."""

    def make(tags=ENROLLED, **options):
        web = nodes(tags=tags, **options)
        for instance_id in web.old:
            web.aws.control.instance(instance_id, set={"InstanceLifecycle": "spot"})
        web.aws.control.clear_calls()
        return web

    return make


def tag(web, key, value):
    """Tags the group, or takes the tag away."""
    said = {"ResourceId": web.name, "ResourceType": "auto-scaling-group", "Key": key, "Value": value or "", "PropagateAtLaunch": False}
    client = web.aws.client("autoscaling")
    client.delete_tags(Tags=[said]) if value is None else client.create_or_update_tags(Tags=[said])


def is_cordoned(web, instance_id):
    return bool(web.kubernetes.node_of(instance_id)["spec"].get("unschedulable"))


def assert_group_untouched(web):
    """No call of ours has changed the group or an instance of it, and no lease is left."""
    changes = {c["action"] for c in web.aws.control.calls() if is_change(c)}
    assert not {c for c in changes if "AutoScaling" in c or "Instance" in c or c.startswith("SetDesired")}, changes
    after = web.group.describe()
    assert {size: after[size] for size in SIZES} == {size: web.before[size] for size in SIZES}
    assert not web.leased()


def test_a_node_is_cordoned_and_its_pods_move_under_their_budget_however_often_the_notice_comes(aws, doomed, kubernetes):
    web = doomed()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "1s"})
    on_node = len(web.pods_on_old())
    assert on_node, "the scheduler spreads them"
    with kubernetes.watch(web.namespace, "web") as seen:
        started = hear(web, web.instance_id)
        assert (started["asg_name"], started["cluster_name"]) == (web.name, "local")
        assert hear(web, web.instance_id)["execution_arn"] == started["execution_arn"]
        answer = answered(web, started)
        wait_for(lambda: len([p for p in kubernetes.pods(web.namespace, "web") if p["spec"].get("nodeName")]) == 4)
    assert (answer["outcome"], answer["cluster_name"], answer["instance_id"]) == ("DRAINED", "local", web.instance_id), answer
    assert answer["evicted"] == on_node and "reason" not in answer and "blocked" not in answer
    assert seen.lowest_ready >= 3 and not seen.violated
    assert web.pods_on_old() == set()
    node = kubernetes.node_of(web.instance_id)
    assert node["spec"]["unschedulable"] and node["metadata"]["annotations"][MARK] == f"interruption-{web.instance_id}"
    assert not is_cordoned(web, web.old[1])
    assert web.instance_id in web.group.instance_ids, "EC2 takes it, and then its group replaces it"
    assert_group_untouched(web)


def test_what_a_budget_forbids_stays_to_the_end_and_is_named_and_the_rest_moves(aws, doomed, kubernetes):
    """EC2 takes the instance once the pods that may go have gone."""
    web = doomed()
    web.only_on_old()
    web.deploy("kept", replicas=2, budget={"minAvailable": 2})
    web.deploy("free", replicas=1, pod={"volumes": [{"name": "scratch", "emptyDir": {}}]})
    kubernetes.create(objects.bare_pod(web.namespace, "alone", web.node))
    kubernetes.wait_ready(web.namespace, "alone", 1)
    web.schedulable()
    before = web.pods_on_old()
    started = hear(web, web.instance_id)
    wait_for(lambda: not [pod for pod in web.pods_on_old() if pod.startswith("free")], timeout=60)
    wait_for_look(lambda: [name for _, name in aws.states(started["execution_arn"])], "PauseForEvacuation")
    kept = {pod for pod in before if not pod.startswith("free")}
    assert web.pods_on_old() == kept and len(kept) == 3, "nobody deletes a pod"
    aws.control.kill(web.instance_id)
    answer = answered(web, started)
    assert (answer["outcome"], answer["reason"], answer["evicted"]) == ("FAILED", "PODS_LEFT", 1), answer
    assert "budget kept" in answer["detail"], answer
    assert {(pod["pod"], pod.get("budget")) for pod in answer["blocked"]} == {
        *((pod, "kept") for pod in kept - {"alone"}),
        ("alone", None),
    }, answer


def test_who_drains_the_node_already_is_left_to_it_and_what_is_not_enrolled_is_left_alone(aws, doomed, kubernetes):
    web = doomed()
    web.deploy(replicas=2)
    pods = {pod["metadata"]["uid"] for pod in kubernetes.pods(web.namespace, "web")}
    at_risk = hear(web, web.instance_id, REBALANCE)
    assert (at_risk["outcome"], at_risk["reason"]) == ("IGNORED", "KUBERNETES_NODE")
    for value, reason in (("false", "OPTED_OUT"), (None, "NOT_ENROLLED")):
        tag(web, "spot-optimizer:enabled", value)
        refused = hear(web, web.instance_id)
        assert (refused["outcome"], refused["reason"]) == ("IGNORED", reason)
    tag(web, "spot-optimizer:enabled", "true")
    # One is announced by a taint. On the other one, a pod hears the notice by itself.
    kubernetes.change_node(web.instance_id, taints=[{"key": f"{HANDLER}/spot-itn", "value": "x", "effect": "NoSchedule"}])
    wait_for(lambda: kubernetes.node_of(web.instance_id)["spec"].get("taints"))
    answer = answered(web, hear(web, web.instance_id))
    assert (answer["outcome"], answer["reason"]) == ("IGNORED", "DRAINED_ELSEWHERE")
    assert f"{HANDLER}/spot-itn" in answer["detail"] and answer["cluster_name"] == "local"
    kubernetes.create(objects.bare_pod(web.namespace, HANDLER, web.node_name(web.old[1])))
    kubernetes.wait_ready(web.namespace, HANDLER, 1)
    answer = answered(web, hear(web, web.old[1]))
    assert (answer["outcome"], answer["reason"]) == ("IGNORED", "DRAINED_ELSEWHERE")
    assert f"{web.namespace}/{HANDLER}" in answer["detail"]
    assert not any(is_cordoned(web, instance_id) for instance_id in web.old)
    assert {pod["metadata"]["uid"] for pod in kubernetes.pods(web.namespace, "web")} == pods
    assert_group_untouched(web)


def test_beside_a_swap_of_its_group_a_node_is_drained_all_the_same(aws, doomed, kubernetes):
    web = doomed(size=3)
    aws.control.instance(web.instance_id, set={"InstanceLifecycle": None})
    web.deploy(replicas=3)
    web.start_held().reach("PauseForReady")
    answer = answered(web, hear(web, web.old[1]))
    assert answer["outcome"] == "DRAINED", answer
    report = web.let_go().finish()
    assert report["outcome"] == "SWAPPED", report
    assert is_cordoned(web, web.old[1]), "a swap takes back no cordon but its own"
