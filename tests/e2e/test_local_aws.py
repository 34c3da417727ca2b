"""Local AWS itself: the refusals, delays and records that the other tests rely on."""

import time

import pytest
from botocore.exceptions import ClientError


def launch(aws, token, instance_type="m5.large"):
    launched = aws.client("ec2").run_instances(
        ImageId=aws.network.image, InstanceType=instance_type, MinCount=1, MaxCount=1, ClientToken=token,
        SubnetId=aws.network.subnets["us-east-1a"], InstanceMarketOptions={"MarketType": "spot"},
    )  # fmt: skip
    return launched["Instances"][0]["InstanceId"]


def attach(aws, group, *instance_ids):
    aws.client("autoscaling").attach_instances(AutoScalingGroupName=group.name, InstanceIds=list(instance_ids))


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
        aws.client("autoscaling").detach_instances(AutoScalingGroupName=group.name, InstanceIds=[old], ShouldDecrementDesiredCapacity=True)
        wait_until(lambda: old not in group.instance_ids)
    assert [(s["in_service"], s["desired"], len(s["members"])) for s in capacity.samples] == [
        (2, 2, 2), (2, 3, 3), (3, 3, 3), (2, 2, 3), (2, 2, 2),
    ]  # fmt: skip


def test_detach_below_min_size_is_refused(aws):
    group = aws.create_group(size=2)
    with pytest.raises(ClientError, match="update the AutoScalingGroup sizes appropriately"):
        aws.client("autoscaling").detach_instances(
            AutoScalingGroupName=group.name, InstanceIds=group.instance_ids[:1], ShouldDecrementDesiredCapacity=True
        )


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
