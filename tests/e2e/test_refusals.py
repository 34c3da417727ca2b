"""Refusals fail at once, by name, with a cause that a person understands, and change nothing."""

import pytest

INVALID = {
    "asg_name is missing": ({"asg_name": None}, "missing field `asg_name`"),
    "asg_name is empty": ({"asg_name": ""}, "Auto Scaling group name"),
    "a field is misspelt": ({"dryrun": True}, "unknown field `dryrun`"),
    "max_swaps is 0": ({"max_swaps": 0}, "max_swaps"),
    "max_swaps is a text": ({"max_swaps": "two"}, "max_swaps"),
    "the account id is malformed": ({"account_id": "12"}, 'account id "12" is malformed: expected 12 digits'),
    "the account is not registered": ({"account_id": "999999999999"}, "account 999999999999 is not registered"),
    "the region is a zone": ({"region": "us-east-1a"}, 'region "us-east-1a" is malformed'),
    "dry_run is a text": ({"dry_run": "yes"}, "dry_run"),
}


def execute(aws, input):
    execution = aws.wait_execution(aws.start_execution(input))
    assert execution["status"] == "FAILED"
    return execution["error"], execution["cause"]


@pytest.mark.parametrize("case", INVALID)
def test_an_input_is_invalid_if(aws, case):
    more, expected = INVALID[case]
    aws.control.clear_calls()
    input = {k: v for k, v in {"asg_name": "web", **more}.items() if v is not None}
    error, cause = execute(aws, input)
    assert error == "InvalidInput"
    assert expected in cause
    assert "errorMessage" not in cause and "Traceback" not in cause
    assert [c for c in aws.control.calls() if c["service"] in ("ec2", "autoscaling")] == []


@pytest.mark.parametrize("input", [["web"], "web", None, 7], ids=["an array", "a text", "null", "a number"])
def test_an_input_that_is_no_object_is_invalid(aws, input):
    error, cause = execute(aws, input)
    assert error == "InvalidInput"
    assert '"asg_name"' in cause


def test_an_account_can_be_switched_off(aws):
    aws.table("AccountsTableName").put_item(
        Item={"account_id": "222222222222", "environment_type": "PROD", "role_arn": "r", "enabled": False}
    )
    error, cause = execute(aws, {"asg_name": "web", "account_id": "222222222222"})
    assert error == "InvalidInput"
    assert "222222222222 is disabled" in cause


@pytest.mark.parametrize("more", [{}, {"region": "eu-west-1"}], ids=["here", "in another region"])
def test_a_group_that_does_not_exist_is_not_found(aws, more):
    error, cause = execute(aws, {"asg_name": "no such group", **more})
    assert error == "GroupNotFound"
    assert '"no such group"' in cause and more.get("region", "us-east-1") in cause


def test_a_second_execution_on_the_same_group_is_refused_while_the_first_runs(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(status="initializing")
    first = web.start().reach("PauseForHealth").arn
    error, cause = execute(aws, {"asg_name": web.name})
    assert error == "GroupBusy"
    assert first in cause and web.name in cause
    aws.control.instance(web.newcomer(), status="ok")
    web.assert_swapped(web.end()["output"])


def test_a_group_in_an_instance_refresh_is_busy(aws, scene):
    web = scene(size=1)
    aws.control.group(web.name, refreshes=[{"InstanceRefreshId": "r-1", "Status": "InProgress"}])
    error, cause = web.refused()
    assert (error, "instance refresh is under way (InProgress)" in cause) == ("GroupBusy", True)
    web.assert_nothing_changed()


def test_a_finished_instance_refresh_is_no_obstacle(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.group(web.name, refreshes=[{"InstanceRefreshId": "r-1", "Status": "Successful"}])
    web.assert_swapped(web.swap())


def test_a_group_that_is_being_deleted_is_busy(aws, scene):
    web = scene(size=1)
    aws.control.group(web.name, Status="Delete in progress")
    error, cause = web.refused()
    assert (error, "being deleted" in cause) == ("GroupBusy", True)
    aws.control.group(web.name, Status=None)
    web.assert_nothing_changed()


WEIGHTED = {"overrides": [{"InstanceType": "m5.large", "WeightedCapacity": "2"}]}
MARKET = {"template_data": {"InstanceMarketOptions": {"MarketType": "spot"}}}
NOT_SUPPORTED = {
    "another service operates it": (
        {}, lambda g: g.aws.control.group(g.name, Operator={"Managed": True, "Principal": "eks.amazonaws.com"}),
        "eks.amazonaws.com operates it",
    ),
    "its overrides carry weights": (WEIGHTED, None, "weights"),
    "it has a warm pool": (
        {}, lambda g: g.aws.control.group(g.name, WarmPoolConfiguration={"MinSize": 1}), "warm pool",
    ),
    "Launch is suspended": ({}, lambda g: g.suspend("Launch"), "its process Launch is suspended; resume it"),
    "Terminate is suspended": ({}, lambda g: g.suspend("Terminate"), "its process Terminate is suspended"),
    "AddToLoadBalancer is suspended": ({}, lambda g: g.suspend("AddToLoadBalancer"), "AddToLoadBalancer is suspended"),
    "its template sets the market itself": (MARKET, None, "InstanceMarketOptions"),
    "its template asks for a dedicated host": (
        {"template_data": {"Placement": {"Tenancy": "host"}}}, None, "dedicated host",
    ),
    "it counts in vCPUs": (
        {}, lambda g: g.aws.control.group(g.name, DesiredCapacityType="vcpu"), "counts its capacity in vcpu",
    ),
    "its tag can't be read": ({"tags": {"spot-optimizer:min-on-demand": "two"}}, None, "not a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_SUPPORTED)
def test_a_group_is_not_supported_if(scene, case):
    options, change, expected = NOT_SUPPORTED[case]
    web = scene(size=1, minimum=0, **options)
    if change:
        change(web.group)
        web.remember()
    error, cause = web.refused()
    assert (error, expected in cause, web.name in cause) == ("GroupNotSupported", True, True), cause
    web.assert_nothing_changed()


BAD_SETTINGS = {
    "an unknown field": ({"poll_secs": 1}, "poll_secs", "no such setting"),
    "a number out of range": ({"max_swaps": 0}, "max_swaps", "expected 1 to 500"),
    "a text for a number": ({"max_swaps": "ten"}, "max_swaps", "expected a number"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
@pytest.mark.parametrize("scope", ["global", "account#123456789012", "account#123456789012#us-east-1"])
def test_settings_are_refused_with(aws, scene, scope, case):
    override, field, expected = BAD_SETTINGS[case]
    web = scene(size=1, minimum=0)
    aws.settings(scope, **override)
    error, cause = web.refused()
    assert error == "InvalidSettings"
    assert f'settings "{scope}", field "{field}"' in cause and expected in cause
    web.assert_nothing_changed()


def test_a_permission_that_is_missing_is_named(aws, scene):
    web = scene(size=1, minimum=0)
    message = "You are not authorized to perform autoscaling:DescribeAutoScalingGroups"
    aws.control.fault("DescribeAutoScalingGroups", code="AccessDenied", status=403, message=message)
    error, cause = web.refused()
    assert (error, message in cause) == ("NotAuthorized", True)
    aws.control.clear_faults()
    web.assert_nothing_changed()
