"""The security enforcer on local AWS: its flags, the limits that stop it, and that it never goes beyond them."""

import threading
import time
import uuid

import pytest

from lab_scene import held_up
from local_aws.inbox import listening
from scene import wait_for
from test_reconciler import forged as forged_row

ENFORCER = "SecurityEnforcerFunctionName"
ACCOUNT, REGION = "123456789012", "us-east-1"
PLACE = f"{ACCOUNT}#{REGION}"
DAY = 86400


class Scene:
    """The instances of one test, their rows in InstanceAuth, and runs of the enforcer."""

    def __init__(self, aws):
        self.aws, self.ec2, self.launched = aws, aws.client("ec2"), []
        self.auth, self.accounts = aws.table("InstanceAuthTableName"), aws.table("AccountsTableName")

    def launch(self, spot=False, token=None, protected=False, **tags):
        more = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
        if tags:
            pairs = [{"Key": k, "Value": v} for k, v in tags.items()]
            more["TagSpecifications"] = [{"ResourceType": "instance", "Tags": pairs}]
        launched = self.ec2.run_instances(
            ImageId=self.aws.network.image, InstanceType="m5.large", MinCount=1, MaxCount=1,
            ClientToken=token or str(uuid.uuid4()),
            SubnetId=self.aws.network.subnets["us-east-1a"], **more,
        )  # fmt: skip
        instance_id = launched["Instances"][0]["InstanceId"]
        self.launched.append(instance_id)
        self.protect(instance_id, protected)
        self.ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
        return instance_id

    def protect(self, instance_id, on):
        self.ec2.modify_instance_attribute(InstanceId=instance_id, DisableApiTermination={"Value": on})

    def tag(self, instance_id, key, value):
        self.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": value}])

    def untag(self, instance_id, key):
        self.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": key}])

    def enforce(self, on=True, **row):
        self.accounts.put_item(Item={"account_id": ACCOUNT, "environment_type": "PROD", "auto_terminate": on, **row})

    def run(self, **input):
        answer, error = self.aws.invoke(ENFORCER, input)
        assert error is None, error
        return answer

    def row(self, instance_id):
        return self.auth.get_item(Key={"account_region": PLACE, "instance_id": instance_id}).get("Item")

    def status(self, instance_id):
        row = self.row(instance_id)
        return row and row["auth_status"]

    def flagged_a_day_ago(self, *instance_ids):
        """Lets a run flag the instances and send its notice; then the day passes."""
        self.run()
        for instance_id in instance_ids:
            self.set_flag(instance_id, int(time.time()) - DAY - 60)

    def set_flag(self, instance_id, flagged_at):
        self.auth.update_item(
            Key={"account_region": PLACE, "instance_id": instance_id},
            UpdateExpression="SET flagged_at = :at",
            ExpressionAttributeValues={":at": flagged_at},
        )

    def state(self, instance_id):
        return self.aws.instance(instance_id)["State"]["Name"]

    def changes(self):
        """Returns the calls of the Lambdas that change something in EC2."""
        return [c for c in self.aws.control.calls() if c["service"] == "ec2" and not c["action"].startswith("Describe")]

    def clean(self):
        self.aws.settings()
        self.accounts.delete_item(Key={"account_id": ACCOUNT})
        for row in self.auth.scan()["Items"]:
            self.auth.delete_item(Key={k: row[k] for k in ("account_region", "instance_id")})
        for instance_id in self.launched:
            self.protect(instance_id, False)
        if self.launched:
            self.ec2.terminate_instances(InstanceIds=self.launched)


@pytest.fixture
def unheard(aws):
    """Returns a scene whose alerts have no confirmed subscription, as after a deployment without an address."""
    scene = Scene(aws)
    scene.clean()
    # Other tests left their instances running: limits are for the tests of the limits.
    aws.settings(max_terminations_per_run=1000, max_terminations_percent=100)
    yield scene
    scene.clean()


@pytest.fixture
def scene(unheard, inbox):
    """Returns `unheard` with a subscriber: `inbox` is subscribed."""
    return unheard


def test_what_nobody_answers_for_is_flagged_and_nothing_else(scene):
    stray = scene.launch(Name="pet")
    swap = f"i-0123456789abcdef0-{int(time.time() * 1000)}"
    swap_tags = {"ManagedBy": "SpotOptimizer", "spot-optimizer:swap": swap}
    newcomer = scene.launch(spot=True, token=f"{swap}-0", **swap_tags)
    owners = ("eks:cluster-name", "karpenter.sh/nodepool", "kubernetes.io/cluster/shop", "AWSRDSCustom")
    owned = [scene.launch(**{key: "x"}) for key in owners]
    empty, wrong_case = scene.launch(**{"eks:cluster-name": ""}), scene.launch(**{"EKS:Cluster-Name": "x"})
    forged = scene.launch(**swap_tags)
    # A row of Swaps as whoever may write that table can make it: its swap replaces the stray, and launched the other.
    no_swap = f"{stray}-{int(time.time() * 1000)}"
    claimed = scene.launch(spot=True, **{**swap_tags, "spot-optimizer:swap": no_swap})
    lab = {"old_instance": "stop", "address": None, "registrations": [], "capture": False, "leaving": False, "stopping": False}
    row = {"old": stray, "newcomer": claimed, "swap_id": no_swap, "lab": lab}
    row = {"target": forged_row(scene.aws, {"Instance": stray}, f"arn:aws:states:{REGION}:{ACCOUNT}:execution:swap:never", **row)}
    members = scene.aws.create_group(size=1).instance_ids
    before = int(time.time())
    answer = scene.run()
    scene.aws.table("SwapsTableName").delete_item(Key=row)
    assert answer["partial"] is False, answer["failed"]
    row = scene.row(stray)
    assert (row["auth_status"], bool(row["reason"])) == ("FLAGGED", True)
    assert before <= row["flagged_at"] == row["last_seen"] <= int(time.time())
    assert [scene.status(i) for i in (empty, wrong_case)] == ["FLAGGED", "FLAGGED"]
    assert [scene.status(i) for i in (forged, claimed)] == ["SUSPICIOUS", "SUSPICIOUS"]
    assert [scene.row(i) for i in (newcomer, *owned, *members)] == [None] * 6
    # Where only marked groups are trusted, the member of one that is not marked is nobody's.
    scene.aws.settings(group_marks="trusted", max_terminations_per_run=1000, max_terminations_percent=100)
    scene.run()
    assert scene.status(members[0]) == "FLAGGED"
    scene.tag(members[0], "trusted", "yes")
    scene.run()
    assert scene.status(members[0]) == "CLEARED"


def test_a_twin_is_authorised_from_its_launch_on_and_what_it_replaces_is_left_to_the_swap(scene, lab):
    web, twin, let_go = held_up(lab, "PauseForHealth", address=False, target_groups=0)
    assert scene.run()["places"][0]["being_replaced"] == 1
    assert [scene.row(i) for i in (web.old.id, twin)] == [None, None]
    web.assert_swapped(let_go())
    assert scene.run()["partial"] is False and scene.row(twin) is None


def test_audit_only_is_the_default_and_changes_nothing(scene):
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    scene.aws.control.clear_calls()
    answer = scene.run(auto_terminate=True)  # The input switches nothing on.
    assert (answer["due"], answer["terminated"]) == (1, [])
    assert (scene.changes(), scene.state(stray), scene.status(stray)) == ([], "running", "FLAGGED")


def test_the_clock_does_not_move_and_an_owner_clears_it(scene):
    stray = scene.launch()
    scene.run()
    scene.set_flag(stray, int(time.time()) - 5000)
    first = scene.row(stray)
    scene.run()
    assert scene.row(stray)["flagged_at"] == first["flagged_at"]
    scene.tag(stray, "eks:cluster-name", "prod")
    scene.run()
    assert scene.status(stray) == "CLEARED"
    scene.untag(stray, "eks:cluster-name")
    scene.run()
    again = scene.row(stray)
    assert again["auth_status"] == "FLAGGED" and again["flagged_at"] > first["flagged_at"]


def test_after_its_grace_it_is_terminated_and_only_it(scene):
    scene.enforce()
    stray, fresh = scene.launch(), scene.launch()
    scene.flagged_a_day_ago(stray)
    scene.aws.control.clear_calls()
    answer = scene.run()
    assert answer["terminated"] == [stray]
    assert (scene.status(stray), scene.state(stray)) == ("TERMINATED", "terminated")
    assert (scene.status(fresh), scene.state(fresh)) == ("FLAGGED", "running")
    assert [c["action"] for c in scene.changes()] == ["TerminateInstances"]
    scene.run()  # Once more: it stays what it is.
    assert scene.status(stray) == "TERMINATED"


def test_the_input_switches_enforcement_off(scene):
    scene.enforce()
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    assert scene.run(auto_terminate=False)["terminated"] == []
    assert scene.state(stray) == "running"


@pytest.mark.parametrize("flagged_at", [None, "yesterday", "in ten days"])
def test_a_flag_that_cannot_be_right_never_means_expired(scene, flagged_at):
    scene.enforce()
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    now = int(time.time())
    scene.set_flag(stray, now + 10 * DAY if flagged_at == "in ten days" else flagged_at)
    for _ in range(2):
        assert scene.run()["terminated"] == []
    assert now <= scene.row(stray)["flagged_at"] <= int(time.time())
    assert scene.state(stray) == "running"


def test_no_notice_no_termination(scene):
    scene.enforce()
    stray = scene.launch()
    scene.aws.control.fault("Publish", status=403, code="AuthorizationError")
    assert scene.run()["partial"] is True
    scene.set_flag(stray, int(time.time()) - 2 * DAY)
    scene.aws.control.clear_faults()
    for _ in range(2):
        assert scene.run()["terminated"] == []
    assert scene.state(stray) == "running"


def test_while_nobody_hears_the_alerts_no_notice_has_gone_out(unheard):
    scene = unheard
    stray = scene.launch()
    assert scene.run()["partial"] is False  # Audit only: nothing depends on a notice.
    scene.set_flag(stray, int(time.time()) - 2 * DAY)
    scene.enforce()
    for _ in range(2):
        answer = scene.run()
        assert answer["terminated"] == [] and "subscription" in answer["failed"][0]
    with listening(scene.aws) as inbox:
        assert scene.run()["partial"] is False
        assert any(stray in m.get("Message", "") for m in inbox())
        assert scene.run()["terminated"] == [] and scene.state(stray) == "running"  # Its grace begins with the notice.
    scene.set_flag(stray, int(time.time()) - 4 * DAY)
    answer = scene.run()  # The notice was heard, but nobody would hear of the end.
    assert (answer["terminated"], answer["due"]) == ([], 1) and "subscription" in answer["failed"][0]
    with listening(scene.aws):
        assert scene.run()["terminated"] == [stray]


@pytest.mark.parametrize("enforce", [False, True], ids=["audit only", "enforced"])
def test_if_nobody_can_tell_who_hears_nothing_goes(scene, enforce):
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    if enforce:
        scene.enforce()
    scene.aws.control.fault("GetTopicAttributes", code="AuthorizationError", status=403)
    answer = scene.run()
    assert answer["terminated"] == [] and answer["failed"][0].startswith("whether anyone hears the alerts is unknown")
    scene.aws.control.clear_faults()
    assert scene.run()["terminated"] == ([stray] if enforce else [])


def test_protection_blocks_and_stays(scene):
    scene.enforce()
    stray = scene.launch(protected=True)
    scene.flagged_a_day_ago(stray)
    answer = scene.run()
    assert answer["terminated"] == [] and answer["blocked"][0]["instance_id"] == stray
    assert (scene.status(stray), scene.state(stray)) == ("TERMINATION_BLOCKED", "running")
    protection = scene.ec2.describe_instance_attribute(InstanceId=stray, Attribute="disableApiTermination")
    assert protection["DisableApiTermination"]["Value"] is True


def test_the_role_denies_what_got_an_owner_at_the_last_moment(scene):
    """The tag is written after the last check, while the call is on its way."""
    scene.enforce()
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    scene.aws.control.fault("TerminateInstances", kind="hold")
    answers = []
    run = threading.Thread(target=lambda: answers.append(scene.run()))
    run.start()
    wait_for(lambda: scene.aws.control.faults()[0]["hits"])
    scene.tag(stray, "karpenter.sh/nodepool", "default")
    scene.aws.control.clear_faults()
    run.join()
    assert (scene.status(stray), scene.state(stray)) == ("TERMINATION_BLOCKED", "running"), answers
    assert "UnauthorizedOperation" in answers[0]["blocked"][0]["reason"]


@pytest.mark.parametrize("limit", [{"max_terminations_per_run": 1}, {"max_terminations_percent": 1}])
def test_beyond_the_blast_radius_none_goes(scene, limit):
    scene.enforce()
    strays = [scene.launch(), scene.launch()]
    scene.flagged_a_day_ago(*strays)
    scene.aws.settings(**{"max_terminations_per_run": 1000, "max_terminations_percent": 100, **limit})
    scene.aws.control.clear_calls()
    answer = scene.run()
    assert next(iter(limit)) in answer["blast_radius_exceeded"]
    assert (answer["terminated"], scene.changes()) == ([], [])
    assert [scene.state(s) for s in strays] == ["running", "running"]


def test_one_not_running_at_the_last_audit_gets_another_hour(scene):
    scene.enforce()
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    soon = {"Delay": 1, "MaxAttempts": 20}
    scene.ec2.stop_instances(InstanceIds=[stray])
    scene.ec2.get_waiter("instance_stopped").wait(InstanceIds=[stray], WaiterConfig=soon)
    scene.run()
    scene.ec2.start_instances(InstanceIds=[stray])
    scene.ec2.get_waiter("instance_running").wait(InstanceIds=[stray], WaiterConfig=soon)
    assert scene.run()["terminated"] == []
    assert scene.run()["terminated"] == [stray]


def test_a_bad_setting_stops_the_run_before_it_acts(scene):
    scene.enforce()
    stray = scene.launch()
    scene.flagged_a_day_ago(stray)
    scene.aws.settings(grace_hours="soon")
    scene.aws.control.clear_calls()
    _, error = scene.aws.invoke(ENFORCER, {})
    assert error["errorType"] == "InvalidSettings"
    assert '"global"' in error["errorMessage"] and '"grace_hours"' in error["errorMessage"]
    assert [c for c in scene.aws.control.calls() if c["service"] == "ec2"] == []


@pytest.mark.parametrize("input", [{"autoterminate": False}, {"region": "Narnia"}, {"account_id": "42"}])
def test_a_bad_input_is_refused(scene, input):
    _, error = scene.aws.invoke(ENFORCER, input)
    assert error["errorType"] == "InvalidInput"


def test_an_account_that_nobody_registered_is_refused(scene):
    _, error = scene.aws.invoke(ENFORCER, {"account_id": "999999999999"})
    assert error["errorType"] == "AccountUnknown"


def test_a_denied_region_is_said_and_the_others_are_audited(scene, inbox):
    scene.enforce(on=False, regions=["us-east-1", "us-west-2"])
    stray = scene.launch()
    denied = {"status": 403, "code": "UnauthorizedOperation", "region": "us-west-2"}
    scene.aws.control.fault("DescribeInstances", times=2, **denied)
    for _ in range(2):
        answer = scene.run()
        assert answer["partial"] is True and "UnauthorizedOperation" in answer["failed"][0]
        assert len(answer["places"]) == 2
    assert scene.run(region="us-east-1")["partial"] is False
    assert scene.status(stray) == "FLAGGED"
    # A person hears of a cause once a day, and of another at once.
    scene.aws.control.fault("DescribeInstances", times=1, **{**denied, "code": "OptInRequired"})
    scene.run()
    told = [m["Message"] for m in inbox() if "The audit is partial" in m.get("Message", "")]
    assert len(told) == 2 and "UnauthorizedOperation" in told[0] and "OptInRequired" in told[1], told


def test_a_report_names_the_regions_that_nobody_looks_at(scene):
    stray = scene.launch()
    (left_out,) = scene.run()["not_audited"]  # No row: the stack's own region is audited.
    assert left_out["account_id"] == ACCOUNT and "unknown" not in left_out
    assert REGION not in left_out["regions"] and {"us-west-2", "eu-south-1"} <= set(left_out["regions"])
    assert "af-south-1" not in left_out["regions"]  # The account has not opted in.
    scene.enforce(on=False, regions=["*"])
    answer = scene.run()
    assert (answer["partial"], answer.get("not_audited")) == (False, None), answer["failed"]
    assert {p["region"] for p in answer["places"]} == {REGION, *left_out["regions"]}
    scene.aws.control.fault("DescribeRegions", status=403, code="UnauthorizedOperation")
    answer = scene.run()
    assert answer["partial"] is True and "DescribeRegions" in answer["failed"][0]
    assert [p["region"] for p in answer["places"]] == [REGION] and scene.status(stray) == "FLAGGED"


def test_a_flag_is_an_event_and_a_message(scene, inbox):
    stray = scene.launch()
    scene.run(), scene.run()
    (event,) = [m for m in inbox() if m.get("detail", {}).get("instance_id") == stray]
    assert (event["detail-type"], event["detail"]["auth_status"]) == ("Instance Flagged", "FLAGGED")
    (message,) = [m["Message"] for m in inbox() if stray in m.get("Message", "")]
    assert "Nobody answers for" in message
    for told in ("m5.large", "launched 20", "us-east-1a", "private ", "instance profile: none", "price: $0.096 an hour"):
        assert told in message, message
    # A day later it still runs, and a person hears of it again.
    yesterday = int(time.time()) - DAY
    scene.auth.update_item(
        Key={"account_region": PLACE, "instance_id": stray}, UpdateExpression="SET told_at = :at, flagged_at = :at",
        ExpressionAttributeValues={":at": yesterday},
    )  # fmt: skip
    scene.run(), scene.run()
    (reminder,) = [m["Message"] for m in inbox() if stray in m.get("Message", "") and "still run" in m["Message"]]
    assert "FLAGGED" in reminder and scene.row(stray)["flagged_at"] == yesterday
