"""Herd immunity: a hub and two members, each deployed from the same template into its own account."""

import datetime
import json
import time

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.herd import EXTERNAL_ID, HUB, LAB, STRANGER, A, B, Herd, report
from local_aws.inbox import listening
from local_aws.paths import RENDERED
from local_aws.stack import LocalAws
from scene import Scene, wait_for

DAY = 86400
REBALANCE = {"detail": {"notice": "EC2 Instance Rebalance Recommendation"}}
POOL = "us-east-1#use1-az6#m5.large"
QUICK = {"poll_seconds": 1, "launch_visible_after_seconds": 1}


@pytest.fixture(scope="module")
def deployed(session_aws):
    return Herd(session_aws.home)


@pytest.fixture
def herd(deployed):
    deployed.reset()
    for aws in (deployed.a, deployed.b):
        aws.settings(**QUICK)
    yield deployed
    deployed.hub.control.reset()


@pytest.fixture
def group(herd):
    """`group(aws, size=1, …)` makes a group in that member's account; it is deleted after the test."""
    scenes = []

    def make(aws, **options):
        scenes.append(Scene(aws, **options))
        return scenes[-1]

    yield make
    herd.hub.control.clear_faults()
    for made in scenes:
        made.delete()


@pytest.fixture
def alerts(herd):
    """`alerts()` returns the messages that have reached the hub's alerts topic since."""
    with listening(herd.hub) as read:
        yield read


@pytest.fixture
def to_hub(herd):
    """Returns the answer of the hub's risk manager to a report stamped with `account`: (answer, error)."""

    def send(account, pool=POOL, occurred=None, **more):
        detail = more.pop("detail", {})
        event = {**report(account, pool, occurred or ago(minutes=1), detail), **more}
        return herd.hub.invoke("RiskManagerFunctionName", event)

    return send


def ago(**delta):
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(**delta)


def interrupt(aws, zone="us-east-1a"):
    """Interrupts a Spot instance of the account; returns its pool once the account itself has learned of it."""
    instance_id = aws.launch_spot("m5.large", zone)
    pool = aws.pool_of(instance_id)
    aws.put_drill(instance_id)
    aws.wait_pool(pool)
    return pool


def outcome(answered):
    answer, error = answered
    assert error is None, error
    return answer["outcome"]


# -- one account's interruption protects all ---------------------------------------------------------------------------


def test_an_interruption_in_a_stops_b_in_the_same_place_only_whatever_its_name_there(herd, group):
    herd.hub.control.shift_zones(B, 5)
    web = group(herd.b, size=2)
    assert interrupt(herd.a, "us-east-1a") == POOL
    assert herd.hub.wait_pool(POOL)["is_poisoned"] is True
    report = web.swap()
    zones = {i["InstanceId"]: i["AvailabilityZone"] for i in web.before["Instances"]}
    assert [(zones[s["instance_id"]], s["reason"]) for s in report["skipped"]] == [("us-east-1b", "POOL_POISONED")]
    assert POOL in report["skipped"][0]["detail"]
    assert [s["pool"] for s in report["swapped"]] == ["us-east-1#use1-az5#m5.large"]
    web.assert_swapped(report, next(i for i in web.old if zones[i] == "us-east-1a"))


def test_what_the_hub_learns_counts_from_the_notices_own_time(herd, to_hub):
    at = ago(days=3)
    assert outcome(to_hub(A, occurred=at)) == "POISONED"
    row = herd.hub.pools()[POOL]
    assert (row["poisoned_at"], row["poison_expires_at"]) == (int(at.timestamp()), int(at.timestamp()) + 15 * DAY)
    assert outcome(to_hub(B, occurred=ago(days=4))) == "ALREADY_POISONED"
    assert outcome(to_hub(B, occurred=ago(days=16))) == "IGNORED_STALE"
    assert herd.hub.pools()[POOL] == row


def test_a_row_that_members_read_names_no_account(herd, to_hub):
    to_hub(A)
    row = herd.hub.pools()[POOL]
    assert set(row) == {"pool", "is_poisoned", "poisoned_at", "poison_expires_at", "cause", "interruptions"}
    assert A not in json.dumps(row, default=str)


def test_a_member_knows_its_own_interruption_before_the_hub_does(herd, group):
    with herd.unheard(herd.a):
        interrupt(herd.a)
        web = group(herd.a, size=1, minimum=0, zones=["us-east-1a"])
        assert [s["reason"] for s in web.swap()["skipped"]] == ["POOL_POISONED"]
    assert herd.hub.pools() == {}


# -- what the hub believes ---------------------------------------------------------------------------------------------


def test_a_lab_and_a_stranger_change_nothing(herd, to_hub, alerts):
    assert to_hub(LAB) == ({"outcome": "IGNORED_LAB"}, None)
    herd.register(B, "PROD", enabled=False)
    assert [outcome(to_hub(account)) for account in (STRANGER, STRANGER, B)] == ["IGNORED_UNREGISTERED"] * 3
    told = [message["Message"] for message in wait_for(lambda: len(alerts()) >= 2 and alerts())]
    assert len(told) == 2 and STRANGER in told[0] and "disabled" in told[1], "once a day, and no failure of ours"
    assert herd.hub.pools() == {}


@pytest.mark.parametrize("account", [LAB, STRANGER])
def test_a_forged_detail_is_not_believed(herd, to_hub, account):
    forged = {"account": A, "account_id": A, "account-id": A, "environment_type": "PROD", "environment": "PROD"}
    to_hub(account, detail=forged, environment_type="PROD")
    assert herd.hub.pools() == {}


def test_a_report_about_another_region_of_the_member_poisons_there(herd, to_hub):
    """A member sends it from its own region: account.yaml forwards the notices of the others to it."""
    there = "us-west-2#usw2-az1#m5.large"
    assert outcome(to_hub(A, there, region="us-east-1")) == "POISONED"
    assert {pool: row["is_poisoned"] for pool, row in herd.hub.pools().items()} == {there: True}


def test_a_report_about_no_region_or_an_on_demand_instance_poisons_nothing(herd, to_hub):
    _, error = to_hub(A, "Narnia#use1-az6#m5.large", region="us-east-1")
    assert error["errorType"] == "InvalidEvent" and "detail.pool" in error["errorMessage"]
    assert outcome(to_hub(A, detail={"instance-lifecycle": "scheduled"})) == "IGNORED_NOT_SPOT"
    assert to_hub(A, occurred=ago(days=-1))[1]["errorType"] == "InvalidEvent"
    assert herd.hub.pools() == {}


def test_only_a_hub_takes_reports(herd):
    _, error = herd.a.invoke("RiskManagerFunctionName", report(B, POOL, ago(minutes=1)))
    assert error["errorType"] == "InvalidEvent" and "Role" in error["errorMessage"]
    assert herd.a.pools() == {}


def test_a_flood_is_muted_and_told_and_a_replay_does_not_count(herd, to_hub, alerts):
    herd.hub.settings(max_poisons_per_account_per_hour=2)
    pools = [f"us-east-1#use1-az6#m{n}.large" for n in range(4, 8)]
    at = ago(minutes=1)
    for _ in range(3):
        to_hub(A, pools[0], at)
    assert [outcome(to_hub(A, pool, at)) for pool in pools] == ["ALREADY_POISONED", "POISONED", "MUTED", "MUTED"]
    assert outcome(to_hub(A, pools[1], at)) == "ALREADY_POISONED", "what it poisoned before stays, and may be repeated"
    assert outcome(to_hub(B, pools[2], at)) == "POISONED", "others are not muted"
    assert set(herd.hub.pools()) == set(pools[:3])
    (message,) = [alert["Message"] for alert in wait_for(alerts)]
    assert A in message and "muted" in message


def test_an_account_that_stays_below_every_hours_limit_is_muted_for_the_day(herd, to_hub, alerts):
    herd.hub.settings(max_poisons_per_account_per_day=2)
    pools = [f"us-east-1#use1-az6#m{n}.large" for n in range(4, 7)]
    assert [outcome(to_hub(A, pool)) for pool in pools] == ["POISONED", "POISONED", "MUTED"]
    assert set(herd.hub.pools()) == set(pools[:2])
    (message,) = [alert["Message"] for alert in wait_for(alerts)]
    assert "within this day" in message and "max_poisons_per_account_per_day" in message


def test_a_storm_of_rebalance_recommendations_mutes_no_interruption(herd, to_hub, alerts):
    herd.hub.settings(max_poisons_per_account_per_hour=1)
    pools = [f"us-east-1#use1-az6#m{n}.large" for n in range(4, 8)]
    assert [outcome(to_hub(A, pool, **REBALANCE)) for pool in pools[:2]] == ["POISONED", "MUTED"]
    assert [outcome(to_hub(A, pool)) for pool in pools[2:]] == ["POISONED", "MUTED"]
    assert set(herd.hub.pools()) == {pools[0], pools[2]}
    told = {message["Message"].split(" in more than")[0] for message in alerts()}
    assert told == {f"Account {A} has reported {what}" for what in ("interruptions", "rebalance recommendations")}
    rows = [r for r in herd.hub.table("SightingsTableName").scan()["Items"] if r["subject"].startswith("hour#")]
    assert len(rows) == 2 and all(r["told"] and time.time() < r["expires_at"] < time.time() + 26 * 3600 for r in rows)


def test_the_hub_has_a_say_in_what_members_rebalances_poison(herd, to_hub):
    herd.hub.settings(rebalance_poison_days=2, poison_days=10)
    at = ago(days=1)
    assert outcome(to_hub(A, occurred=at, **REBALANCE)) == "POISONED"
    assert herd.hub.pools()[POOL]["poison_expires_at"] == int(at.timestamp()) + 2 * DAY
    assert outcome(to_hub(B, occurred=ago(days=3), **REBALANCE)) == "IGNORED_STALE"
    herd.hub.settings(rebalance_poisons=False)
    other = "us-east-1#use1-az6#m4.large"
    assert outcome(to_hub(B, other, **REBALANCE)) == "IGNORED_REBALANCE"
    assert other not in herd.hub.pools()
    assert outcome(to_hub(B, other)) == "POISONED"


def test_two_accounts_where_the_setting_asks_for_two(herd, to_hub):
    herd.hub.settings(poison_threshold_accounts=2)
    first, second = ago(days=2), ago(days=1)
    assert outcome(to_hub(A, occurred=first)) == "BELOW_THRESHOLD"
    assert outcome(to_hub(A, occurred=ago(days=3))) == "BELOW_THRESHOLD"
    assert herd.hub.pools() == {}
    assert outcome(to_hub(B, occurred=second)) == "POISONED"
    assert herd.hub.pools()[POOL]["poison_expires_at"] == int(first.timestamp()) + 15 * DAY
    assert outcome(to_hub(A, occurred=ago(hours=1))) == "POISONED"
    assert herd.hub.pools()[POOL]["poison_expires_at"] == int(second.timestamp()) + 15 * DAY


# -- a hub that is down ------------------------------------------------------------------------------------------------

DOWN = {
    "its table fails": {"action": "BatchGetItem", "code": "InternalServerError"},
    "its table hangs": {"action": "BatchGetItem", "kind": "delay", "delay_seconds": 3.5},
    "its table is gone": {"action": "BatchGetItem", "code": "ResourceNotFoundException", "status": 400},
}


@pytest.mark.parametrize("case", DOWN)
def test_a_member_launches_nothing_while_the_hub(herd, group, case):
    web = group(herd.b, size=1, minimum=0)
    herd.hub.control.fault(account=HUB, **DOWN[case])
    report = web.swap()
    assert [s["reason"] for s in report["skipped"]] == ["GATE_UNREACHABLE"]
    assert "the hub's risk table" in report["skipped"][0]["detail"]
    web.assert_nothing_changed_in_ec2()


def test_a_member_launches_nothing_once_the_hub_has_locked_it_out(herd, group):
    """The credentials of a session stay valid for an hour; a member that starts anew gets none."""
    web = group(herd.b, size=1, minimum=0)
    with herd.b.function_environment("ClusterOptimizerFunctionName", HUB_EXTERNAL_ID="guessed"):
        report = web.swap()
    assert [s["reason"] for s in report["skipped"]] == ["GATE_UNREACHABLE"]
    web.assert_nothing_changed_in_ec2()


def test_a_member_goes_on_learning_while_the_hub_is_down(herd):
    herd.hub.control.fault("BatchGetItem", account=HUB)
    pool = interrupt(herd.b)
    herd.hub.control.clear_faults()
    assert herd.hub.wait_pool(pool)["is_poisoned"] is True


# -- what a member may do in the hub -----------------------------------------------------------------------------------


def reader(herd, account, external_id=EXTERNAL_ID):
    """Returns a client of DynamoDB with the hub's reader role, assumed from `account`."""
    asked = {"RoleArn": herd.hub.outputs["HubReaderRoleArn"], "RoleSessionName": "test", "ExternalId": external_id}
    keys = LocalAws(herd.home, account).client("sts").assume_role(**asked)["Credentials"]
    session = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name="us-east-1")
    return session.client("dynamodb", endpoint_url=f"http://127.0.0.1:{herd.hub.ports['ministack']}")


def test_a_member_may_read_the_rows_of_one_table_and_nothing_else(herd, to_hub):
    to_hub(A)
    table, key = herd.hub.outputs["SpotPoolRiskTableName"], {"pool": {"S": POOL}}
    client = reader(herd, B)
    assert client.get_item(TableName=table, Key=key)["Item"]["is_poisoned"] == {"BOOL": True}
    assert client.batch_get_item(RequestItems={table: {"Keys": [key]}})["Responses"][table]
    sighting = {"subject": {"S": POOL}, "account_id": {"S": A}}
    refused = {
        "list all pools": lambda: client.scan(TableName=table),
        "unpoison": lambda: client.delete_item(TableName=table, Key=key),
        "poison": lambda: client.put_item(TableName=table, Item=key),
        "see who": lambda: client.get_item(TableName=herd.hub.outputs["SightingsTableName"], Key=sighting),
        "see accounts": lambda: client.get_item(TableName=herd.hub.outputs["AccountsTableName"], Key={"account_id": {"S": A}}),
    }
    for what, call in refused.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            call()
            pytest.fail(f"a member may {what}")


@pytest.mark.parametrize("account,external_id", [(STRANGER, EXTERNAL_ID), (A, "guessed")])
def test_nobody_else_and_nobody_without_the_external_id_becomes_a_reader(herd, account, external_id):
    with pytest.raises(ClientError, match="AccessDenied"):
        reader(herd, account, external_id)


def test_the_hubs_bus_takes_reports_of_its_members_and_nothing_else():
    """Local AWS enforces the policy for what a rule of another account forwards. MiniStack enforces it for no PutEvents, so
    the test reads the template's statements."""
    resources = json.loads(RENDERED.read_text())["Resources"]
    statements = resources["HubEventBus"]["Properties"]["Policy"]["Fn::If"][1]["Statement"]
    for statement in (s["Fn::If"][1] for s in statements):
        conditions = statement["Condition"]["StringEquals"]
        assert statement["Action"] == "events:PutEvents"
        assert (conditions["events:source"], conditions["events:detail-type"]) == ("spot-optimizer", "Spot Pool Interrupted")
        role = statement["Condition"]["ArnLike"]["aws:PrincipalArn"]
        assert role == {"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/*-ReportToHubRole-*"}
        assert statement["Principal"] != "*" or conditions["aws:PrincipalOrgID"] == {"Ref": "OrganizationId"}


def test_a_members_bus_for_reports_takes_them_of_its_risk_manager_alone(herd):
    """An event on the default bus is no report: the rule that forwards listens to the other bus."""
    resources = json.loads(RENDERED.read_text())["Resources"]
    (statement,) = resources["ReportsBus"]["Properties"]["Policy"]["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "events:PutEvents")
    role = {"Fn::GetAtt": ["RiskManagerFunctionRole", "Arn"]}
    assert statement["Condition"] == {"ArnNotEquals": {"aws:PrincipalArn": role}}
    assert resources["ReportToHubRule"]["Properties"]["EventBusName"] == {"Ref": "ReportsBus"}
    forged = report(A, POOL, ago(minutes=1))
    entry = {"Source": forged["source"], "DetailType": forged["detail-type"], "Detail": json.dumps(forged["detail"])}
    assert herd.a.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    pool = interrupt(herd.a, "us-east-1b")  # A true one, put later: once the hub has it, it would have the forged one.
    herd.hub.wait_pool(pool)
    assert set(herd.hub.pools()) == {pool} and pool != POOL
