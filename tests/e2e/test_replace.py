"""What the input asks for by name (`replace`) and by market (`to`)."""

import json

from scene import reasons

AZ_A, AZ_B = "us-east-1#use1-az6#", "us-east-1#use1-az1#"
UNKNOWN = "i-00000000000000bad"
MIXED = {"OnDemandPercentageAboveBaseCapacity": 0}


def on_spot(web, *members):
    """Makes the members Spot instances, as the group's own policy launches them."""
    for member in members:
        web.aws.control.instance(member, set={"InstanceLifecycle": "spot"})


def launches(aws):
    """Returns the type and market of each launch that was asked for."""
    return [
        (run["InstanceType"], run.get("InstanceMarketOptions.MarketType", "on-demand"))
        for run in (call["params"] for call in aws.control.calls(action="RunInstances"))
    ]


def lifecycle(aws, instance_id):
    return aws.instance(instance_id).get("InstanceLifecycle", "on-demand")


def assert_replaced(web, report, *old):
    """These members were replaced in this order and the rest is untouched; the sizes and processes are the owner's."""
    new = [s["new_instance_id"] for s in report["swapped"]]
    assert [s["old_instance_id"] for s in report["swapped"]] == list(old), report
    assert sorted(web.group.instance_ids) == sorted({*web.old} - {*old} | {*new})
    assert {web.aws.instance(i)["State"]["Name"] for i in old} == {"terminated"}
    assert web.capacity.highest_desired == web.before["DesiredCapacity"] + 1
    web.assert_owners()
    return new


def test_a_spot_member_at_risk_is_replaced_from_a_clear_pool_and_nobody_else_is_touched(aws, scene):
    """The pool of the doomed member and the first choice of its group are poisoned; a second member is only named."""
    web = scene(size=3, overrides=["m5.large", "c5.large", "m5a.large"], distribution=MIXED, zones=["us-east-1a"])
    doomed, protected, _ = web.old
    on_spot(web, doomed, protected)
    aws.client("autoscaling").set_instance_protection(AutoScalingGroupName=web.name, InstanceIds=[protected], ProtectedFromScaleIn=True)
    aws.control.prices(spot={"m5a.large": "0.09"})  # More than Spot of m5.large, and less than its On-Demand price.
    for kind in ("m5.large", "c5.large"):
        aws.poison(AZ_A + kind)
    named = [protected, doomed]

    (planned,) = web.swap(replace=named, dry_run=True)["planned"]
    assert (planned["instance_id"], planned["from"], planned["pool"]) == (doomed, "SPOT", f"{AZ_A}m5a.large")
    assert "to" not in planned and float(planned["monthly_saving_usd"]) < 0
    report = web.swap(replace=named)
    (newcomer,) = assert_replaced(web, report, doomed)
    assert reasons(report["skipped"]) == {protected: "SCALE_IN_PROTECTED"}, "of the third member nothing is said"
    assert launches(aws) == [("m5a.large", "spot")] and lifecycle(aws, newcomer) == "spot"
    assert web.kept_pool(newcomer) == f"{AZ_A}m5a.large"


def test_a_mixed_group_is_taken_back_to_on_demand_past_the_gate_and_what_fails_is_undone(aws, scene):
    """The own type has no capacity in one zone. All pools are poisoned, and no gate is asked. The first newcomer dies."""
    web = scene(size=3, overrides=["m5.large", "c5.large"], distribution=MIXED, template_data={"DisableApiTermination": True})
    spot = web.old[:2]
    for member in web.old:
        web.protect_from_termination(member, False)
    on_spot(web, *spot)
    for pool in (f"{zone}{kind}" for zone in (AZ_A, AZ_B) for kind in ("m5.large", "c5.large")):
        aws.poison(pool)
    aws.control.newcomers(kill={"code": "Client.InternalError", "message": "on launch"})
    undone = web.swap(to="ON_DEMAND", replace=spot[:1])
    web.assert_rolled_back(undone, "NEWCOMER_UNHEALTHY")
    aws.control.newcomers(kill=None)
    aws.control.clear_calls()
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, match={"InstanceType": "m5.large"}, times=1)

    report = web.swap(to="ON_DEMAND")
    newcomers = assert_replaced(web, report, *spot)
    assert launches(aws) == [("m5.large", "on-demand"), ("c5.large", "on-demand"), ("m5.large", "on-demand")]
    asked = [json.dumps(call["params"]) for call in aws.control.calls(action="BatchGetItem")]
    assert not [tables for tables in asked if aws.outputs["SpotPoolRiskTableName"] in tables]
    assert {lifecycle(aws, newcomer) for newcomer in newcomers} == {"on-demand"}
    assert [web.kept_pool(newcomer) for newcomer in newcomers] == [None, None]
    assert {(s["from"], s["to"]) for s in report["swapped"]} == {("SPOT", "ON_DEMAND")}
    assert all(float(s["monthly_saving_usd"]) < 0 for s in report["swapped"])
    assert list(reasons(report["skipped"]).values()) == ["ALREADY_ON_DEMAND"]
    assert len(report["remarks"]) == 2 and "DisableApiTermination" in report["remarks"][0]


REFUSED = {
    "nobody": ([], "replace: names no instance"),
    "no id": (["web-1"], 'instance id "web-1" is malformed'),
    "no list": ("i-0123456789abcdef0", "replace: "),
    "nobody that EC2 knows": ([UNKNOWN], f"replace: account 123456789012 has no instance {UNKNOWN} in us-east-1"),
}


def test_a_request_that_names_nobody_or_a_stranger_is_refused_or_skipped_by_name(aws, scene):
    web, other = scene(size=1, minimum=0), scene(size=1, minimum=0)
    for replace, expected in REFUSED.values():
        error, cause = web.refused(replace=replace)
        assert error == "InvalidInput" and expected in cause, cause
    error, cause = web.refused(to="on-demand")
    assert error == "InvalidInput" and cause.startswith("to: ") and "`ON_DEMAND`" in cause
    web.assert_never_leased()
    on_spot(web, web.old[0])
    report = web.swap(replace=[other.old[0], web.old[0]])
    assert reasons(report["skipped"]) == {other.old[0]: "NOT_IN_GROUP", web.old[0]: "NO_OTHER_POOL"}
    assert reasons(web.swap()["skipped"]) == {web.old[0]: "ALREADY_SPOT"}
    web.assert_nothing_changed_in_ec2()
