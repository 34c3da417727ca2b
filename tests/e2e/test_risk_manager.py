"""Interruptions and their pools; events come through EventBridge as they do on AWS."""

import datetime
import json
import time

import pytest

from local_aws.stack import INTERRUPTION, REBALANCE
from scene import is_change, wait_for

DAYS_15 = 15 * 86400
POISON = {INTERRUPTION: DAYS_15, REBALANCE: DAYS_15}
LAB_ACCOUNT = "111111111111"
FUNCTION = "RiskManagerFunctionName"


def ago(**delta):
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(**delta)


@pytest.fixture(scope="module")
def spot(session_aws):
    """Returns one Spot instance for all tests of this file: an interruption changes nothing about it."""
    instance_id = session_aws.launch_spot("m5.xlarge")
    yield instance_id
    session_aws.client("ec2").terminate_instances(InstanceIds=[instance_id])


@pytest.fixture
def manage(aws):
    return lambda event: aws.invoke(FUNCTION, event)


@pytest.fixture
def dead_letters(aws):
    """Returns the messages that reached the dead-letter queue since the test began."""
    sqs = aws.client("sqs")
    (url,) = [u for u in sqs.list_queues()["QueueUrls"] if "FailedEvents" in u]
    sqs.purge_queue(QueueUrl=url)

    def receive():
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages", [])
        return [json.loads(m["Body"]) for m in messages]

    return receive


@pytest.mark.parametrize("detail_type", POISON)
def test_a_notice_poisons_its_pool_for_the_days_of_its_kind(aws, spot, detail_type):
    """The events pass through EventBridge."""
    aws.put_drill(spot, detail_type)
    row = aws.wait_pool("us-east-1#use1-az6#m5.xlarge")
    assert row["is_poisoned"] is True and detail_type in row["cause"]
    assert row["poison_expires_at"] - row["poisoned_at"] == POISON[detail_type]


@pytest.mark.parametrize("detail_type", POISON)
def test_the_days_run_from_the_events_own_time(aws, spot, manage, detail_type):
    at = ago(hours=20)
    manage(aws.drill_event(spot, detail_type, at))
    row, began = aws.pools()[aws.pool_of(spot)], int(at.timestamp())
    assert (row["poisoned_at"], row["poison_expires_at"]) == (began, began + POISON[detail_type])


def test_the_bus_passes_on_the_events_own_time(aws, spot):
    at = ago(hours=20)
    aws.put_drill(spot, time=at.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert aws.wait_pool(aws.pool_of(spot))["poisoned_at"] == int(at.timestamp())


def test_the_answer_names_outcome_and_pool(aws, spot, manage):
    event = aws.drill_event(spot)
    assert manage(event) == ({"outcome": "POISONED", "pool": aws.pool_of(spot)}, None)
    assert manage(event) == ({"outcome": "ALREADY_POISONED", "pool": aws.pool_of(spot)}, None)


def test_repeated_and_unordered_events_only_ever_move_the_expiry_forward(aws, spot, manage):
    newest = ago(hours=1)
    outcomes = [manage(aws.drill_event(spot, time=at))[0]["outcome"] for at in (ago(days=2), newest, ago(days=1), newest)]
    assert outcomes == ["POISONED", "POISONED", "ALREADY_POISONED", "ALREADY_POISONED"]
    assert aws.pools()[aws.pool_of(spot)]["poison_expires_at"] == int(newest.timestamp()) + DAYS_15


def test_an_event_whose_poison_would_be_over_is_stale(aws, spot, manage):
    answer, error = manage(aws.drill_event(spot, time=ago(days=16)))
    assert (answer["outcome"], error, aws.pools()) == ("IGNORED_STALE", None, {})


def test_an_on_demand_instance_poisons_nothing(aws, scene, manage):
    web = scene(size=1)
    answer, error = manage(aws.drill_event(web.old[0]))
    assert (answer["outcome"], error, aws.pools()) == ("IGNORED_NOT_SPOT", None, {})


def test_the_days_are_a_setting_and_the_nearest_scope_wins(aws, spot, manage):
    at = ago(minutes=5)
    aws.settings("global", poison_days=10)
    aws.settings("account#123456789012", poison_days=3)
    manage(aws.drill_event(spot, time=at))
    assert aws.pools()[aws.pool_of(spot)]["poison_expires_at"] == int(at.timestamp()) + 3 * 86400


@pytest.mark.parametrize("poison_days, expected", [(10, 10), (0, 15), ("ten", 15)])
def test_a_setting_that_cannot_be_applied_opens_no_gate(aws, spot, manage, poison_days, expected):
    aws.settings("global", poison_days=poison_days, reconcile_after_seconds="soon")
    at = ago(minutes=5)
    answer, error = manage(aws.drill_event(spot, time=at))
    assert (answer["outcome"], error) == ("POISONED", None)
    assert aws.pools()[aws.pool_of(spot)]["poison_expires_at"] == int(at.timestamp()) + expected * 86400


def test_rebalance_recommendations_have_days_of_their_own(aws, spot, manage):
    aws.settings(rebalance_poison_days=2, poison_days=10)
    at = ago(days=1)
    assert manage(aws.drill_event(spot, REBALANCE, at))[0]["outcome"] == "POISONED"
    assert aws.pools()[aws.pool_of(spot)]["poison_expires_at"] == int(at.timestamp()) + 2 * 86400
    at = ago(days=3)
    assert manage(aws.drill_event(spot, REBALANCE, at))[0]["outcome"] == "IGNORED_STALE"
    assert manage(aws.drill_event(spot, INTERRUPTION, at))[0]["outcome"] == "POISONED"
    assert aws.pools()[aws.pool_of(spot)]["poison_expires_at"] == int(at.timestamp()) + 10 * 86400


def test_rebalance_recommendations_may_be_told_to_poison_nothing(aws, spot, manage, scene):
    aws.settings(rebalance_poisons=False, poll_seconds=1, launch_visible_after_seconds=1)
    assert manage(aws.drill_event(spot, REBALANCE))[0]["outcome"] == "IGNORED_REBALANCE"
    assert aws.pools() == {}
    web = scene(size=1, minimum=0, zones=["us-east-1a"], overrides=["m5.xlarge"])
    assert web.swap()["skipped"] == []  # The gate is as open as before.
    assert manage(aws.drill_event(spot, INTERRUPTION))[0]["outcome"] == "POISONED"


def test_where_it_takes_two_accounts_one_alone_never_poisons(aws, spot, manage):
    aws.settings(poison_threshold_accounts=2)
    for days in (3, 2, 1):
        answer, error = manage(aws.drill_event(spot, time=ago(days=days)))
        assert (answer["outcome"], error) == ("BELOW_THRESHOLD", None)
    assert aws.pools() == {}


def test_the_share_of_the_region_that_is_poisoned_is_measured(aws, manage):
    for n in (4, 5):
        aws.poison(f"us-east-1#use1-az6#m{n}.large")
    aws.poison("us-east-1#use1-az6#m6i.large", seconds=-1)
    aws.poison("eu-west-1#euw1-az1#m5.large")
    aws.poison("us-east-1#use1-az6#z99.large")  # No such type: what is not offered is no share of it.
    aws.poison("aa-narnia-1#use1-az6#m5.large")  # A member has made the region up.
    answer, error = manage({"task": "measure"})
    assert error is None and (answer["unmeasured"], answer["left_out"]) == ([], 1)
    shares = {r["region"]: r for r in answer["regions"]}
    assert (shares["us-east-1"]["poisoned"], shares["eu-west-1"]["poisoned"]) == (2, 1)
    assert shares["us-east-1"]["pools"] > 1000 and shares["us-east-1"]["exceeded"] is False
    assert shares["us-east-1"]["share_percent"] == pytest.approx(200 / shares["us-east-1"]["pools"])


REGIONS = ["ap-south-1", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "sa-east-1", "us-east-2", "us-west-2"]


@pytest.mark.parametrize("fault", [{"code": "AuthFailure", "status": 401}, {"kind": "delay", "delay_seconds": 25}])
def test_a_region_that_cannot_be_measured_hides_no_other(aws, manage, fault):
    for region in REGIONS:  # More than are measured side by side.
        aws.poison(f"{region}#use1-az6#m5.large")
    aws.control.fault("DescribeInstanceTypeOfferings", region=REGIONS[0], **fault)
    answer, error = manage({"task": "measure"})
    assert error is None and [r["region"] for r in answer["regions"]] == sorted([*REGIONS[1:], "us-east-1"])
    (unmeasured,) = answer["unmeasured"]
    assert unmeasured.startswith(f"{REGIONS[0]}: ")


def test_a_region_that_the_organization_denies_is_left_out_and_rings_no_alarm(aws, manage):
    aws.poison("eu-west-1#euw1-az1#m5.large")
    call = "DescribeInstanceTypeOfferings"
    message = f"User: a is not authorized to perform: ec2:{call} with an explicit deny in a service control policy"
    aws.control.fault(call, region="eu-west-1", code="UnauthorizedOperation", status=403, message=message)
    answer, error = manage({"task": "measure"})
    assert error is None and (answer["unmeasured"], answer["left_out"]) == ([], 1)
    assert [r["region"] for r in answer["regions"]] == ["us-east-1"]


def test_a_measure_of_no_region_fails(aws, manage):
    aws.control.fault("DescribeInstanceTypeOfferings", code="UnauthorizedOperation", status=403)
    answer, error = manage({"task": "measure"})
    assert (answer, error["errorType"]) == (None, "Unmeasured")
    assert "us-east-1: ec2:DescribeInstanceTypeOfferings: UnauthorizedOperation" in error["errorMessage"]


def test_too_large_a_poisoned_share_is_said_and_stops_nothing(aws, spot, manage):
    pages = aws.client("ec2").get_paginator("describe_instance_type_offerings").paginate(LocationType="availability-zone-id")
    offered = [o for page in pages for o in page["InstanceTypeOfferings"]]
    aws.settings(max_poisoned_share_of_region=1)
    for offering in offered[: len(offered) // 100 + 1]:
        aws.poison(f"us-east-1#{offering['Location']}#{offering['InstanceType']}")
    assert manage({"task": "measure"})[0]["regions"][0]["exceeded"] is True
    assert manage(aws.drill_event(spot))[0]["outcome"] == "POISONED"


def test_a_lab_account_never_poisons_and_is_not_even_looked_at(aws, spot, manage):
    aws.table("AccountsTableName").put_item(
        Item={"account_id": LAB_ACCOUNT, "environment_type": "LAB", "role_arn": "arn:aws:iam::111111111111:role/spot"}
    )
    aws.control.clear_calls()
    answer, error = manage(aws.drill_event(spot, account=LAB_ACCOUNT))
    assert (answer, error, aws.pools()) == ({"outcome": "IGNORED_LAB"}, None, {})
    assert {c["service"] for c in aws.control.calls()} == {"dynamodb"}


def test_an_event_cannot_claim_to_be_prod(aws, spot, manage):
    aws.table("AccountsTableName").put_item(
        Item={"account_id": LAB_ACCOUNT, "environment_type": "LAB", "role_arn": "arn:aws:iam::111111111111:role/spot"}
    )
    event = aws.drill_event(spot, account=LAB_ACCOUNT)
    event["detail"]["environment_type"] = event["environment_type"] = "PROD"
    assert manage(event)[0] == {"outcome": "IGNORED_LAB"}


def test_a_stack_in_a_lab_account_never_poisons(aws, spot, manage):
    with aws.function_environment("RiskManagerFunctionName", ENVIRONMENT_TYPE="LAB"):
        aws.control.clear_calls()
        assert manage(aws.drill_event(spot)) == ({"outcome": "IGNORED_LAB"}, None)
    # It asks whether a lab swap launched the instance, and nothing else.
    assert aws.pools() == {} and {c["action"] for c in aws.control.calls()} <= {"GetItem"}


def test_drills_are_refused_unless_the_stack_allows_them(aws, spot, manage):
    with aws.function_environment("RiskManagerFunctionName", ALLOW_DRILLS="false"):
        _, error = manage(aws.drill_event(spot))
    assert error["errorType"] == "InvalidEvent" and "AllowDrills" in error["errorMessage"]
    assert aws.pools() == {}


def test_the_real_event_of_ec2_poisons_whether_or_not_drills_are_allowed(aws, spot, manage):
    with aws.function_environment("RiskManagerFunctionName", ALLOW_DRILLS="false"):
        answer, error = manage(aws.drill_event(spot, source="aws.ec2"))
    assert (answer["outcome"], error) == ("POISONED", None)


FOREIGN = {
    "an unknown account": ({"account": "999999999999"}, "AccountUnknown", "account 999999999999 is not registered"),
    "an unknown instance": (
        {"detail": {"instance-id": "i-0123456789abcdef0"}}, "InstanceUnknown", "i-0123456789abcdef0",
    ),
    "no instance": ({"detail": {}}, "InvalidEvent", 'field "detail.instance-id"'),
    "a malformed instance": ({"detail": {"instance-id": "web-1"}}, "InvalidEvent", 'field "detail.instance-id"'),
    "a malformed account": ({"account": "12"}, "InvalidEvent", 'field "account"'),
    "a malformed region": ({"region": "Narnia"}, "InvalidEvent", 'field "region"'),
    "a malformed time": ({"time": "yesterday"}, "InvalidEvent", 'field "time"'),
    "a time in the future": ({"time": "2999-01-01T00:00:00Z"}, "InvalidEvent", 'field "time"'),
    "a foreign source": ({"source": "aws.s3"}, "InvalidEvent", 'field "source"'),
    "a foreign type": ({"detail-type": "EC2 Instance State-change Notification"}, "InvalidEvent", 'field "detail-type"'),
    "an unknown task": ({"task": "wipe"}, "InvalidEvent", 'field "task"'),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_an_event_is_an_error_and_nothing_is_written_with(aws, spot, manage, case):
    change, name, expected = FOREIGN[case]
    aws.control.clear_calls()
    _, error = manage({**aws.drill_event(spot), **change})
    assert error["errorType"] == name and expected in error["errorMessage"]
    assert [c for c in aws.control.calls() if is_change(c)] == [] and aws.pools() == {}


def test_an_event_whose_instance_is_forgotten_is_learned_from_its_spot_request(aws, manage):
    gone = aws.launch_spot("m5.2xlarge")
    event, pool = aws.drill_event(gone), aws.pool_of(gone)
    aws.client("ec2").terminate_instances(InstanceIds=[gone])
    wait_for(lambda: aws.instance(gone)["State"]["Name"] == "terminated")
    aws.control.reset()  # Forgets the dead, as EC2 does after an hour.
    assert aws.client("ec2").describe_instances(Filters=[{"Name": "instance-id", "Values": [gone]}])["Reservations"] == []
    assert manage(event) == ({"outcome": "POISONED", "pool": pool}, None)


def test_an_event_that_comes_too_late_for_ec2_is_learned_from_the_swap_that_launched_its_instance(aws, scene, manage):
    aws.settings(poll_seconds=1, launch_visible_after_seconds=1)
    web = scene(size=2, minimum=0, zones=["us-east-1a"], overrides=["m5.xlarge"])
    kept = web.swap(max_swaps=1)["swapped"][0]["new_instance_id"]
    aws.control.fault("BatchWriteItem", code="AccessDeniedException", status=400)
    unkept = web.swap()["swapped"][0]["new_instance_id"]  # The run succeeds all the same.
    assert [f["hits"] for f in aws.control.faults()] == [1]
    events, pool = {i: aws.drill_event(i) for i in (unkept, kept)}, aws.pool_of(kept)
    web.group.delete()
    wait_for(lambda: {aws.instance(i)["State"]["Name"] for i in events} == {"terminated"})
    aws.control.reset(), aws.control.reset()  # Forgets the dead, then their Spot requests, as EC2 does after some hours.
    requests = aws.client("ec2").describe_spot_instance_requests(Filters=[{"Name": "instance-id", "Values": list(events)}])
    assert requests["SpotInstanceRequests"] == []
    for unknown in (events[unkept], {**events[kept], "region": "us-west-2"}):
        assert manage(unknown)[1]["errorType"] == "InstanceUnknown"
    assert aws.pools() == {}
    assert manage(events[kept]) == ({"outcome": "POISONED", "pool": pool}, None)


def test_an_event_that_cannot_be_handled_ends_in_the_dead_letter_queue(aws, spot, dead_letters):
    """The bus hands the event to Lambda, whose retries come to nothing."""
    before = aws.queued_events(FUNCTION)
    event = aws.put_drill("i-0123456789abcdef0")
    (letter,) = wait_for(dead_letters)
    wait_for(lambda: (aws.queued_events(FUNCTION) - before)["given_up"] == 1)
    assert (aws.queued_events(FUNCTION) - before)["failed"] == 3
    assert letter["requestPayload"] == {**event, "id": letter["requestPayload"]["id"]}
    assert letter["responsePayload"]["errorType"] == "InstanceUnknown"
    assert aws.pools() == {}


def test_a_failure_that_passes_is_retried_and_not_lost(aws, spot, dead_letters):
    aws.control.fault("DescribeInstances", code="UnauthorizedOperation", status=403, times=1)
    before = aws.queued_events(FUNCTION)
    aws.deliver(FUNCTION, aws.drill_event(spot))
    aws.wait_pool(aws.pool_of(spot))
    assert (aws.queued_events(FUNCTION) - before)["failed"] == 1
    assert dead_letters() == []


def test_a_row_that_cannot_be_read_is_an_error_and_stays(aws, spot, manage):
    row = {"pool": aws.pool_of(spot), "is_poisoned": True, "poison_expires_at": "soon"}
    aws.table("SpotPoolRiskTableName").put_item(Item=row)
    _, error = manage(aws.drill_event(spot))
    assert error["errorType"] == "MalformedRow" and aws.pool_of(spot) in error["errorMessage"]
    assert aws.pools() == {aws.pool_of(spot): row}


def test_the_clean_up_clears_what_expired_and_counts_the_rest(aws, manage):
    for n, seconds in enumerate((-10, -86400, 3600)):
        aws.poison(f"us-east-1#use1-az6#m{n + 4}.large", seconds)
    aws.table("SpotPoolRiskTableName").put_item(Item={"pool": "us-east-1#use1-az6#x1.large", "is_poisoned": True})
    answer, error = manage({"task": "clean-up"})
    assert error is None
    assert answer == {"cleared": 2, "poisoned": 1, "unreadable": ["us-east-1#use1-az6#x1.large"]}
    poisoned = {pool for pool, row in aws.pools().items() if row["is_poisoned"]}
    assert poisoned == {"us-east-1#use1-az6#m6.large", "us-east-1#use1-az6#x1.large"}
    assert manage({"task": "clean-up"})[0]["cleared"] == 0


def test_a_pool_that_was_cleared_can_be_poisoned_anew(aws, spot, manage):
    aws.poison(aws.pool_of(spot), -10)
    manage({"task": "clean-up"})
    assert manage(aws.drill_event(spot))[0]["outcome"] == "POISONED"
    assert aws.pools()[aws.pool_of(spot)]["is_poisoned"] is True


def test_an_event_takes_three_calls_at_most(aws, spot, manage):
    manage(aws.drill_event(spot))
    began = time.time()
    manage(aws.drill_event(spot))
    made = [c["action"] for c in aws.control.calls() if c["t"] >= began]  # Calls that another test had delayed may end now.
    assert 1 < len(made) <= 3, made
