"""Interruptions in other accounts and regions: the rules of account.yaml, the stack's bus, and a gate that is blind without."""

import json
import uuid

import pytest

from local_aws.lab import create_instance
from local_aws.paths import ACCOUNT, REGION
from local_aws.stack import INTERRUPTION, LocalAws
from places import EXTERNAL_ID, OTHER, Abroad, client, deployed, lab_swap, rule_off
from scene import wait_for

ELSEWHERE = "eu-west-1"


@pytest.fixture(scope="module")
def other(session_aws):
    """Returns the other account, which forwards; `other.role` is the role's ARN."""
    aws = LocalAws(session_aws.home, OTHER)
    with deployed(session_aws, aws, RoleRegion=REGION) as outputs:
        aws.role = outputs["RoleArn"]
        yield aws


@pytest.fixture
def register(aws, other):
    def register(kind="PROD", **more):
        row = {"account_id": OTHER, "environment_type": kind, "role_arn": other.role, "external_id": EXTERNAL_ID}
        aws.table("AccountsTableName").put_item(Item={**row, **more})

    register()
    return register


@pytest.fixture
def web(aws, other):
    made = Abroad(other, aws, size=2)
    yield made
    aws.control.clear_faults()
    made.delete()


def spot(there, region=REGION):
    """Launches a Spot instance; returns its id and its pool."""
    ec2 = client(there, "ec2", region)
    image = next(i["ImageId"] for i in ec2.describe_images(Owners=["amazon"])["Images"] if i.get("Platform") != "windows")
    launched = ec2.run_instances(
        ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1, InstanceMarketOptions={"MarketType": "spot"},
        Placement={"AvailabilityZone": f"{region}a"},
    )["Instances"][0]  # fmt: skip
    zones = {z["ZoneName"]: z["ZoneId"] for z in ec2.describe_availability_zones()["AvailabilityZones"]}
    return launched["InstanceId"], f"{region}#{zones[f'{region}a']}#m5.large"


def interrupt(there, instance_id, region=REGION):
    """Puts the notice on the default bus of the account and region that the instance runs in."""
    entry = {"Source": "spot-optimizer.drill", "DetailType": INTERRUPTION, "Detail": json.dumps({"instance-id": instance_id})}
    answer = client(there, "events", region).put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0, answer


def asked_for(aws, key):
    """Says if the risk manager has read a row of this key."""
    return [c for c in aws.control.calls(action="GetItem") if key in json.dumps(c["params"])]


# -- what is forwarded -------------------------------------------------------------------------------------------------


def test_a_forwarded_interruption_poisons_the_pool_for_everyone_and_a_labs_does_not(aws, other, register, scene):
    instance_id, pool = spot(other)
    try:
        register("LAB")
        aws.control.clear_calls()
        interrupt(other, instance_id)
        wait_for(lambda: asked_for(aws, instance_id))  # Its owner may have to be told.
        assert aws.pools() == {}

        register("PROD")
        interrupt(other, instance_id)
        assert aws.wait_pool(pool)["cause"].startswith("drill:")
        home = scene(size=1, minimum=0, zones=["us-east-1a"])
        assert [(s["reason"], pool in s["detail"]) for s in home.swap(dry_run=True)["skipped"]] == [("POOL_POISONED", True)]
    finally:
        client(other, "ec2").terminate_instances(InstanceIds=[instance_id])


def test_the_stacks_own_account_forwards_from_its_other_regions_and_has_no_role_there(aws):
    with deployed(aws, aws, ELSEWHERE, RoleRegion=ELSEWHERE) as outputs:
        assert "RoleArn" not in outputs, "the stack's own functions work in its account"
        instance_id, pool = spot(aws, ELSEWHERE)
        try:
            interrupt(aws, instance_id, ELSEWHERE)
            assert aws.wait_pool(pool)["is_poisoned"] is True
        finally:
            client(aws, "ec2", ELSEWHERE).terminate_instances(InstanceIds=[instance_id])


def test_a_bus_takes_notices_of_the_accounts_that_may_forward_and_no_forged_ones(aws, register):
    """A stranger with the same rule, and an event that no rule of ours would send."""
    stranger = LocalAws(aws.home, "999999999999")
    aws.control.clear_calls()
    with deployed(aws, stranger):
        interrupt(stranger, "i-0123456789abcdef0")
    answer = client(stranger, "events").put_events(
        Entries=[{"Source": "aws.ec2", "DetailType": INTERRUPTION, "Detail": '{"instance-id": "i-0123456789abcdef0"}'}]
    )
    assert answer["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"
    interrupt(aws, "i-0fedcba9876543210")  # Our own, put later: once it is handled, the stranger's would have been.
    wait_for(lambda: asked_for(aws, "i-0fedcba9876543210"))
    assert not asked_for(aws, "999999999999")


# -- a gate that hears nothing -----------------------------------------------------------------------------------------


def test_a_place_that_does_not_forward_is_refused_by_name_or_allowed_and_named(aws, other, register, web):
    aws.control.newcomers(status="initializing")
    web.arn = aws.start_execution({"asg_name": web.name, "account_id": OTHER, "max_swaps": 1})
    newcomer = wait_for(lambda: web.newcomers)[0]["InstanceId"]
    with rule_off(other):
        aws.control.newcomers(status="ok")
        aws.control.instance(newcomer, status="ok")
        done = aws.wait_execution(web.arn)["output"]
        assert (len(done["swapped"]), done.get("gate")) == (1, None), "the first step of a run looks, and no later one"

        before = {i["InstanceId"] for i in other.instances()}
        for dry_run in (True, False):
            report = web.swap(dry_run=dry_run)["output"]
            assert (report["swapped"], report["gate"], report["ended_by"]["reason"]) == ([], "blind", "GATE_BLIND")
            left = next(s for s in report["skipped"] if s["reason"] == "GATE_BLIND")
            assert all(w in left["detail"] for w in (OTHER, REGION, "spot-optimizer-notices is disabled", "blind_gate"))
        assert {i["InstanceId"] for i in other.instances()} == before and not web.leased()

        aws.settings(f"account#{OTHER}", blind_gate="allow")
        plan = web.swap(dry_run=True)["output"]
        assert (len(plan["planned"]), plan["gate"]) == (1, "blind")
        done = web.swap()["output"]
        assert (len(done["swapped"]), done["gate"]) == (1, "blind")
    web.assert_owners()


def test_a_lab_instance_of_an_account_that_does_not_forward_stays(aws, other, register):
    register("LAB")
    old = create_instance(other)
    try:
        with rule_off(other):
            report = lab_swap(aws, old, dry_run=True), lab_swap(aws, old, capture_image=True)
        assert [(r["outcome"], r["reason"], r["gate"]) for r in report] == [("REFUSED", "GATE_BLIND", "blind")] * 2
        assert not old.newcomers() and not old.images()
    finally:
        other.client("ec2").terminate_instances(InstanceIds=[old.id])
        old.delete_belongings()


def test_without_its_own_rule_the_gate_is_blind_at_home_too(aws, scene):
    home = scene(size=1, minimum=0)
    with rule_off(aws):
        report = home.swap()
        assert ([s["reason"] for s in report["skipped"]], report["gate"]) == (["GATE_BLIND"], "blind")
        home.assert_nothing_changed_in_ec2()

        (spot,) = home.old
        aws.control.instance(spot, set={"InstanceLifecycle": "spot"})
        back = home.swap(to="ON_DEMAND")
    assert [s["old_instance_id"] for s in back["swapped"]] == [spot], "On-Demand needs no gate"
    assert back.get("gate") is None and len(home.group.on_demand) == 1
    home.assert_owners()


def test_a_launch_that_comes_past_the_gates_own_step_is_refused_too(aws, scene):
    home, execution = scene(size=1, minimum=0), f"arn:aws:states:{REGION}:{ACCOUNT}:execution:ClusterSwap:{uuid.uuid4()}"
    step = lambda phase, **more: aws.invoke("ClusterOptimizerFunctionName", {"phase": phase, **more})[0]  # noqa: E731
    with rule_off(aws):
        planned = step("Discover", execution=execution, input={"asg_name": home.name})
    refused = step("Launch", work=planned["work"])
    report = step("Report", work=refused["work"])
    assert ([s["reason"] for s in report["skipped"]], report["gate"]) == (["GATE_BLIND"], "blind")
    home.assert_nothing_changed_in_ec2()


def test_a_node_is_not_swapped_where_the_gate_is_blind(aws, nodes):
    node = nodes(size=1)
    aws.control.clear_calls()
    with rule_off(aws):
        plan, report = node.run(dry_run=True), node.run()
    assert plan["plan"]["pools"] and plan["gate"] == "blind"
    assert [(r["outcome"], r["reason"], r["gate"]) for r in (plan, report)] == [("REFUSED", "GATE_BLIND", "blind")] * 2
    node.assert_never_leased()


def test_a_region_without_account_yaml_is_named_in_the_plan_and_its_notices_are_not_heard(aws):
    ec2, autoscaling, name = client(aws, "ec2", ELSEWHERE), client(aws, "autoscaling", ELSEWHERE), f"web-{uuid.uuid4().hex[:8]}"
    image = next(i["ImageId"] for i in ec2.describe_images(Owners=["amazon"])["Images"] if i.get("Platform") != "windows")
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": image, "InstanceType": "m5.large"})
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=0, MaxSize=2, DesiredCapacity=1, AvailabilityZones=[f"{ELSEWHERE}a"],
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        Tags=[{"Key": "spot-optimizer:enabled", "Value": "true", "PropagateAtLaunch": False}],
    )  # fmt: skip
    members = lambda: [  # noqa: E731
        i["InstanceId"] for i in autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]["Instances"]
    ]
    try:
        plan = lambda: aws.swap(name, region=ELSEWHERE, dry_run=True)["output"]  # noqa: E731
        wait_for(lambda: plan()["skipped"])
        blind = plan()
        assert blind["gate"] == "blind" and "it has no rule spot-optimizer-notices" in blind["skipped"][0]["detail"]
        (doomed,) = members()
        aws.control.instance(doomed, region=ELSEWHERE, set={"InstanceLifecycle": "spot"})
        aws.control.clear_calls()
        interrupt(aws, doomed, ELSEWHERE)
        interrupt(aws, "i-0fedcba9876543210")  # At home, and later: once it is handled, the other would have been.
        wait_for(lambda: asked_for(aws, "i-0fedcba9876543210"))
        assert members() == [doomed] and not aws.control.calls(action="StartExecution")
        with deployed(aws, aws, ELSEWHERE):
            assert "gate" not in plan()
            interrupt(aws, doomed, ELSEWHERE)
            wait_for(lambda: doomed not in members() and len(members()) == 1)
            wait_for(lambda: not _leased(aws, name))
    finally:
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)


def _leased(aws, name):
    rows = aws.table("SwapsTableName").scan(ConsistentRead=True)["Items"]
    return [row for row in rows if name in row["target"] and "lease_owner" in row]
