"""Local AWS itself: the refusals, delays and records that the other tests rely on."""

import concurrent.futures
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from local_aws.paths import REGION


def launch(aws, token, instance_type="m5.large"):
    launched = aws.client("ec2").run_instances(
        ImageId=aws.network.image, InstanceType=instance_type, MinCount=1, MaxCount=1, ClientToken=token,
        SubnetId=aws.network.subnets["us-east-1a"], InstanceMarketOptions={"MarketType": "spot"},
    )  # fmt: skip
    return launched["Instances"][0]["InstanceId"]


def attach(aws, group, *instance_ids):
    aws.client("autoscaling").attach_instances(AutoScalingGroupName=group.name, InstanceIds=list(instance_ids))


def detach(aws, group, instance_id, by=None):
    (by or aws.client("autoscaling")).detach_instances(
        AutoScalingGroupName=group.name, InstanceIds=[instance_id], ShouldDecrementDesiredCapacity=True
    )


def impatient(aws, service):
    """Returns a client that sends each call once."""
    once, url = Config(retries={"total_max_attempts": 1}), f"http://127.0.0.1:{aws.ports['ec2']}"
    return boto3.Session("test", "test", region_name=REGION).client(service, endpoint_url=url, config=once)


def wait_until(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def running(aws, instance_id):
    wait_until(lambda: aws.instance(instance_id)["State"]["Name"] == "running")
    return instance_id


def test_a_group_spreads_over_its_zones(aws):
    zones = [i["Placement"]["AvailabilityZone"] for i in aws.create_group(size=4).instances]
    assert sorted(zones) == ["us-east-1a", "us-east-1a", "us-east-1b", "us-east-1b"]


def test_one_client_token_is_one_launch(aws):
    first = launch(aws, "token-a")
    assert launch(aws, "token-a") == first
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(aws, "token-a", "c5.large")


def test_a_newcomer_is_pending_then_initializing_then_ok(aws):
    aws.control.timing(pending=600, boot=600)
    instance_id = launch(aws, "token-b")
    ec2 = aws.client("ec2")

    def status():
        found = ec2.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"]
        return found[0]["InstanceStatus"]["Status"] if found else None

    assert status() is None
    aws.control.timing(pending=0.2)
    wait_until(lambda: status() == "initializing")
    aws.control.timing(boot=0.5)
    wait_until(lambda: status() == "ok")


def test_attach_is_refused_above_max_size_and_while_launch_is_suspended(aws):
    group, instance_id = aws.create_group(size=2, maximum=2), running(aws, launch(aws, "token-c"))
    with pytest.raises(ClientError, match="update the AutoScalingGroup sizes appropriately"):
        attach(aws, group, instance_id)
    group.update(MaxSize=3)
    group.suspend("Launch")
    with pytest.raises(ClientError, match="Launch"):
        attach(aws, group, instance_id)


def test_attach_and_detach_take_their_time_and_the_history_sees_it(aws):
    group, newcomer = aws.create_group(size=2), running(aws, launch(aws, "token-d"))
    old = group.on_demand[0]
    with aws.watch(group.name) as capacity:
        attach(aws, group, newcomer)
        wait_until(lambda: aws.control.groups()[group.name]["in_service"] == 3)
        detach(aws, group, old)
        wait_until(lambda: old not in group.instance_ids)
    assert [(s["in_service"], s["desired"], len(s["members"])) for s in capacity.samples] == [
        (2, 2, 2), (2, 3, 3), (3, 3, 3), (2, 2, 3), (2, 2, 2),
    ]  # fmt: skip


def test_detach_below_min_size_is_refused(aws):
    group = aws.create_group(size=2)
    with pytest.raises(ClientError, match="update the AutoScalingGroup sizes appropriately"):
        detach(aws, group, group.instance_ids[0])


def test_a_terminated_member_is_a_dip_in_capacity(aws):
    group = aws.create_group(size=2)
    with aws.watch(group.name) as capacity:
        aws.client("ec2").terminate_instances(InstanceIds=group.instance_ids[:1])
    assert capacity.lowest == 1


def test_faults_hit_lambdas_only_unless_told_otherwise(aws):
    aws.control.fault("DescribeInstances", status=503, code="RequestLimitExceeded")
    aws.client("ec2").describe_instances()
    aws.control.fault("DescribeVpcs", status=400, code="UnauthorizedOperation", caller="any", times=1)
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        aws.client("ec2").describe_vpcs()
    aws.client("ec2").describe_vpcs()


# -- calls and descriptions that come too late -------------------------------------------------------------------------


def test_a_late_call_is_carried_out_once_it_lands_and_its_caller_hears_nothing(aws):
    group = aws.create_group(size=1, maximum=1)
    autoscaling = impatient(aws, "autoscaling")
    fault = aws.control.fault("UpdateAutoScalingGroup", kind="hold", caller="any", times=1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        update = pool.submit(autoscaling.update_auto_scaling_group, AutoScalingGroupName=group.name, MaxSize=3)
        wait_until(lambda: aws.control.faults()[0]["hits"])
        aws.control.change_fault(fault, kind="late")
        with pytest.raises(HTTPClientError):
            update.result()
    assert group.describe()["MaxSize"] == 1
    assert [(c["action"], c["status"]) for c in aws.control.land()] == [("UpdateAutoScalingGroup", 200)]
    assert group.describe()["MaxSize"] == 3
    assert aws.control.land() == []


def test_a_call_that_lands_twice_is_answered_once(aws):
    group = aws.create_group(size=2)
    aws.control.fault("SetDesiredCapacity", kind="twice", caller="any", times=1)
    aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=3)
    aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=2)
    aws.control.land()
    assert group.describe()["DesiredCapacity"] == 3


def test_what_is_cleared_never_lands(aws):
    group = aws.create_group(size=1, maximum=1)
    aws.control.fault("UpdateAutoScalingGroup", kind="late", caller="any")
    with pytest.raises(HTTPClientError):
        impatient(aws, "autoscaling").update_auto_scaling_group(AutoScalingGroupName=group.name, MaxSize=3)
    aws.control.clear_faults()
    assert aws.control.land() == [] and group.describe()["MaxSize"] == 1


def test_an_instance_that_ec2_does_not_show_yet_is_found_neither_by_id_nor_by_filter(aws):
    ec2, token = aws.client("ec2"), [{"Name": "client-token", "Values": ["token-e"]}]
    aws.control.timing(invisible=600)
    instance_id = launch(aws, "token-e")
    for describe in (ec2.describe_instances, ec2.describe_instance_status):
        with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
            describe(InstanceIds=[instance_id])
    assert ec2.describe_instances(Filters=token)["Reservations"] == []
    aws.control.timing(invisible=0)
    (reservation,) = ec2.describe_instances(Filters=token)["Reservations"]
    assert [i["InstanceId"] for i in reservation["Instances"]] == [instance_id] == [running(aws, instance_id)]


def seen_by_a_lambda(aws, group):
    seen = aws.client_of("ClusterOptimizerFunctionName", "autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group.name])
    (found,) = seen["AutoScalingGroups"]
    members = {i["InstanceId"]: i["LifecycleState"] for i in found["Instances"]}
    return found["DesiredCapacity"], found["MaxSize"], [p["ProcessName"] for p in found["SuspendedProcesses"]], members


OLD, OTHER = "InService", "Detaching"
STALE = {
    ("desired",): (2, 5, ["AZRebalance"], {0: OTHER, 1: OLD}),
    ("max", "suspended"): (1, 4, [], {0: OTHER, 1: OLD}),
    ("lifecycle",): (1, 5, ["AZRebalance"], {0: OLD, 1: OLD}),
}


@pytest.mark.parametrize("fields", STALE, ids=", ".join)
def test_each_field_of_a_group_lags_for_itself(aws, fields):
    group = aws.create_group(size=2, minimum=0, maximum=4)
    ids = group.instance_ids
    aws.control.timing(detach=600)
    aws.control.stale(group.name, *fields)
    group.update(MaxSize=5)
    group.suspend("AZRebalance")
    detach(aws, group, ids[0])
    fresh = (1, 5, ["AZRebalance"], {ids[0]: OTHER, ids[1]: OLD})
    *shown, members = STALE[fields]
    assert seen_by_a_lambda(aws, group) == (*shown, {ids[n]: state for n, state in members.items()})
    assert group.describe()["DesiredCapacity"] == 1  # Tests see what is.
    aws.control.fresh()
    assert seen_by_a_lambda(aws, group) == fresh


def test_membership_lags_behind_a_call_of_a_lambda_for_so_many_reads(aws):
    group = aws.create_group(size=2, minimum=0)
    ids = group.instance_ids
    aws.control.stale(group.name, "members", after="DetachInstances", reads=2)
    detach(aws, group, ids[1], by=aws.client_of("ClusterOptimizerFunctionName", "autoscaling"))
    wait_until(lambda: len(group.instance_ids) == 1)
    desired, _, _, members = seen_by_a_lambda(aws, group)
    assert (desired, set(members)) == (1, set(ids))
    assert aws.control.stale_answers(group.name) == 1
    assert [len(seen_by_a_lambda(aws, group)[3]) for _ in range(2)] == [2, 1]
