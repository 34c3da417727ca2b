"""Failures during a node swap: the pods keep their budgets, and the old node stays until the swap can be finished."""

import os
import signal
import subprocess

import pytest

from local_aws.kubernetes import objects
from node_scene import HELD
from scene import wait_for


def test_a_budget_that_blocks_for_good_leads_back_and_is_named(nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=4)
    web.start_held(drain_timeout_seconds=3).reach("AwaitReady")
    web.budget("strict", "web", maxUnavailable=0)
    with kubernetes.watch(web.namespace, "web") as seen:
        web.let_go()
        report = web.finish()
    assert seen.lowest_ready == 4 and report["evicted"] == 0
    assert {b["budget"] for b in report["blocked"]} == {"strict"}
    assert {b["pod"] for b in report["blocked"]} == web.pods_on_old()
    assert "strict" in report["detail"]
    web.assert_node_kept(report, "PODS_NOT_EVICTABLE")


def test_two_budgets_on_a_pod_are_no_success(nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 1})
    web.start_held(drain_timeout_seconds=3).reach("AwaitReady")
    web.budget("second", "web", minAvailable=1)
    with kubernetes.watch(web.namespace, "web") as seen:
        web.let_go()
        report = web.finish()
    assert seen.evicted == set() and seen.lowest_ready == 4
    assert report["evicted"] == 0 and report["blocked"]
    web.assert_node_kept(report, "PODS_NOT_EVICTABLE")


def test_pods_that_moved_before_the_deadline_are_evicted_from_the_newcomer_under_their_budget(nodes, kubernetes):
    """One pod moves at a time, and the moved ones are never Ready. The rollback keeps the budget, too."""
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3})
    web.only_on_old()
    web.deploy("slow", replicas=2)
    web.schedulable()
    for pod in kubernetes.pods(web.namespace, "slow"):
        kubernetes.api.patch("Pod", pod["metadata"]["name"], HELD, web.namespace)
    with kubernetes.watch(web.namespace, "web") as seen:
        report = web.run(drain_timeout_seconds=4)
    web.let_pods_go()
    assert seen.lowest_ready >= 3 and seen.violated == []
    web.assert_node_kept(report, "DRAIN_TIMED_OUT")


@pytest.mark.parametrize(
    "plan, why",
    [
        ({"join": False}, "has not joined"),
        ({"ready": False}, "not Ready"),
        ({"startup_taint": {"key": "node.cilium.io/agent-not-ready"}}, "agent-not-ready"),
    ],
)
def test_a_newcomer_that_is_never_ready_is_terminated_and_the_old_node_was_never_touched(nodes, kubernetes, settings, plan, why):
    web = nodes()
    web.deploy()
    settings(node_ready_timeout_seconds=4)
    kubernetes.newcomers(**plan)
    with kubernetes.watch(web.namespace, "web") as seen:
        report = web.run()
    assert why in report["detail"]
    assert "Cordon" not in web.states() and seen.evicted == set()
    web.assert_node_kept(report, "NODE_NOT_READY")


def test_a_startup_taint_that_goes_is_waited_for(nodes, kubernetes):
    web = nodes()
    web.deploy()
    kubernetes.newcomers(startup_taint={"key": "node.cilium.io/agent-not-ready", "seconds": 2})
    web.assert_node_swapped(web.run())


def test_a_newcomer_whose_pool_is_poisoned_during_the_drain_is_sent_away(aws, nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "2s"})
    web.hold_pods()
    with kubernetes.watch(web.namespace, "web") as seen:
        web.start().reach("PauseForDrain")
        aws.put_drill(web.newcomer())
        report = web.finish()
    assert seen.lowest_ready >= 3 and seen.violated == []
    web.assert_node_kept(report, "NEWCOMER_AT_RISK")


def test_a_newcomer_that_dies_during_the_drain_leads_back(aws, nodes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "2s"})
    web.hold_pods()
    web.start().reach("PauseForDrain")
    aws.client("ec2").terminate_instances(InstanceIds=[web.newcomer()])
    report = web.finish()
    assert report["outcome"] == "ROLLED_BACK", report
    web.assert_kept()


def test_somebody_who_uncordons_the_old_node_is_obeyed_and_a_pod_that_cant_leave_the_newcomer_keeps_it(nodes, kubernetes):
    web = nodes()
    web.deploy(annotations={"local.aws/ready-after": "3s"})
    web.hold_pods()
    web.start().reach("PauseForDrain")
    newcomer = web.node_name(web.newcomer())
    kubernetes.create(objects.bare_pod(web.namespace, "lonely", newcomer))
    kubernetes.wait_ready(web.namespace, "lonely", 1)
    there = {p["metadata"]["uid"] for p in kubernetes.pods_on(newcomer, web.namespace)}
    web.cordon(web.instance_id, False)
    report = web.finish()
    assert "lonely" in report["detail"] and "safe-to-evict" in report["detail"], report
    assert there <= {p["metadata"]["uid"] for p in kubernetes.pods_on(newcomer, web.namespace)}, "nobody is evicted for nothing"
    web.let_pods_go()
    web.assert_newcomer_stays(report, "CORDONED_BY_OTHERS")


def test_an_api_server_that_is_restarted_in_the_middle_is_waited_for(nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "1s"})
    web.hold_pods()
    web.start_held()
    web.let_go()
    web.reach("PauseForDrain")
    kubernetes.restart_api_server(down_seconds=1)
    web.let_pods_go()
    web.assert_node_swapped(web.finish())


def test_tokens_that_are_refused_under_way_are_minted_anew(nodes, kubernetes):
    web = nodes()
    web.deploy(annotations={"local.aws/ready-after": "2s"})
    web.start_held().reach("PauseForReady")
    kubernetes.refuse_tokens(3)
    wait_for(lambda: any(seen["refused"] for seen in kubernetes.tokens))
    web.let_go()
    web.assert_node_swapped(web.finish())


def test_a_lambda_that_is_killed_in_a_pass_is_followed_by_another(aws, nodes):
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "2s"})
    web.hold_pods()
    web.start().reach("PauseForDrain")
    wait_for(lambda: kill_lambdas(aws, "kubernetes-optimizer"))
    web.let_pods_go()
    web.assert_node_swapped(web.finish())


def test_an_execution_that_is_stopped_before_the_old_node_leaves_is_undone(aws, nodes, kubernetes, settings):
    """tests/world/tests/nodes.rs stops it in each phase."""
    web = nodes()
    web.deploy(replicas=4, budget={"minAvailable": 3}, annotations={"local.aws/ready-after": "2s"})
    web.hold_pods()
    with kubernetes.watch(web.namespace, "web") as seen:
        web.start_held()
        web.let_go()
        web.reach("PauseForDrain").stop()
        settings(reconcile_after_seconds=0)
        web.reconcile_until_free()
    assert seen.lowest_ready >= 3 and seen.violated == []
    web.assert_kept()


def test_an_execution_that_is_stopped_while_a_pod_cant_leave_the_newcomer_is_undone_but_for_that(nodes, kubernetes, settings):
    web = nodes()
    web.deploy(replicas=2)
    web.hold_pods()
    web.start().reach("PauseForDrain")
    newcomer = web.newcomer()
    pod = {
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "nodeSelector": {"kubernetes.io/hostname": web.node_name(newcomer)},
    }
    (cache,) = web.deploy("cache", replicas=1, pod=pod)
    web.stop()
    web.let_pods_go()
    settings(reconcile_after_seconds=0)
    web.reconcile_until_free()
    assert "cache" in str(web.row()) and newcomer in str(web.row()), web.row()
    assert [p["metadata"]["uid"] for p in kubernetes.pods(web.namespace, "cache")] == [cache["metadata"]["uid"]]
    web.assert_stays(newcomer)


def test_an_execution_that_is_stopped_after_the_old_node_left_is_finished(aws, nodes, settings):
    web = nodes(with_target_group=True)
    web.deploy()
    aws.control.timing(target_drain=600)
    web.start().reach("PauseForTermination").stop()
    aws.control.timing(target_drain=0.2)
    settings(reconcile_after_seconds=0)
    web.reconcile_until_free()
    assert web.instance_id not in web.group.instance_ids
    assert aws.instance(web.instance_id)["State"]["Name"] == "terminated"
    web.assert_cluster_as_found()
    assert web.capacity.lowest >= 2


def kill_lambdas(aws, function):
    """Kills every running process of the function, as a crash of its sandbox would; returns their number."""
    own = str(aws.home.directory)
    lines = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split(None, 1) for line in lines]
    pids = [int(pid) for pid, command in found if "bootstrap" in command and own in command and is_of(int(pid), function)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


def is_of(pid, function):
    with open(f"/proc/{pid}/environ", "rb") as environment:
        return function.replace("-", "") in environment.read().decode(errors="replace").replace("-", "").lower()
