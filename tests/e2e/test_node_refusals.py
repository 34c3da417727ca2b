"""The refusals by name, before any launch."""

import pytest

from local_aws.kubernetes import objects
from scene import wait_for

OWNERS = {
    "a managed node group": ({"eks.amazonaws.com/nodegroup": "workers"}, "managed node group"),
    "Karpenter": ({"karpenter.sh/nodepool": "default"}, "Karpenter"),
    "Auto Mode": ({"eks.amazonaws.com/compute-type": "auto"}, "Auto Mode"),
    "Fargate": ({"eks.amazonaws.com/compute-type": "fargate"}, "Fargate"),
}


def refused(web, reason, **input):
    web.aws.control.clear_calls()
    report = web.run(**input)
    assert (report["outcome"], report.get("reason")) == ("REFUSED", reason), report
    web.assert_nothing_changed()
    return report


@pytest.mark.parametrize("owner", OWNERS)
def test_a_node_that_somebody_else_manages(nodes, kubernetes, owner):
    labels, name = OWNERS[owner]
    web = nodes()
    kubernetes.change_node(web.instance_id, labels=labels)
    assert name in refused(web, "MANAGED_ELSEWHERE")["detail"]


def test_a_node_that_somebody_else_cordoned_stays_cordoned(nodes, kubernetes):
    web = nodes()
    web.cordon(web.instance_id)
    assert web.node in refused(web, "CORDONED_BY_OTHERS")["detail"]
    assert kubernetes.node_of(web.instance_id)["spec"]["unschedulable"]


def test_a_node_that_is_not_ready(nodes, kubernetes):
    web = nodes()
    kubernetes.change_node(web.instance_id, ready=False)
    not_ready = lambda: any(  # noqa: E731
        c["type"] == "Ready" and c["status"] != "True" for c in kubernetes.node_of(web.instance_id)["status"]["conditions"]
    )
    wait_for(not_ready)
    refused(web, "NOT_IN_SERVICE")


def test_a_pod_that_nobody_would_bring_back(nodes, kubernetes, settings):
    web = nodes()
    kubernetes.create(objects.bare_pod(web.namespace, "lonely", web.node))
    kubernetes.wait_ready(web.namespace, "lonely", 1)
    report = refused(web, "PODS_NOT_EVICTABLE")
    assert [(b["pod"], b["namespace"]) for b in report["blocked"]] == [("lonely", web.namespace)]
    settings(evict_unmanaged=True)
    report = web.run()
    assert report["evicted"] == 1
    web.assert_node_swapped(report)


@pytest.mark.parametrize(
    "pod, why",
    [
        ({"volumes": [{"name": "scratch", "emptyDir": {}}]}, "scratch"),
        (None, "do-not-disrupt"),
    ],
)
def test_a_pod_with_local_data_or_that_asks_for_peace(nodes, kubernetes, pod, why):
    web = nodes()
    web.only_on_old()
    annotations = {} if pod else {"karpenter.sh/do-not-disrupt": "true"}
    web.deploy(replicas=1, pod=pod, annotations=annotations)
    web.schedulable()
    report = refused(web, "PODS_NOT_EVICTABLE")
    assert why in report["blocked"][0]["why"]


def test_a_pod_with_local_data_goes_if_the_setting_lets_it(nodes, settings):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=1, pod={"volumes": [{"name": "scratch", "emptyDir": {}}]})
    web.schedulable()
    refused(web, "PODS_NOT_EVICTABLE")
    settings(evict_local_storage=True)
    report = web.run()
    assert report["evicted"] == 1
    web.assert_node_swapped(report)


def test_a_budget_that_can_never_be_met_is_named(nodes):
    web = nodes()
    web.deploy(budget={"maxUnavailable": 0})
    report = refused(web, "PODS_NOT_EVICTABLE")
    assert {b["budget"] for b in report["blocked"]} == {"web"}


def test_a_pod_in_two_budgets(nodes):
    web = nodes()
    web.deploy(budget={"minAvailable": 1})
    web.budget("second", "web", minAvailable=1)
    report = refused(web, "PODS_NOT_EVICTABLE")
    assert all("second" in b["budget"] + b["why"] for b in report["blocked"]) and report["blocked"]


def test_an_instance_that_is_no_node_of_that_cluster(aws, scene, kubernetes):
    web = scene(size=1)
    web.instance_id = web.old[0]
    execution = aws.wait_execution(
        aws.start_execution({"instance_id": web.instance_id, "cluster_name": "local"}, machine="NodeSwapStateMachineArn")
    )
    assert execution["output"]["reason"] == "NOT_A_NODE"
    web.assert_untouched()


def test_the_swap_of_a_whole_group_leaves_nodes_alone(aws, nodes):
    web = nodes()
    execution = aws.swap(web.name)
    assert {s["reason"] for s in execution["output"]["skipped"]} == {"KUBERNETES_NODE"}
    web.assert_kept()


def test_a_poisoned_pool_launches_nothing(aws, nodes):
    web = nodes()
    aws.poison(aws.pool_of(web.instance_id))
    report = web.run()
    assert (report["outcome"], report["reason"]) == ("REFUSED", "POOL_POISONED")
    web.assert_kept()
    assert web.newcomers == []


INPUTS = {
    "instance_id is missing": ({"instance_id": None}, "missing field `instance_id`"),
    "cluster_name is malformed": ({"cluster_name": "a b"}, "cluster name"),
    "a misspelt field": ({"dryrun": True}, "unknown field `dryrun`"),
    "no such cluster": ({"cluster_name": "nowhere"}, "cluster_name: "),
}


@pytest.mark.parametrize("case", INPUTS)
def test_an_input_that_cannot_be_meant_fails_the_execution_and_names_the_field(aws, nodes, case):
    more, expected = INPUTS[case]
    web = nodes()
    input = {k: v for k, v in {"instance_id": web.instance_id, **more}.items() if v is not None}
    execution = aws.wait_execution(aws.start_execution(input, machine="NodeSwapStateMachineArn"))
    assert execution["error"] == "InvalidInput" and expected in execution["cause"], execution
    web.assert_kept()


def test_one_node_of_a_cluster_at_a_time(aws, nodes, settings):
    first, second = nodes(), nodes()
    first.start_held().reach("AwaitReady")
    second.start()
    execution = second.end()
    assert execution["error"] == "ClusterBusy" and "slot 0 of cluster local" in execution["cause"]
    second.assert_untouched()
    first.let_go()
    first.assert_node_swapped(first.finish())
    settings(max_unavailable_nodes=2)
    third = nodes()
    second.start_held().newcomer()
    aws.control.newcomers(status="ok")
    third.start().reach("Cordon")
    second.let_go()
    second.finish()
    third.finish()
