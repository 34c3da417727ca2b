"""The decision table: which function may do what, where, and nobody else.

Each row asks one thing (action, resource, condition keys) and names the functions that may; every other role of the stack may
not. A function's session in another account may do what the function may at home. The policies are rendered from the templates
and judged by the evaluator of local AWS, without a deployment.

That a function is granted every call that it makes needs no row: local AWS enforces the deployed policies in every
end-to-end test.
"""

import re
from functools import cache

import pytest
from local_aws.paths import ACCOUNT, REGION, ROOT
from principals import Filled, as_list, roles_of, trusts
from test_template import KINDS, account_role, stack

OTHER = "666666666666"
EXTERNAL_ID = "secret"

CLUSTER, NODE, LAB = "ClusterOptimizer", "KubernetesOptimizer", "LabOptimizer"
RECONCILER, RISK, ENFORCER, SCANNER = "Reconciler", "RiskManager", "SecurityEnforcer", "WasteScanner"
FUNCTIONS = [CLUSTER, NODE, LAB, RECONCILER, RISK, ENFORCER, SCANNER]
# How each function names its sessions in another account.
SESSIONS = {
    CLUSTER: "spot-optimizer-run-1a2b", NODE: "spot-optimizer-node-1a2b", LAB: "spot-optimizer-lab-1a2b",
    RECONCILER: "spot-optimizer-recovery-1a2b", RISK: "spot-optimizer-scheduled", ENFORCER: "spot-optimizer-scheduled",
    SCANNER: "spot-optimizer-scheduled",
}  # fmt: skip

LAUNCHERS = [CLUSTER, NODE, LAB]
SWAPS = [*LAUNCHERS, RECONCILER]
GROUPS = [CLUSTER, NODE, RECONCILER]
NOBODY = []

INSTANCE = "arn:aws:ec2:eu-west-1:{account}:instance/i-0a"
GROUP = "arn:aws:autoscaling:eu-west-1:{account}:autoScalingGroup:1f0e:autoScalingGroupName/web"
ROLE = "arn:aws:iam::{account}:role/"
IMAGE, SNAPSHOT = "arn:aws:ec2:eu-west-1::image/ami-0a", "arn:aws:ec2:eu-west-1::snapshot/snap-0a"
SECRET = "arn:aws:secretsmanager:eu-west-1:{account}:secret:"
KEY = "arn:aws:kms:eu-west-1:{account}:key/1a2b"


def table(name):
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}Table"


def tagged(*keys, **tags):
    return {**{f"aws:ResourceTag/{key}": "x" for key in keys}, **{f"aws:ResourceTag/{k}": v for k, v in tags.items()}}


def requested(**tags):
    return {f"aws:RequestTag/{k}": v for k, v in tags.items()} | {"aws:TagKeys": list(tags)}


OURS = tagged("spot-optimizer:swap", ManagedBy="SpotOptimizer")
SPOT = {"ec2:InstanceMarketType": "spot"}
MARK = requested(ManagedBy="SpotOptimizer")
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
VIA_EC2 = {"kms:ViaService": "ec2.eu-west-1.amazonaws.com"}
MEMBER = "aws:autoscaling:groupName"
# Auto Scaling launches through EC2 Fleet: a member bears its tag, and keeps it when it is detached.
FLEET = "aws:ec2:fleet-id"
# Only AWS can set these, and nothing that a swap launches or retires bears one.
RESERVED = ["aws:ec2spot:fleet-request-id", "aws:elasticmapreduce:job-flow-id", "aws:cloud9:environment"]


def of_secret(name):
    arn = f"arn:aws:secretsmanager:eu-west-1:{{account}}:secret:{name}"
    return {"kms:ViaService": "secretsmanager.eu-west-1.amazonaws.com", "kms:EncryptionContext:SecretARN": arn}


# (what is asked, action, resource, condition keys, who may), the same in every account.
EVERYWHERE = [
    # Terminate.
    ("an instance without a mark", "ec2:TerminateInstances", INSTANCE, {}, [*SWAPS, ENFORCER]),
    ("a newcomer", "ec2:TerminateInstances", INSTANCE, OURS, SWAPS),
    ("a member of a group", "ec2:TerminateInstances", INSTANCE, tagged(MEMBER), GROUPS),
    ("a former member of a group", "ec2:TerminateInstances", INSTANCE, tagged(FLEET), GROUPS),
    ("an EKS node", "ec2:TerminateInstances", INSTANCE, tagged("aws:eks:cluster-name"), GROUPS),
    ("a node by its owner's tag", "ec2:TerminateInstances", INSTANCE, tagged("eks:cluster-name"), GROUPS),
    *[(key, "ec2:TerminateInstances", INSTANCE, tagged(key), NOBODY) for key in RESERVED],
    *[(f"a member with {key}", "ec2:TerminateInstances", INSTANCE, tagged(MEMBER, key), NOBODY) for key in RESERVED],
    # Start and stop.
    ("a stand-alone instance", "ec2:StopInstances", INSTANCE, {}, [LAB, RECONCILER]),
    ("a stand-alone instance", "ec2:StartInstances", INSTANCE, {}, [LAB, RECONCILER]),
    *[
        (f"an instance with {key}", action, INSTANCE, tagged(key), NOBODY)
        for action in ("ec2:StopInstances", "ec2:StartInstances")
        for key in [MEMBER, FLEET, "aws:eks:cluster-name", "eks:cluster-name", *RESERVED]
    ],
    ("an instance's attributes", "ec2:ModifyInstanceAttribute", INSTANCE, {}, NOBODY),
    # Groups.
    ("MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {"autoscaling:MaxSize": "5"}, GROUPS),
    *[
        (f"{key} beside MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {"autoscaling:MaxSize": "5", f"autoscaling:{key}": value}, NOBODY)
        for key, value in {
            "MinSize": "0", "LaunchConfigurationName": "mine", "LaunchTemplateVersionSpecified": "true",
            "VPCZoneIdentifiers": ["subnet-0a"], "InstanceTypes": ["m5.large"],
        }.items()
    ],
    ("anything but MaxSize", "autoscaling:UpdateAutoScalingGroup", GROUP, {}, NOBODY),
    *[
        ("members of a group", f"autoscaling:{action}", GROUP, {}, GROUPS)
        for action in ("AttachInstances", "DetachInstances", "ResumeProcesses", "TerminateInstanceInAutoScalingGroup")
    ],
    ("a process", "autoscaling:SuspendProcesses", GROUP, {}, [CLUSTER, NODE]),
    *[
        ("a group", f"autoscaling:{action}", GROUP, {}, NOBODY)
        for action in ("CreateAutoScalingGroup", "DeleteAutoScalingGroup", "SetDesiredCapacity", "SetInstanceProtection")
    ],
    # Launch.
    ("Spot with our mark", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**SPOT, **MARK}, LAUNCHERS),
    ("Spot without it", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", SPOT, NOBODY),
    ("On-Demand", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:instance/*", {"ec2:InstanceMarketType": "on-demand", **MARK}, NOBODY),
    ("a subnet", "ec2:RunInstances", "arn:aws:ec2:eu-west-1:{account}:subnet/subnet-0a", {}, LAUNCHERS),
    ("a fleet", "ec2:CreateFleet", "arn:aws:ec2:eu-west-1:{account}:fleet/*", {}, NOBODY),
    ("a template", "ec2:CreateLaunchTemplateVersion", "arn:aws:ec2:eu-west-1:{account}:launch-template/lt-0a", {}, NOBODY),
    ("a role to EC2", "iam:PassRole", ROLE + "app", TO_EC2, LAUNCHERS),
    ("a role to Lambda", "iam:PassRole", ROLE + "app", {"iam:PassedToService": "lambda.amazonaws.com"}, NOBODY),
    ("a role to anybody", "iam:PassRole", ROLE + "app", {}, NOBODY),
    ("Spot's service-linked role", "iam:CreateServiceLinkedRole", ROLE + "aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot", {"iam:AWSServiceName": "spot.amazonaws.com"}, LAUNCHERS),
    ("another service-linked role", "iam:CreateServiceLinkedRole", ROLE + "aws-service-role/ops.amazonaws.com/AWSServiceRoleForOps", {"iam:AWSServiceName": "ops.amazonaws.com"}, NOBODY),
    ("an image's parameter", "ssm:GetParameters", "arn:aws:ssm:eu-west-1::parameter/aws/service/ami", {}, LAUNCHERS),
    *[("IAM", f"iam:{action}", ROLE + "app", {}, NOBODY) for action in ("CreateRole", "AttachRolePolicy", "PutRolePolicy", "UpdateAssumeRolePolicy")],
    # Tags.
    ("at a launch", "ec2:CreateTags", "arn:aws:ec2:eu-west-1:{account}:instance/*", {**MARK, "ec2:CreateAction": "RunInstances"}, LAUNCHERS),
    ("our mark, on our newcomer", "ec2:CreateTags", INSTANCE, {**MARK, **tagged("spot-optimizer:swap")}, [CLUSTER, NODE]),
    ("our mark, on another instance", "ec2:CreateTags", INSTANCE, MARK, NOBODY),
    ("another tag, on our newcomer", "ec2:CreateTags", INSTANCE, {**requested(team="web"), **tagged("spot-optimizer:swap")}, NOBODY),
    ("a tag", "ec2:DeleteTags", INSTANCE, OURS, NOBODY),
    # Disks.
    ("of an instance", "ec2:CreateImage", INSTANCE, {}, [LAB]),
    *[("with our mark", "ec2:CreateImage", resource, MARK, [LAB]) for resource in (IMAGE, SNAPSHOT)],
    *[("without our mark", "ec2:CreateImage", resource, {}, NOBODY) for resource in (IMAGE, SNAPSHOT)],
    *[
        (what, action, resource, tags, who)
        for action, resource in (
            ("ec2:DeregisterImage", IMAGE), ("ec2:DeleteSnapshot", SNAPSHOT),
            ("ec2:DeleteVolume", "arn:aws:ec2:eu-west-1:{account}:volume/vol-0a"),
        )
        for what, tags, who in (
            ("of ours", OURS, [LAB, RECONCILER]), ("of others", {}, NOBODY),
            ("without a swap", tagged(ManagedBy="SpotOptimizer"), NOBODY),
        )
    ],
    # What a lab swap moves.
    ("an address", "ec2:AssociateAddress", "arn:aws:ec2:eu-west-1:{account}:elastic-ip/eipalloc-0a", {}, [LAB, RECONCILER]),
    ("an address", "ec2:ReleaseAddress", "arn:aws:ec2:eu-west-1:{account}:elastic-ip/eipalloc-0a", {}, NOBODY),
    *[
        ("targets", f"elasticloadbalancing:{action}", "arn:aws:elasticloadbalancing:eu-west-1:{account}:targetgroup/web/1a2b", {}, [LAB, RECONCILER])
        for action in ("DeregisterTargets", "RegisterTargets")
    ],
    # Keys.
    *[("through EC2", f"kms:{action}", KEY, VIA_EC2, SWAPS) for action in ("Decrypt", "GenerateDataKeyWithoutPlaintext", "ReEncryptTo")],
    ("directly", "kms:Decrypt", KEY, {}, NOBODY),
    ("through another service", "kms:Decrypt", KEY, {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}, NOBODY),
    ("to an AWS resource", "kms:CreateGrant", KEY, {**VIA_EC2, "kms:GrantIsForAWSResource": "true"}, SWAPS),
    ("to anybody", "kms:CreateGrant", KEY, {**VIA_EC2, "kms:GrantIsForAWSResource": "false"}, NOBODY),
    ("of a kubeconfig", "kms:Decrypt", KEY, of_secret("spot-optimizer/prod"), [NODE, RECONCILER]),
    ("of another secret", "kms:Decrypt", KEY, of_secret("prod/database"), NOBODY),
    # Clusters.
    ("a cluster", "eks:DescribeCluster", "arn:aws:eks:eu-west-1:{account}:cluster/prod", {}, [NODE, RECONCILER]),
    ("a kubeconfig", "secretsmanager:GetSecretValue", SECRET + "spot-optimizer/prod-1a2b", {}, [NODE, RECONCILER]),
    ("another secret", "secretsmanager:GetSecretValue", SECRET + "prod/database-1a2b", {}, NOBODY),
    # User data can be read by it, and EC2 has no key for which attribute is asked.
    ("of any instance", "ec2:DescribeInstanceAttribute", INSTANCE, {}, [*SWAPS, ENFORCER]),
    *[
        (f"of an instance with {key}", "ec2:DescribeInstanceAttribute", INSTANCE, tagged(key), SWAPS)
        for key in [MEMBER, FLEET, "aws:eks:cluster-name", "eks:cluster-name"]
    ],
    # Look.
    *[
        ("look", action, "*", {}, who)
        for action, who in {
            "autoscaling:DescribeAutoScalingGroups": GROUPS,
            "autoscaling:DescribeInstanceRefreshes": LAUNCHERS,
            "autoscaling:DescribeLaunchConfigurations": LAUNCHERS,
            "autoscaling:DescribeLifecycleHooks": LAUNCHERS,
            "autoscaling:DescribeScheduledActions": LAUNCHERS,
            "ec2:DescribeAddresses": [LAB, RECONCILER, SCANNER],
            "ec2:DescribeAvailabilityZones": [*LAUNCHERS, RISK],
            "ec2:DescribeImages": [*SWAPS, SCANNER],
            "ec2:DescribeInstances": [*SWAPS, RISK, ENFORCER],
            "ec2:DescribeInstanceCreditSpecifications": [LAB, RECONCILER],
            "ec2:DescribeInstanceStatus": LAUNCHERS,
            "ec2:DescribeInstanceTypes": [LAB, RECONCILER],
            "ec2:DescribeLaunchTemplateVersions": LAUNCHERS,
            "ec2:DescribeSnapshots": [LAB, RECONCILER, SCANNER],
            "ec2:DescribeSpotInstanceRequests": LAUNCHERS,
            "ec2:DescribeSpotPriceHistory": LAUNCHERS,
            "ec2:DescribeSubnets": LAUNCHERS,
            "ec2:DescribeVolumes": [LAB, RECONCILER, SCANNER],
            "elasticloadbalancing:DescribeTargetGroups": SWAPS,
            "elasticloadbalancing:DescribeTargetHealth": SWAPS,
            "ec2:GetConsoleOutput": NOBODY,
            "ec2:GetPasswordData": NOBODY,
        }.items()
    ],
]  # fmt: skip

ADMIN = "arn:aws:iam::666666666666:role/OrganizationAdmin"
THERE = "arn:aws:iam::666666666666:role/SpotOptimizer"

# What only the stack's own account holds.
AT_HOME = [
    *[
        (name, f"dynamodb:{action}", table(name), {}, NOBODY)
        for name in ("Accounts", "Settings")
        for action in ("BatchWriteItem", "DeleteItem", "PutItem", "UpdateItem")
    ],
    *[
        (name, f"dynamodb:{action}", table(name), {}, NOBODY)
        for name in ("Swaps", "InstanceAuth", "SpotPoolRisk", "Sightings", "WasteResource")
        for action in ("DeleteItem", "DeleteTable", "UpdateTable", "PutResourcePolicy")
    ],
    ("a lease", "dynamodb:UpdateItem", table("Swaps"), {}, SWAPS),
    ("a whole row", "dynamodb:PutItem", table("Swaps"), {}, NOBODY),
    ("the leases", "dynamodb:Scan", table("Swaps"), {}, [RECONCILER, ENFORCER]),
    ("a verdict", "dynamodb:UpdateItem", table("InstanceAuth"), {}, [ENFORCER]),
    ("a pool", "dynamodb:UpdateItem", table("SpotPoolRisk"), {}, [RISK]),
    ("the gate", "dynamodb:BatchGetItem", table("SpotPoolRisk"), {}, LAUNCHERS),
    ("a sighting", "dynamodb:UpdateItem", table("Sightings"), {}, [RISK]),
    ("a finding", "dynamodb:PutItem", table("WasteResource"), {}, [SCANNER]),
    ("the registry", "dynamodb:GetItem", table("Accounts"), {}, FUNCTIONS),
    ("the settings", "dynamodb:BatchGetItem", table("Settings"), {}, FUNCTIONS),
    ("an optimizer", "lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:spot-optimizer-ClusterOptimizerFunction-1ABC2DEF3GHI", {}, NOBODY),
    ("its code", "lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:spot-optimizer-ClusterOptimizerFunction-1ABC2DEF3GHI", {}, NOBODY),
    ("an execution", "states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:ClusterSwapStateMachine", {}, NOBODY),
    ("an execution", "states:DescribeExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:ClusterSwapStateMachine:1a2b", {}, [RECONCILER]),
    ("an execution of others", "states:DescribeExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:payments:1a2b", {}, NOBODY),
    ("the alerts", "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:AlertsTopic", {}, [RISK, ENFORCER, SCANNER]),
    ("another topic", "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:payments", {}, NOBODY),
    ("our events", "events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", {"events:source": "spot-optimizer"}, [ENFORCER, SCANNER]),
    ("events of others", "events:PutEvents", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default", {"events:source": "payments"}, NOBODY),
    ("prices", "pricing:GetProducts", "*", {}, [*LAUNCHERS, SCANNER]),
    ("offers", "ec2:DescribeInstanceTypeOfferings", "*", {}, [RISK]),
    *[
        (f"in another account, as {session}", "sts:AssumeRole", THERE, {"sts:RoleSessionName": session}, [f for f in FUNCTIONS if SESSIONS[f] == session])
        for session in [*dict.fromkeys(SESSIONS.values()), "spot-optimizer-other-1a2b", "spot-optimizer-scheduled-2"]
    ],
    *[("another role", "sts:AssumeRole", ADMIN, {"sts:RoleSessionName": session}, NOBODY) for session in SESSIONS.values()],
]  # fmt: skip

# One session name is shared by the three scheduled functions, so there each may do what the audit may.
SHARED = {
    "ec2:TerminateInstances": "what no owner answers for: the Deny statements of both templates hold for it",
    "ec2:DescribeInstanceAttribute": "of what the audit may terminate",
}


@cache
def functions_at_home(kind="standalone"):
    roles = roles_of(stack(kind))
    return {name: roles[f"{name}FunctionRole"] for name in FUNCTIONS}


@cache
def other_roles(kind="standalone"):
    """The roles of state machines, schedules, the hub and its members."""
    functions = {f"{name}FunctionRole" for name in FUNCTIONS}
    return {name: role for name, role in roles_of(stack(kind)).items() if name not in functions}


@cache
def role_abroad():
    (role,) = roles_of(account_role(StackAccountId=ACCOUNT, RoleName="SpotOptimizer"), OTHER).values()
    return role


def in_account(row, account):
    _, action, resource, keys, _ = row
    fill = lambda value: value.replace("{account}", account) if isinstance(value, str) else value  # noqa: E731
    return action, fill(resource), {k: fill(v) for k, v in keys.items()}


def said(row):
    return f"{row[1]}: {row[0]}"


@pytest.mark.parametrize("row", [*EVERYWHERE, *AT_HOME], ids=said)
def test_at_home_these_functions_may_and_no_other_role(row):
    asked = in_account(row, ACCOUNT)
    assert [name for name, role in functions_at_home().items() if role.may(*asked)] == sorted(row[4], key=FUNCTIONS.index)
    for kind in KINDS:
        others = {name for name, role in other_roles(kind).items() if role.may(*asked)}
        assert others <= EXPECTED_OF_OTHERS.get(asked[:2], set()), kind


# State machines invoke their own function.
EXPECTED_OF_OTHERS = {
    (
        "lambda:InvokeFunction",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:spot-optimizer-ClusterOptimizerFunction-1ABC2DEF3GHI",
    ): {"ClusterSwapStateMachineRole"},
    ("dynamodb:BatchGetItem", table("SpotPoolRisk")): {"HubReaderRole"},
}


@pytest.mark.parametrize("row", EVERYWHERE, ids=said)
def test_in_another_account_a_session_may_what_its_function_may_at_home(row):
    asked = in_account(row, OTHER)
    for session in dict.fromkeys(SESSIONS.values()):
        allowed = role_abroad().as_session(session).may(*asked)
        assert allowed is any(SESSIONS[name] == session for name in row[4]), session


@pytest.mark.parametrize("row", AT_HOME, ids=said)
def test_in_another_account_nobody_has_what_only_the_stack_holds(row):
    for session in dict.fromkeys(SESSIONS.values()):
        assert not role_abroad().as_session(session).may(*in_account(row, ACCOUNT)), session


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_can_do_in_another_account_what_it_cannot_do_at_home(name):
    home, there = functions_at_home()[name], role_abroad().as_session(SESSIONS[name])
    more = {row[1] for row in EVERYWHERE if there.may(*in_account(row, OTHER)) and not home.may(*in_account(row, ACCOUNT))}
    if SESSIONS[name] == "spot-optimizer-scheduled":
        looks = {action for action in more if action.startswith("ec2:Describe")}
        more -= looks | set(SHARED)
    assert more == set()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_action_of_the_role_abroad_is_the_functions_own_or_denied_to_its_session(name):
    """Beyond the rows: an action that a new statement brings can't be forgotten."""
    rows = {row[1] for row in EVERYWHERE}
    assert role_abroad().allowed_actions() - rows <= {"kms:DescribeKey", "kms:ReEncryptFrom"}, "a row is missing"
    assert functions_at_home()[name].allowed_actions() - rows - {row[1] for row in AT_HOME} <= {
        "kms:DescribeKey", "kms:ReEncryptFrom", "sqs:SendMessage", "sns:GetTopicAttributes", "dynamodb:Query",
        "dynamodb:BatchWriteItem",
    }, "a row is missing"  # fmt: skip


@pytest.mark.parametrize("row", [r for r in EVERYWHERE if "{account}" in r[2] and not r[1].startswith(("kms:", "ssm:"))], ids=said)
def test_no_function_reaches_into_another_account_but_through_its_role(row):
    shared = re.search(r":(subnet|placement-group|security-group)/", row[2])
    if not shared:
        assert [name for name, role in functions_at_home().items() if role.may(*in_account(row, OTHER))] == []


# ---------------------------------------------------------------- trust


def assumed_by(caller, session="spot-optimizer-run-1a2b", external_id=EXTERNAL_ID):
    rendered = account_role(StackAccountId=ACCOUNT)
    (role,) = rendered.of_type("AWS::IAM::Role").values()
    keys = {"sts:RoleSessionName": session, "sts:ExternalId": external_id}
    return trusts(role, Filled(rendered, OTHER), caller, keys)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_role_abroad_trusts_every_function_of_the_stack(name):
    arn = functions_at_home()[name].arn
    assert assumed_by(arn, SESSIONS[name])
    assert not assumed_by(arn, SESSIONS[name], external_id="guessed")
    assert not assumed_by(arn, "somebody") and not assumed_by(arn, "spot-optimizer-other-1")


@pytest.mark.parametrize(
    "caller",
    [
        f"arn:aws:iam::{ACCOUNT}:root",
        f"arn:aws:iam::{ACCOUNT}:user/admin",
        f"arn:aws:iam::{ACCOUNT}:role/PowerUser",
        f"arn:aws:iam::{ACCOUNT}:role/spot-optimizer-ClusterSwapStateMachineRole-1ABC2DEF3GHI",
        f"arn:aws:iam::{ACCOUNT}:role/spot-optimizer-RiskManagerFunctionCleanUpRole-1ABC2DEF3GHI",
        f"arn:aws:iam::{ACCOUNT}:role/payments-ApiFunctionRole-1ABC2DEF3GHI",
        "arn:aws:iam::777777777777:role/spot-optimizer-ReconcilerFunctionRole-1ABC2DEF3GHI",
    ],
)
def test_the_role_abroad_trusts_nobody_else(caller):
    assert not any(assumed_by(caller, session) for session in SESSIONS.values())


def test_a_stack_of_another_name_is_trusted_by_parameter():
    rendered = account_role(StackAccountId=ACCOUNT, StackFunctionRoles="herd-*FunctionRole-*")
    (role,) = rendered.of_type("AWS::IAM::Role").values()
    keys = {"sts:RoleSessionName": "spot-optimizer-run-1", "sts:ExternalId": EXTERNAL_ID}
    named = lambda stack: f"arn:aws:iam::{ACCOUNT}:role/{stack}-ReconcilerFunctionRole-1ABC2DEF3GHI"  # noqa: E731
    assert trusts(role, Filled(rendered, OTHER), named("herd"), keys)
    assert not trusts(role, Filled(rendered, OTHER), named("spot-optimizer"), keys)


# ---------------------------------------------------------------- parameters that narrow


@pytest.mark.parametrize("where", ["at home", "in another account"])
def test_a_launch_passes_roles_of_the_parameter_alone(where):
    narrowed = {"InstanceProfileRolePath": "web/*"}
    if where == "at home":
        account, role = ACCOUNT, roles_of(stack(**narrowed))["ClusterOptimizerFunctionRole"]
    else:
        account, role = OTHER, roles_of(account_role(**narrowed), OTHER)["Role"].as_session(SESSIONS[CLUSTER])
    assert role.may("iam:PassRole", ROLE.format(account=account) + "web/app", TO_EC2)
    assert not role.may("iam:PassRole", ROLE.format(account=account) + "OrganizationAdmin", TO_EC2)


# ---------------------------------------------------------------- every grant

READS = re.compile(r"\w+:(Describe|Get|List|BatchGet|Query|Scan)")
# Changing actions on every resource without a condition, each with the reason why it can't be narrower.
ON_EVERYTHING = {
    f"logs:{action}LogDelivery": "Step Functions delivers logs by rights that know no resource, in the state machine's name"
    for action in ("Create", "Delete", "Update")
} | {"logs:PutResourcePolicy": "as above: it lets the delivery write into the log group"}


@pytest.mark.parametrize("kind", [*KINDS, "another account"])
def test_no_changing_action_is_allowed_on_everything_without_a_condition(kind):
    roles = roles_of(account_role(), OTHER) if kind == "another account" else roles_of(stack(kind))
    found = set()
    for role in roles.values():
        for statement in role.statements():
            if statement["Effect"] == "Allow" and "*" in as_list(statement["Resource"]) and "Condition" not in statement:
                changing = {a for a in as_list(statement["Action"]) if not READS.match(a)}
                assert not changing or "StateMachine" in role.name, role.name
                found |= changing
    assert found == (set() if kind == "another account" else set(ON_EVERYTHING))


def test_no_policy_names_actions_by_wildcard():
    for rendered in (account_role(), *map(stack, KINDS)):
        for role in roles_of(rendered).values():
            assert not [a for a in role.allowed_actions() if "*" in a], role.name


# Granted, and called by no code of ours, each with the caller.
NOT_CALLED = {
    "iam:PassRole": "EC2 asks for it when an instance is launched with a profile",
    "iam:CreateServiceLinkedRole": "EC2 asks for it at an account's first Spot launch",
    "kms:CreateGrant": "EC2 asks for it when an instance with encrypted volumes is launched or started",
    "kms:Decrypt": "EC2, Secrets Manager and DynamoDB use the customer's key in the caller's name",
    "kms:DescribeKey": "EC2, as above",
    "kms:GenerateDataKeyWithoutPlaintext": "EC2, as above",
    "kms:ReEncryptFrom": "EC2, as above",
    "kms:ReEncryptTo": "EC2, as above",
    "lambda:InvokeFunction": "state machines and schedules call it",
    "logs:CreateLogDelivery": "Step Functions calls it in the state machine's name, and the next seven",
    "logs:DeleteLogDelivery": "as above",
    "logs:DescribeLogGroups": "as above",
    "logs:DescribeResourcePolicies": "as above",
    "logs:GetLogDelivery": "as above",
    "logs:ListLogDeliveries": "as above",
    "logs:PutResourcePolicy": "as above",
    "logs:UpdateLogDelivery": "as above",
    "sqs:SendMessage": "Lambda and EventBridge Scheduler deliver what failed in the role's name",
    "sts:AssumeRole": "the SDK's provider of credentials calls it",
    "ssm:GetParameters": "EC2 reads the image of a launch that names it by parameter",
}
# Authorised as the actions of its items.
TRANSACTIONS = {"dynamodb:TransactWriteItems"}


@cache
def rust():
    files = [p for top in ("shared", "functions") for p in (ROOT / top).glob("**/src/**/*.rs") if "test" not in p.stem]
    return "\n".join(path.read_text() for path in files)


def operation(action):
    """`ec2:RunInstances` → `run_instances`, the method of the SDK's client."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", action.split(":")[1]).lower()


def granted(*rendered):
    return {action for one in rendered for role in roles_of(one).values() for action in role.allowed_actions()}


def test_every_action_that_is_granted_is_called():
    calls = set(re.findall(r"\.\s*(\w+)\(\)", rust()))
    unused = {a for a in granted(account_role(), *map(stack, KINDS)) if operation(a) not in calls}
    assert unused == set(NOT_CALLED) & unused, unused - set(NOT_CALLED)
    assert set(NOT_CALLED) <= granted(account_role(), *map(stack, KINDS)), "an exception without a grant"


def test_every_action_that_the_code_names_is_granted():
    named = set(re.findall(r'"((?:autoscaling|dynamodb|ec2|eks|elasticloadbalancing|events|pricing|secretsmanager|sns|states|sts):[A-Z][A-Za-z]+)"', rust()))
    assert len(named) > 40
    assert named - granted(account_role(), *map(stack, KINDS)) - TRANSACTIONS == set()
