"""The control plane that the tests of the Kubernetes optimizer use: real API server, simulated nodes, EKS tokens."""

import base64
import time

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local_aws.kubernetes.api import ApiError
from local_aws.kubernetes.cluster import wait
from local_aws.kubernetes.objects import (
    bare_pod,
    budget,
    daemon_set,
    deployment,
    mirror_pod,
    stateful_set,
)

STARTUP_TAINT = "node.cilium.io/agent-not-ready"


@pytest.fixture
def nodes(kubernetes):
    """`nodes(size=2, …)` makes a group of nodes that are Ready; it is deleted after the test."""
    groups = []

    def make(size=2, **options):
        groups.append(kubernetes.create_group(size, **options))
        kubernetes.wait_nodes(groups[-1].instance_ids)
        return groups[-1]

    yield make
    for group in groups:
        ids = group.instance_ids
        group.delete()
        for instance_id in ids:
            kubernetes.wait_no_node(instance_id)


def sign(cluster="local", key="test", secret="test", expires=60, region="us-east-1"):
    """Returns a token by botocore, as `aws eks get-token` makes it."""
    request = AWSRequest(
        "GET",
        f"https://sts.{region}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
        headers={"x-k8s-aws-id": cluster},
    )
    SigV4QueryAuth(Credentials(key, secret), "sts", region, expires).add_auth(request)
    return f"k8s-aws-v1.{base64.urlsafe_b64encode(request.url.encode()).decode().rstrip('=')}"


def cordon(kubernetes, group, unschedulable=True):
    for instance_id in group.instance_ids:
        name = kubernetes.node_of(instance_id)["metadata"]["name"]
        kubernetes.api.patch("Node", name, {"spec": {"unschedulable": unschedulable}})


def refusal(call, *arguments, **options):
    with pytest.raises(ApiError) as refused:
        call(*arguments, **options)
    return refused.value.status


def test_an_instance_with_the_clusters_tag_becomes_a_node_and_its_termination_takes_the_node_and_the_pods(aws, kubernetes, nodes):
    group = nodes(2)
    first, second = group.instance_ids
    instance, node = aws.instance(first), kubernetes.node_of(first)
    zone = instance["Placement"]["AvailabilityZone"]
    assert node["metadata"]["name"] == instance["PrivateDnsName"]
    assert node["spec"]["providerID"] == f"aws:///{zone}/{first}"
    labels = node["metadata"]["labels"]
    assert labels["topology.kubernetes.io/zone"] == zone
    assert labels["topology.k8s.aws/zone-id"] == aws.pool_of(first).split("#")[1]
    assert labels["node.kubernetes.io/instance-type"] == "m5.large"
    assert node["status"]["allocatable"]["pods"] == "250"

    namespace = kubernetes.create_namespace()
    kubernetes.create(deployment(namespace, "web", replicas=4), bare_pod(namespace, "alone", node["metadata"]["name"]))
    kubernetes.wait_ready(namespace, "web", 4)

    group.suspend("Launch")
    aws.client("ec2").terminate_instances(InstanceIds=[first])
    kubernetes.wait_no_node(first)
    left = kubernetes.node_of(second)["metadata"]["name"]
    wait(lambda: set(kubernetes.pods_by_node(namespace)) == {left}, 20, "pods are left on the node that is gone")
    kubernetes.wait_ready(namespace, "web", 4)


def test_nodes_join_as_told(aws, kubernetes, nodes):
    kubernetes.newcomers(startup_taint={"key": STARTUP_TAINT, "seconds": 1}, labels={"karpenter.sh/nodepool": "spot"})
    tags = {"local:node-labels": "eks.amazonaws.com/nodegroup=web", "local:node": '{"name": "resource"}'}
    started = time.monotonic()
    (instance_id,) = nodes(1, instance_tags=tags).instance_ids
    assert time.monotonic() - started > 1
    node = kubernetes.node_of(instance_id)
    assert node["metadata"]["name"] == instance_id
    assert node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "web"
    assert node["metadata"]["labels"]["karpenter.sh/nodepool"] == "spot"

    kubernetes.change_node(instance_id, ready=False)
    with pytest.raises(TimeoutError):
        kubernetes.wait_node(instance_id, timeout=2)
    kubernetes.change_node(instance_id, ready=True)
    kubernetes.wait_node(instance_id)


def test_a_node_can_stay_away_or_never_be_ready(kubernetes, scene):
    away = scene(size=1, instance_tags={**kubernetes.tag, "local:node": '{"join": false}'})
    broken = scene(size=1, instance_tags={**kubernetes.tag, "local:node": '{"ready": false}'})
    (away_id,), (broken_id,) = away.group.instance_ids, broken.group.instance_ids
    with pytest.raises(TimeoutError):
        kubernetes.wait_node(broken_id, timeout=3)

    def said():
        return [c["status"] for c in kubernetes.node_of(broken_id)["status"].get("conditions", []) if c["type"] == "Ready"]

    wait(lambda: kubernetes.node_of(broken_id) and said(), 30, "the kubelet of the broken node says nothing")
    assert said() == ["False"]
    assert kubernetes.node_of(away_id) is None


def test_a_budget_is_kept_while_pods_are_evicted_and_the_watcher_sees_every_moment(kubernetes, nodes):
    group, namespace = nodes(2), kubernetes.create_namespace()
    kubernetes.create(
        deployment(namespace, "web", replicas=3, annotations={"local.aws/ready-after": "1s"}),
        budget(namespace, "web", maxUnavailable=1),
    )
    pods = kubernetes.wait_ready(namespace, "web", 3)
    kubernetes.wait_budget(namespace, "web", allowed=1)
    first, second = (pod["metadata"]["name"] for pod in pods[:2])
    may = kubernetes.as_user()
    with kubernetes.watch(namespace, "web") as seen:
        cordon(kubernetes, group)  # Nothing replaces the first one before the second one is asked for.
        may.evict(first, namespace)
        assert refusal(may.evict, second, namespace) == 429
        cordon(kubernetes, group, None)
        kubernetes.wait_ready(namespace, "web", 3)
        kubernetes.wait_budget(namespace, "web", allowed=1)
    assert seen.lowest_ready == 2
    assert seen.violated == []
    assert {sample.allowed for sample in seen.budgets} == {0, 1}
    assert len(group.instance_ids) == 2


def test_the_workloads_that_a_drain_meets(kubernetes, nodes):
    (instance_id,) = nodes(1).instance_ids
    namespace, node = kubernetes.create_namespace(), kubernetes.node_of(instance_id)
    name = node["metadata"]["name"]
    kubernetes.create(
        stateful_set(namespace, "db", replicas=2),
        daemon_set(namespace, "agent"),
        mirror_pod(namespace, "proxy", node),
        bare_pod(namespace, "held", name, finalizers=["example.com/hold"]),
        bare_pod(namespace, "slow", name, annotations={"local.aws/ready-after": "never"}),
    )
    kubernetes.wait_ready(namespace, "db", 2)
    kubernetes.wait_ready(namespace, "agent", 1)
    kubernetes.wait_ready(namespace, "proxy", 1)
    kubernetes.wait_ready(namespace, "held", 1)
    before = kubernetes.api.get("Pod", "db-0", namespace)["metadata"]["uid"]
    kubernetes.api.evict("db-0", namespace)
    kubernetes.api.evict("held", namespace)
    pods = kubernetes.wait_ready(namespace, "db", 2)
    assert before not in {pod["metadata"]["uid"] for pod in pods}
    assert kubernetes.api.get("Pod", "held", namespace)["metadata"]["deletionTimestamp"]
    ready = {c["type"]: c["status"] for c in kubernetes.api.get("Pod", "slow", namespace)["status"]["conditions"]}
    assert ready["Ready"] == "False"


def test_eks_describes_the_cluster_and_its_tokens_open_it(aws, kubernetes):
    described = aws.client("eks").describe_cluster(name="local")["cluster"]
    assert described["endpoint"] == kubernetes.server
    assert base64.b64decode(described["certificateAuthority"]["data"]) == kubernetes.plane.authority.read_bytes()
    kubernetes.as_user(token=sign()).list("Node")
    assert kubernetes.tokens[-1]["user"] == "arn:aws:iam::123456789012:root"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"cluster": "another"}, "SignatureDoesNotMatch"),
        ({"secret": "guessed"}, "SignatureDoesNotMatch"),
        ({"key": "AKIASTRANGER"}, "InvalidClientTokenId"),
        ({"expires": 900}, "X-Amz-Expires"),
    ],
)
def test_a_wrong_token_opens_nothing(kubernetes, options, why):
    assert refusal(kubernetes.as_user(token=sign(**options)).list, "Node") == 401
    assert why in kubernetes.tokens[-1]["refused"]


def test_a_token_expires_and_the_next_one_works(kubernetes):
    old = kubernetes.as_user(token=sign())
    old.list("Node")
    kubernetes.expire_tokens()
    assert refusal(old.list, "Node") == 401
    kubernetes.as_user(token=sign()).list("Node")


def test_tokens_can_be_refused_for_a_while(kubernetes):
    time.sleep(1)  # The API server remembers the tokens of this second.
    kubernetes.refuse_tokens(1)
    assert refusal(kubernetes.as_user(token=sign()).list, "Node") == 401
    kubernetes.as_user(token=sign()).list("Node")


@pytest.mark.parametrize("by", ["certificate", "token"])
def test_access_is_what_the_manifest_says_and_no_more(kubernetes, nodes, by):
    (instance_id,) = nodes(1).instance_ids
    namespace, name = kubernetes.create_namespace(), kubernetes.node_of(instance_id)["metadata"]["name"]
    kubernetes.create(bare_pod(namespace, "alone", name))
    may = kubernetes.as_user() if by == "certificate" else kubernetes.as_user(token=sign())
    assert [n["metadata"]["name"] for n in may.list("Node")] == [name]
    may.patch("Node", name, {"spec": {"unschedulable": True}})
    assert kubernetes.node_of(instance_id)["spec"]["unschedulable"]
    for kind in ("Pod", "PodDisruptionBudget"):
        may.list(kind)
    may.list("VolumeAttachment")
    assert refusal(may.delete, "Pod", "alone", namespace) == 403
    assert refusal(may.delete, "Node", name) == 403
    assert refusal(may.create, bare_pod(namespace, "another")) == 403
    assert refusal(may.call, "GET", "/api/v1/secrets") == 403
    may.evict("alone", namespace)
    kubernetes.wait_ready(namespace, "alone", 0)


def test_the_api_server_can_be_restarted_in_the_middle(kubernetes, nodes):
    nodes(1)
    namespace = kubernetes.create_namespace()
    kubernetes.create(deployment(namespace, "web", replicas=2), budget(namespace, "web", minAvailable=1))
    kubernetes.wait_ready(namespace, "web", 2)
    with kubernetes.watch(namespace, "web") as seen:
        kubernetes.restart_api_server(down_seconds=0.5)
        kubernetes.api.patch("Deployment", "web", {"spec": {"replicas": 3}}, namespace)
        kubernetes.wait_ready(namespace, "web", 3)
        wait(lambda: seen.ready[-1].count == 3, 30, "the watcher does not see what the new API server tells")
    assert next(sample.count for sample in seen.ready) == 2


def test_a_node_that_bears_the_name_of_one_that_is_gone_keeps_its_pods(aws, kubernetes, nodes):
    """EC2 assigns an address again at once, and the pods of the node that had the address are collected later."""
    kubernetes.timing(pods_collected=2)
    subnets, namespace = [aws.network.subnet("us-east-1a")], kubernetes.create_namespace()
    group = nodes(1, subnets=subnets)
    gone = kubernetes.node_of(group.instance_ids[0])["metadata"]["name"]
    kubernetes.create(bare_pod(namespace, "before", gone))
    group.suspend("Launch")
    aws.client("ec2").terminate_instances(InstanceIds=group.instance_ids)
    (instance_id,) = nodes(1, subnets=subnets).instance_ids
    name = kubernetes.node_of(instance_id)["metadata"]["name"]
    assert name == gone
    kubernetes.create(bare_pod(namespace, "after", name))
    wait(lambda: not kubernetes.pods(namespace, "before"), 20, "the pods of the node that is gone were not collected")
    kubernetes.wait_ready(namespace, "after", 1)
