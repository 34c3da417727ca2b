"""A node becomes Spot: its pods run elsewhere before it leaves, and no budget is ever violated."""

import pytest

from local_aws.kubernetes import objects
from local_aws.kubernetes.watcher import is_ready
from node_scene import HELD, LET_GO
from scene import wait_for


def test_a_deployment_with_a_budget_moves_without_a_moment_of_violation(nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "1s"})
    on_old = len(web.pods_on_old())
    assert on_old > 0
    with kubernetes.watch(web.namespace, "web") as seen:
        report = web.run()
    assert seen.lowest_ready >= 3 and seen.violated == []
    assert report["evicted"] == on_old and report["cluster_name"] == "local"
    assert len(kubernetes.wait_ready(web.namespace, "web", 4)) == 4
    web.assert_node_swapped(report)


def test_the_graph_shows_the_phases_by_name(nodes):
    web = nodes()
    web.deploy()
    web.run()
    phases = ["Preflight", "ScaleOut", "AwaitReady", "Cordon", "Drain", "Terminate", "Report"]
    assert list(dict.fromkeys(s for s in web.states() if s in phases)) == phases


def test_the_old_node_goes_only_once_its_pods_are_ready_elsewhere(nodes, kubernetes):
    web = nodes()
    web.deploy(annotations={"local.aws/ready-after": "3s"})
    web.start().reach("Terminate")
    pods = kubernetes.pods(web.namespace, "web")
    assert [is_ready(pod) for pod in pods] == [True] * 4
    assert web.node not in {p["spec"]["nodeName"] for p in pods}
    assert not web.pods_on_old()
    web.assert_node_swapped(web.finish())


def test_a_stateful_pod_comes_back_under_its_name_on_another_node(nodes, kubernetes):
    web = nodes()
    before = {p["metadata"]["name"]: p for p in web.deploy("db", 4, kind=objects.stateful_set)}
    moved = web.pods_on_old()
    report = web.run()
    after = {p["metadata"]["name"]: p for p in kubernetes.wait_ready(web.namespace, "db", 4)}
    assert moved and set(after) == set(before)
    for name in moved:
        assert after[name]["metadata"]["uid"] != before[name]["metadata"]["uid"]
        assert after[name]["spec"]["nodeName"] != web.node
    web.assert_node_swapped(report)


def test_pods_of_daemon_sets_static_and_finished_pods_are_left_alone(nodes, kubernetes):
    web = nodes()
    kubernetes.create(objects.daemon_set(web.namespace, "agent"))
    kubernetes.wait_ready(web.namespace, "agent", 2)
    node = kubernetes.node_of(web.instance_id)
    kubernetes.create(objects.mirror_pod(web.namespace, "static", node))
    done = objects.bare_pod(web.namespace, "done", web.node, pod={"restartPolicy": "Never"})
    kubernetes.create(done)
    kubernetes.wait_ready(web.namespace, "done", 1)
    kubernetes.api.patch("Pod", "done", {"status": {"phase": "Succeeded"}}, web.namespace, subresource="status")
    with kubernetes.watch(web.namespace, "agent") as seen:
        report = web.run()
    assert report["evicted"] == 0 and seen.evicted == set()
    web.assert_node_swapped(report)


def test_a_pod_that_a_finalizer_holds_is_waited_for(nodes, kubernetes):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=1)
    web.schedulable()
    pod = web.pods_on_old().pop()
    kubernetes.api.patch("Pod", pod, HELD, web.namespace)
    web.start().reach("PauseForDrain")
    wait_for(lambda: "deletionTimestamp" in kubernetes.api.get("Pod", pod, web.namespace)["metadata"])
    wait_for(lambda: web.states().count("Drain") >= 4)
    assert "Terminate" not in web.states()
    kubernetes.api.patch("Pod", pod, LET_GO, web.namespace)
    web.assert_node_swapped(web.finish())


def test_more_pods_than_a_page_holds(nodes, kubernetes):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=110)
    web.schedulable()
    assert len(web.pods_on_old()) == 110
    report = web.run()
    assert report["evicted"] == 110
    web.assert_node_swapped(report)


def test_a_dry_run_tells_what_would_move_and_changes_nothing(aws, nodes, kubernetes):
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=2)
    web.schedulable()
    kubernetes.create(objects.daemon_set(web.namespace, "agent"))
    kubernetes.wait_ready(web.namespace, "agent", 2)
    aws.control.clear_calls()
    report = web.run(dry_run=True)
    assert report["outcome"] == "PLANNED", report
    plan = report["plan"]
    assert plan["node"] == web.node and plan["would_move_count"] == 2 and plan["stays_count"] == 1
    assert sorted(plan["would_move"]) == sorted(f"{web.namespace}/{pod}" for pod in web.pods_on_old() if "agent" not in pod)
    assert plan["pools"] == [aws.pool_of(web.instance_id)]
    web.assert_nothing_changed()
    web.assert_kept()


def test_a_terminating_hook_of_the_group_runs(aws, nodes):
    web = nodes()
    web.deploy()
    aws.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=web.name, LifecycleHookName="bye",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING", HeartbeatTimeout=30,
    )  # fmt: skip
    web.assert_node_swapped(web.run())


@pytest.mark.parametrize("by", ["certificate", "token"])
def test_a_self_managed_cluster_is_reached_by_the_kubeconfig_of_a_secret(aws, nodes, kubernetes, settings, by):
    web = nodes()
    web.deploy()
    secrets = aws.client("secretsmanager")
    name = f"spot-optimizer/{web.name}"
    arn = secrets.create_secret(Name=name, SecretString=kubernetes.kubeconfig(by))["ARN"]
    settings(kubeconfig_secrets=f"on-premises={arn}")
    report = web.run(cluster_name="on-premises")
    assert report["cluster_name"] == "on-premises"
    web.assert_node_swapped(report)
