"""The drain and the rollback: no loop, no harm on the way back, and a report that names each obstacle."""

import contextlib
import itertools
import json
import socket
import threading
import time

import pytest

from local_aws.kubernetes import objects
from node_scene import HELD, LET_GO
from scene import wait_for

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def test_without_a_budget_and_behind_others_load_balancers_the_node_goes_gently(aws, nodes, kubernetes):
    """All pods run on the node. A load-balancer controller has a target group, and an attachment lost its claim."""
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=4, annotations={"local.aws/ready-after": "1s"})
    web.schedulable()
    leftover = {
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "left-behind"},
        "spec": {"attacher": "ebs.csi.aws.com", "nodeName": web.node, "source": {"persistentVolumeName": "pv-x"}},
    }  # fmt: skip
    kubernetes.create(leftover)
    aws.control.timing(target_drain=8)
    target_group = web.foreign_target_group(web.instance_id)
    deregistered = []

    def controller():
        api = kubernetes.api.another()
        wait_for(lambda: EXCLUDED in api.get("Node", web.node)["metadata"]["labels"], timeout=60)
        target = {"Id": web.instance_id, "Port": 80}
        deregistered.append(time.time())
        aws.client("elbv2").deregister_targets(TargetGroupArn=target_group, Targets=[target])

    with alongside(controller), kubernetes.watch(web.namespace, "web") as seen:
        report = web.run()
    assert seen.lowest_ready >= 1
    assert "warnings" not in report
    went = [c["t"] for c in aws.control.calls() if c["action"] in ("DetachInstances", "TerminateInstances")]
    assert min(went) >= deregistered[0] + 8, "a target group still drained it"
    web.assert_node_swapped(report)


def test_near_the_deadline_the_last_ready_pod_goes_as_by_kubectl_and_the_report_says_so(nodes, kubernetes):
    """The replacements are never Ready."""
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=2, kind=replica_set)
    web.start_held(drain_timeout_seconds=12).reach("PauseForReady")
    web.schedulable()
    never = {"spec": {"template": {"metadata": {"annotations": {"local.aws/ready-after": "never"}}}}}
    kubernetes.api.patch("ReplicaSet", "web", never, web.namespace)
    web.let_go()
    report = web.finish()
    assert report["evicted"] == 2
    (warning,) = report["warnings"]
    assert f"the last Ready pod of ReplicaSet {web.namespace}/web" in warning
    assert "of 2 pods of ReplicaSet" in report["detail"] and "is not Ready" in report["detail"]


def test_pods_that_are_not_admitted_again_cost_one_and_the_others_serve(nodes, kubernetes):
    """The webhook that admits pods dies before the drain: the ReplicaSet creates no pod in the place of an evicted one."""
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=4)
    web.start_held(drain_timeout_seconds=12).reach("PauseForReady")
    web.schedulable()
    dead = dead_webhook(kubernetes, web.namespace, seconds=1, policy="Fail", resource="pods")
    with dead, kubernetes.watch(web.namespace, "web") as seen:
        report = web.let_go().finish()
    assert seen.lowest_ready == 3 and report["evicted"] == 1, report
    assert "ReplicaFailure" in report["detail"] and "dead.example.org" in report["detail"], report
    web.assert_node_kept(report, "DRAIN_TIMED_OUT")


def test_pods_that_always_come_back_are_evicted_twice_and_the_newcomer_stays_for_its_own(nodes, kubernetes):
    """One pod returns to the old node: the swap goes back. One returns to the newcomer, which then stays."""
    web = nodes()
    web.deploy(replicas=2)
    web.hold_pods()
    with contextlib.ExitStack() as agents:
        web.start(drain_timeout_seconds=900).reach("Drain")
        newcomer = web.newcomer()
        agents.enter_context(coming_back(kubernetes, web.namespace, "agent-n", web.node_name(newcomer)))
        agents.enter_context(coming_back(kubernetes, web.namespace, "agent-a", web.node))
        web.let_pods_go()
        report = web.finish(timeout=120)
        for agent in ("agent-a", "agent-n"):
            assert agent in report["detail"], report
            assert evictions(kubernetes, web.namespace, agent) == 2
        assert "came back" in report["detail"] and "should-decrement-desired-capacity" in report["detail"], report
        web.assert_newcomer_stays(report, "PODS_NOT_EVICTABLE")
        assert report["kept_instance_id"] == newcomer


@pytest.mark.parametrize("trouble", ["not Ready", "gone from the cluster"])
def test_while_the_old_node_is_lost_the_newcomer_keeps_its_pods_and_a_person_is_told(aws, nodes, kubernetes, settings, trouble):
    settings(rollback_timeout_seconds=4)
    web = nodes()
    held = next(p["metadata"]["name"] for p in web.deploy(replicas=4) if p["spec"]["nodeName"] == web.node)
    kubernetes.api.patch("Pod", held, HELD, web.namespace)
    web.start().reach("PauseForDrain")
    newcomer = web.newcomer()
    node = web.node_name(newcomer)
    wait_for(lambda: kubernetes.pods_on(node, web.namespace))
    if trouble == "not Ready":
        kubernetes.change_node(web.instance_id, ready=False)
    else:
        kubernetes.api.delete("Node", web.node)
    web.cordon(web.old[1])  # The newcomer is the only place that is left.
    kept = {p["metadata"]["name"] for p in kubernetes.pods_on(node, web.namespace)}
    aws.put_drill(newcomer)
    execution = web.end()
    assert (execution["status"], execution["error"]) == ("FAILED", "Stuck"), execution
    assert f"{trouble}" in execution["cause"] and newcomer in execution["cause"], execution["cause"]
    assert kept <= {p["metadata"]["name"] for p in kubernetes.pods_on(node, web.namespace)}
    assert aws.instance(newcomer)["State"]["Name"] == "running"
    assert not kubernetes.node_of(newcomer)["spec"].get("unschedulable"), "it is the place that there is"
    # Somebody sees to it: the way back goes on.
    web.cordon(web.old[1], False)
    kubernetes.api.patch("Pod", held, LET_GO, web.namespace) if kubernetes.api.find("Pod", held, web.namespace) else None
    settings(reconcile_after_seconds=0)
    if trouble == "not Ready":
        kubernetes.change_node(web.instance_id, ready=True)
        web.reconcile_until_free(timeout=60)
        web.assert_kept()
    else:
        aws.client("ec2").terminate_instances(InstanceIds=[web.instance_id])
        web.reconcile_until_free(timeout=60)
        assert newcomer not in web.group.instance_ids and len(web.group.instance_ids) == 2
        web.assert_cluster_as_found()


def test_a_drain_that_times_out_names_each_pod_with_its_cause(nodes, kubernetes):
    """One pod has a finalizer, and the replacement of another finds no node."""
    web = nodes()
    web.only_on_old()
    (held,) = web.deploy("held", replicas=1)
    kubernetes.api.patch("Pod", held["metadata"]["name"], HELD, web.namespace)
    report = web.run(drain_timeout_seconds=4)
    kubernetes.api.patch("Pod", held["metadata"]["name"], LET_GO, web.namespace)
    (blocked,) = report["blocked"]
    assert blocked["pod"] == held["metadata"]["name"]
    assert "Terminating for" in blocked["why"] and "example.org/hold" in blocked["why"]
    assert blocked["pod"] in report["detail"] and "example.org/hold" in report["detail"]
    web.schedulable()
    web.assert_node_kept(report, "DRAIN_TIMED_OUT")


def test_an_admission_webhook_that_is_dead_and_ignored_makes_the_drain_slow_and_no_worse(nodes, kubernetes):
    """The API server grants each eviction after its timeout: 11 s, longer than most clients wait."""
    web = nodes()
    web.only_on_old()
    web.deploy(replicas=1)
    web.schedulable()
    with dead_webhook(kubernetes, web.namespace, seconds=11, policy="Ignore"):
        report = web.run(drain_timeout_seconds=90)
    web.assert_node_swapped(report)


def test_an_admission_webhook_that_is_dead_and_obeyed_is_named(nodes, kubernetes):
    web = nodes()
    web.deploy(replicas=2)
    with dead_webhook(kubernetes, web.namespace, seconds=1, policy="Fail"):
        report = web.run(drain_timeout_seconds=4)
    assert report["evicted"] == 0
    assert "dead.example.org" in report["detail"] and "dead.example.org" in report["blocked"][0]["why"], report
    web.assert_node_kept(report, "DRAIN_TIMED_OUT")


def test_a_cluster_that_does_not_know_us_says_so_at_the_first_try(nodes, kubernetes):
    web = nodes()
    kubernetes.refuse_tokens(1000)
    try:
        error, cause = web.refused()
    finally:
        kubernetes.refuse_tokens(0)
    assert error == "NotAuthorized" and "access entry" in cause, (error, cause)
    assert sum(1 for seen in kubernetes.tokens if seen["refused"]) == 1
    web.assert_kept()


@pytest.mark.parametrize("server, why", [("https://api.nowhere.invalid:6443", "can't be resolved")])
def test_a_kubeconfig_that_leads_nowhere_says_so_once_it_was_asked_some_times(aws, nodes, kubernetes, settings, server, why):
    web = nodes()
    secrets = aws.client("secretsmanager")
    text = kubernetes.kubeconfig().replace(kubernetes.server, server)
    arn = secrets.create_secret(Name=f"spot-optimizer/{web.name}", SecretString=text)["ARN"]
    settings(kubeconfig_secrets=f"elsewhere={arn}")
    error, cause = web.refused(cluster_name="elsewhere")
    assert error == "InvalidSettings" and why in cause and server in cause, (error, cause)
    failures = [e for e in aws.history(web.arn) if e["type"].endswith("Failed") and "Task" in e["type"]]
    assert len(failures) > 1, "a moment's silence is no answer"
    web.assert_kept()


def replica_set(*arguments, **options):
    return {**objects.deployment(*arguments, **options), "kind": "ReplicaSet"}


@contextlib.contextmanager
def alongside(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


@contextlib.contextmanager
def coming_back(kubernetes, namespace, name, node):
    """Deploys a pod with its own controller. Each evicted pod stays until the next one runs on this node, which is thus never empty."""
    api, stop = kubernetes.api.another(), threading.Event()
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace}}
    uid = api.create(lease)["metadata"]["uid"]
    owner = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": name, "uid": uid, "controller": True}

    def deploy(number):
        pod = f"{name}-{number}"
        api.create(objects.bare_pod(namespace, pod, node, owner=owner, finalizers=["example.org/until-the-next-one"]))
        wait_for(lambda: api.get("Pod", pod, namespace)["status"].get("phase") == "Running")
        return pod

    def control(pod):
        for number in itertools.count(2):
            while "deletionTimestamp" not in api.get("Pod", pod, namespace)["metadata"]:
                if stop.wait(0.05):
                    return
            following = deploy(number)
            api.patch("Pod", pod, LET_GO, namespace)
            pod = following

    thread = threading.Thread(target=control, args=[deploy(1)], daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def evictions(kubernetes, namespace, name):
    """Returns the evictions of the pods with this prefix that were granted."""
    events = map(json.loads, kubernetes.plane.evictions.read_text().splitlines())
    objects_ = [e["objectRef"] for e in events if e["responseStatus"]["code"] < 300]
    return sum(o["namespace"] == namespace and o["name"].startswith(f"{name}-") for o in objects_)


@contextlib.contextmanager
def dead_webhook(kubernetes, namespace, seconds, policy, resource="pods/eviction"):
    """Registers an admission webhook for a resource of the namespace that accepts the connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        webhook = {
            "name": "dead.example.org", "failurePolicy": policy, "timeoutSeconds": seconds, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "clientConfig": {"url": f"https://127.0.0.1:{server.getsockname()[1]}/"},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}],
        }  # fmt: skip
        kind, name = "ValidatingWebhookConfiguration", f"dead-{namespace}"
        api_version = "admissionregistration.k8s.io/v1"
        kubernetes.create({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]})
        try:
            yield
        finally:
            kubernetes.api.delete(kind, name)
