"""The gate fails closed: if it can't read a row, there is no launch, and On-Demand stays."""

import time

import pytest
from botocore.exceptions import ClientError

POOL = "us-east-1#use1-az6#m5.large"

CLOSED = {
    "answers with errors": {"code": "InternalServerError", "status": 500},
    "is throttled": {"code": "ProvisionedThroughputExceededException", "status": 400},
    "denies access": {"code": "AccessDeniedException", "status": 400},
    "does not exist": {"code": "ResourceNotFoundException", "status": 400},
    "is too slow": {"kind": "delay", "delay_seconds": 1.5},
}


@pytest.mark.parametrize("case", CLOSED)
def test_nothing_is_launched_while_the_risk_table(aws, scene, case):
    web = scene(size=2)
    table = aws.outputs["SpotPoolRiskTableName"]
    aws.control.fault("BatchGetItem", match={"RequestItems": table}, **CLOSED[case])
    report = web.swap()
    assert {s["reason"] for s in report["skipped"]} == {"GATE_UNREACHABLE"}
    assert report["swapped"] == []
    web.assert_nothing_changed_in_ec2()


def test_nothing_is_launched_when_the_gate_closes_between_the_plan_and_the_launch(aws, scene):
    web = scene(size=1, minimum=0)
    table = aws.outputs["SpotPoolRiskTableName"]
    aws.control.fault("BatchGetItem", code="InternalServerError", match={"RequestItems": table}, skip=1)
    report = web.swap()
    assert [s["reason"] for s in report["skipped"]] == ["GATE_UNREACHABLE"]
    web.assert_nothing_changed_in_ec2()


def test_a_pool_poisoned_between_the_plan_and_the_launch_is_not_launched_into(aws, scene):
    web = scene(size=2)
    aws.control.newcomers(status="initializing")
    web.start().reach("PauseForHealth")
    aws.poison("us-east-1#use1-az1#m5.large")
    aws.control.newcomers(status="ok")
    aws.control.instance(web.newcomer(), status="ok")
    report = web.end()["output"]
    web.assert_swapped(report, web.old[0])
    assert [s["reason"] for s in report["skipped"]] == ["POOL_POISONED"]


MALFORMED = {
    "is_poisoned is missing": {"poison_expires_at": 4102444800},
    "is_poisoned is a text": {"is_poisoned": "yes", "poison_expires_at": 4102444800},
    "the expiry is missing": {"is_poisoned": True},
    "the expiry is a text": {"is_poisoned": True, "poison_expires_at": "tomorrow"},
    "there is nothing": {},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_nothing_is_launched_into_a_pool_of_whose_row(aws, scene, case):
    web = scene(size=1, minimum=0, zones=["us-east-1a"])
    aws.table("SpotPoolRiskTableName").put_item(Item={"pool": POOL, **MALFORMED[case]})
    (skipped,) = web.swap()["skipped"]
    assert skipped["reason"] == "POOL_UNREADABLE" and POOL in skipped["detail"]
    web.assert_nothing_changed_in_ec2()


def test_poison_that_is_over_blocks_nothing_though_its_row_is_still_there(aws, scene):
    web = scene(size=1, minimum=0, zones=["us-east-1a"])
    aws.poison(POOL, seconds=-1)
    web.assert_swapped(web.swap())


def test_poison_that_a_person_took_back_blocks_nothing(aws, scene):
    web = scene(size=1, minimum=0, zones=["us-east-1a"])
    aws.poison(POOL)
    aws.table("SpotPoolRiskTableName").update_item(
        Key={"pool": POOL}, UpdateExpression="SET is_poisoned = :no", ExpressionAttributeValues={":no": False}
    )
    web.assert_swapped(web.swap())


def test_poison_in_milliseconds_does_not_pass_for_clear(aws, scene):
    web = scene(size=1, minimum=0, zones=["us-east-1a"])
    aws.poison(POOL, seconds=int(time.time()) * 999)
    assert web.swap()["skipped"][0]["reason"] in ("POOL_UNREADABLE", "POOL_POISONED")
    web.assert_nothing_changed_in_ec2()


def test_every_launch_was_cleared_by_the_gate_just_before(aws, scene):
    web = scene(size=2)
    web.swap()
    table = aws.outputs["SpotPoolRiskTableName"]
    calls = [c for c in aws.control.calls() if c["action"] == "RunInstances" or table in str(c["params"])]
    launches = [n for n, call in enumerate(calls) if call["action"] == "RunInstances"]
    assert len(launches) == 2
    assert {calls[n - 1]["action"] for n in launches} == {"BatchGetItem"}


LAUNCHES = {
    "Spot with our tag": ({"MarketType": "spot"}, "SpotOptimizer", None),
    "On-Demand": (None, "SpotOptimizer", "UnauthorizedOperation"),
    "Spot without our tag": ({"MarketType": "spot"}, "somebody", "UnauthorizedOperation"),
}


@pytest.mark.parametrize("case", LAUNCHES)
def test_the_functions_role_may_launch_only_spot_with_our_tag(aws, case):
    market, managed_by, expected = LAUNCHES[case]
    request = {
        "ImageId": aws.network.image, "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1,
        "SubnetId": aws.network.subnets["us-east-1a"],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "ManagedBy", "Value": managed_by}]}],
    }  # fmt: skip
    if market:
        request["InstanceMarketOptions"] = market
    ec2 = aws.client_of("ClusterOptimizerFunctionName", "ec2")
    if expected is None:
        instance_id = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        aws.client("ec2").terminate_instances(InstanceIds=[instance_id])
        return
    with pytest.raises(ClientError, match=expected):
        ec2.run_instances(**request)


@pytest.mark.parametrize("function", ["RiskManagerFunctionName", "ReconcilerFunctionName"])
def test_no_other_function_may_launch_anything(aws, function):
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        aws.client_of(function, "ec2").run_instances(
            ImageId=aws.network.image, InstanceType="m5.large", MinCount=1, MaxCount=1,
            SubnetId=aws.network.subnets["us-east-1a"], InstanceMarketOptions={"MarketType": "spot"},
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "ManagedBy", "Value": "SpotOptimizer"}]}
            ],
        )  # fmt: skip
