"""One stack works in another account through the role of `shared/cloud/account.yaml`, deployed there as it is."""

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from local_aws.build import load
from local_aws.lab import create_instance
from local_aws.paths import ACCOUNT_ROLE, TEMPLATE
from local_aws.stack import LocalAws
from places import EXTERNAL_ID, OTHER, Abroad, deployed, lab_swap
from scene import wait_for

AUDIT = "*:spot-optimizer-audit"


@pytest.fixture(scope="module")
def other(session_aws):
    """Returns the other account, with the role in it; `other.role` is the role's ARN. It forwards its notices."""
    aws = LocalAws(session_aws.home, OTHER)
    with deployed(session_aws, aws) as outputs:
        aws.role = outputs["RoleArn"]
        yield aws


@pytest.fixture
def registered(aws, other):
    """Returns `aws` with a row for the other account; `registered(external_id=…)` changes the row."""

    def register(**more):
        row = {"account_id": OTHER, "environment_type": "PROD", "role_arn": other.role, "external_id": EXTERNAL_ID}
        aws.table("AccountsTableName").put_item(Item={**row, **more})

    register()
    return register


@pytest.fixture
def web(aws, other):
    made = Abroad(other, aws, size=2)
    yield made
    aws.control.clear_faults()
    made.delete()


def test_a_group_of_another_account_is_swapped_with_that_accounts_role(aws, registered, web):
    aws.control.clear_calls()
    execution = web.swap()
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    web.assert_swapped(execution["output"])
    assert (execution["output"]["account_id"], execution["output"].get("gate")) == (OTHER, None), "it forwards"
    assumed = aws.control.calls(action="AssumeRole")
    run = execution["executionArn"].rsplit(":", 1)[1]
    assert assumed and {c["params"]["RoleSessionName"] for c in assumed} == {f"spot-optimizer-run-{run}"[:64]}
    assert {(c["params"]["RoleArn"], c["params"]["ExternalId"]) for c in assumed} == {
        (web.aws.role, EXTERNAL_ID)
    }  # fmt: skip


def test_a_swap_that_fails_abroad_is_undone_abroad(aws, registered, web):
    aws.control.newcomers(status="impaired")
    aws.settings(poll_seconds=1, launch_visible_after_seconds=1, health_timeout_seconds=1)
    execution = web.swap(max_swaps=1)
    web.assert_rolled_back(execution["output"], "NEWCOMER_UNHEALTHY")


def test_the_loop_keeps_a_tagged_group_of_another_account_on_spot(aws, registered, web):
    aws.clear_memory()
    aws.settings(poll_seconds=1, launch_visible_after_seconds=1, settle_seconds=0)
    web.tag_group("spot-optimizer:enabled", "true")
    aws.control.clear_calls()
    answer, error = aws.invoke("GroupWatcherFunctionName", {})
    assert error is None and answer["failed"] == [], (error, answer)
    (started,) = answer["started"]
    assert (started["asg_name"], started["account_id"]) == (web.name, OTHER)
    assert {c["params"]["RoleSessionName"] for c in aws.control.calls(action="AssumeRole")} >= {"spot-optimizer-watch"}
    web.assert_swapped(aws.wait_execution(started["execution_arn"])["output"])
    assert "spot-optimizer:last-run" in {t["Key"] for t in web.group.describe()["Tags"]}
    aws.clear_memory()


def test_the_pools_of_another_account_are_told_apart_by_zone_id(aws, registered, web):
    """The other account's us-east-1a is not ours: a pool is a place, not a name."""
    aws.control.shift_zones(OTHER, 5)
    aws.poison("us-east-1#use1-az6#m5.large")
    output = web.swap(dry_run=True)["output"]
    zones = {i["InstanceId"]: i["AvailabilityZone"] for i in web.before["Instances"]}
    assert [(zones[s["instance_id"]], s["reason"]) for s in output["skipped"]] == [("us-east-1b", "POOL_POISONED")]


def test_without_the_external_id_nothing_is_done(aws, registered, web):
    registered(external_id="guessed")
    execution = web.swap()
    assert execution["status"] == "FAILED"
    web.assert_untouched()


def test_a_scan_and_an_audit_reach_the_other_account(aws, registered, other):
    image = other.network.image
    stray = other.client("ec2").run_instances(ImageId=image, InstanceType="m5.large", MinCount=1, MaxCount=1)
    stray = stray["Instances"][0]["InstanceId"]
    other.client("ec2").allocate_address(Domain="vpc")
    try:
        scanned, error = aws.invoke("WasteScannerFunctionName", {"account_id": OTHER, "region": "us-east-1"})
        assert error is None and scanned["partial"] is False and scanned["types"]["elastic-ip"]["count"] >= 1
        audited, error = aws.invoke("SecurityEnforcerFunctionName", {"account_id": OTHER})
        assert error is None and audited["partial"] is False, audited
        key = {"account_region": f"{OTHER}#us-east-1", "instance_id": stray}
        assert aws.table("InstanceAuthTableName").get_item(Key=key)["Item"]["auth_status"] == "FLAGGED"
    finally:
        other.client("ec2").terminate_instances(InstanceIds=[stray])


@pytest.fixture
def lab(other):
    old = create_instance(other, address=True, target_groups=1)
    wait_for(lambda: set(old.health()) == {"healthy"})
    yield old
    ids = [old.id, *[i["InstanceId"] for i in old.newcomers()]]
    other.client("ec2").terminate_instances(InstanceIds=ids)
    old.delete_belongings()


@pytest.mark.parametrize("capture_image", [False, True])
def test_a_stand_alone_instance_of_another_lab_account_is_swapped(aws, registered, lab, capture_image):
    registered(environment_type="LAB")
    report = lab_swap(aws, lab, capture_image=capture_image)
    assert report["outcome"] == "SWAPPED", report
    new = report["new_instance_id"]
    assert (lab.describe(new)["InstanceLifecycle"], lab.address_at(), set(lab.health(new))) == ("spot", new, {"healthy"})
    wait_for(lambda: lab.state() == "stopped")
    assert not lab.images() and not lab.snapshots()


def test_a_lab_swap_that_fails_abroad_is_undone_abroad(aws, registered, lab):
    registered(environment_type="LAB")
    aws.control.newcomers(status="impaired")
    aws.settings(poll_seconds=1, launch_visible_after_seconds=1, health_timeout_seconds=1)
    report = lab_swap(aws, lab, capture_image=True)
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "NEWCOMER_UNHEALTHY")
    assert (lab.state(), lab.address_at(), set(lab.health())) == ("running", lab.id, {"healthy"})
    assert lab.newcomer() is None and not lab.images() and not lab.snapshots()


def test_a_lab_swap_in_another_prod_account_is_refused(aws, registered, lab):
    report = lab_swap(aws, lab)
    assert (report["outcome"], report["reason"]) == ("REFUSED", "PROD_ACCOUNT")


def test_a_hubs_member_is_not_worked_in_from_the_hub(aws, registered, web):
    registered(member=True)
    execution = web.swap()
    assert execution["status"] == "FAILED" and "member" in execution["cause"]
    summary, error = aws.invoke("WasteScannerFunctionName", {})
    assert error is None and OTHER not in json.dumps(summary)


def session(aws, other, function, name):
    """Returns a client of EC2 in the other account, as that function of the stack has it."""
    aws.invoke(f"{function}FunctionName", {"nobody": "asks this"})  # MiniStack knows a function's key once it has run.
    sts = aws.client_of(f"{function}FunctionName", "sts")
    keys = sts.assume_role(RoleArn=other.role, RoleSessionName=name, ExternalId=EXTERNAL_ID)["Credentials"]
    made = boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name="us-east-1")
    return made.client("ec2", endpoint_url=f"http://127.0.0.1:{aws.ports['ec2']}")


def test_an_audit_abroad_cannot_terminate_what_an_owner_answers_for_but_a_swap_can(aws, other, web):
    instance_id = web.old[0]
    audit = session(aws, other, "SecurityEnforcer", "spot-optimizer-audit")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        audit.terminate_instances(InstanceIds=[instance_id])
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        audit.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
    session(aws, other, "ClusterOptimizer", "spot-optimizer-run-1").terminate_instances(InstanceIds=[instance_id])


def test_waste_scan_and_risk_manager_abroad_look_and_change_nothing(aws, other):
    mark = [{"ResourceType": "instance", "Tags": [{"Key": "ManagedBy", "Value": "SpotOptimizer"}]}]
    launch = {"ImageId": other.network.image, "InstanceType": "m5.large", "MinCount": 1, "MaxCount": 1}
    stray = other.client("ec2").run_instances(**launch)["Instances"][0]["InstanceId"]
    scan, risk = session(aws, other, "WasteScanner", "spot-optimizer-waste"), session(aws, other, "RiskManager", "spot-optimizer-risk")
    assert scan.describe_volumes()["Volumes"] is not None and risk.describe_instances()["Reservations"]
    for looking in (scan, risk):
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            looking.run_instances(**launch, InstanceMarketOptions={"MarketType": "spot"}, TagSpecifications=mark)
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            looking.terminate_instances(InstanceIds=[stray])
    session(aws, other, "SecurityEnforcer", "spot-optimizer-audit").terminate_instances(InstanceIds=[stray])
    assert other.instance(stray)["State"]["Name"] in ("shutting-down", "terminated")


@pytest.mark.parametrize(
    "function, name",
    [
        ("WasteScanner", "spot-optimizer-run-1"),
        ("ClusterOptimizer", "spot-optimizer-audit"),
        ("WasteScanner", "spot-optimizer-audit"),
        ("LabOptimizer", "spot-optimizer-run-1"),
        ("ClusterOptimizer", "somebody"),
    ],
)
def test_a_function_is_let_in_under_its_own_name_alone(aws, other, function, name):
    with pytest.raises(ClientError, match="AccessDenied"):
        session(aws, other, function, name)


def test_nobody_but_a_function_is_let_in(aws, other):
    """Not even another principal of the stack's account may assume the role, with the external id and a right name."""
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.client("sts").assume_role(RoleArn=other.role, RoleSessionName="spot-optimizer-audit", ExternalId=EXTERNAL_ID)


def test_the_role_denies_what_the_enforcers_role_denies():
    statements = _inline(load(TEMPLATE)["Resources"]["SecurityEnforcerFunctionRole"]["Properties"])
    own = {s["Sid"]: s for s in statements if s.get("Effect") == "Deny"}
    policy = load(ACCOUNT_ROLE)["Resources"]["NeverTerminatePolicy"]["Properties"]["PolicyDocument"]
    abroad = {s["Sid"]: s for s in policy["Statement"]}
    assert len(own) >= 20 and set(abroad) == set(own)
    for sid, statement in abroad.items():
        condition = {op: dict(keys) for op, keys in statement["Condition"].items()}
        assert condition["StringLike"].pop("aws:userid") == AUDIT, sid
        condition = {op: keys for op, keys in condition.items() if keys}
        assert {**statement, "Condition": condition} == own[sid]


def test_who_launches_or_starts_instances_may_use_their_keys():
    """Without the key, an instance with volumes under a customer's own key dies as it starts, for example in a rollback."""
    resources = load(TEMPLATE)["Resources"]
    policies = {name: r for name, r in resources.items() if r["Type"] == "AWS::IAM::ManagedPolicy"}
    starters = []
    for name, resource in resources.items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        properties = resource["Properties"]
        if "Role" in properties:
            properties = resources[properties["Role"]["Fn::GetAtt"][0]]["Properties"]
        statements = _inline(properties)
        for policy in [*properties.get("Policies", []), *properties.get("ManagedPolicyArns", [])]:
            if held := policies.get(policy.get("Ref")):
                statements += held["Properties"]["PolicyDocument"]["Statement"]
        allowed = _allowed(statements)
        if allowed & {"ec2:RunInstances", "ec2:StartInstances"}:
            starters.append(name)
            assert {"kms:CreateGrant", "kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext"} <= allowed, name
    assert len(starters) == 4, starters


def _inline(properties):
    """Returns the statements of a function's or a role's own policies."""
    documents = [policy.get("PolicyDocument", policy) for policy in properties.get("Policies", [])]
    return [statement for document in documents for statement in document.get("Statement", [])]


def _allowed(statements):
    kinds = ("ec2:", "kms:", "autoscaling:", "elasticloadbalancing:", "iam:", "eks:", "secretsmanager:", "ssm:")
    found = set()
    for statement in statements:
        if statement.get("Effect") == "Allow":
            actions = statement["Action"]
            found |= {actions} if isinstance(actions, str) else set(actions)
    return {action for action in found if action.startswith(kinds)}
