"""The decision table: the functions that may do an action, and on which resources. No other role may.

Each row asks one thing (action, resource, condition keys) and names the functions that may; every other role of the stack
may not. A function's session in another account may do what the function may in its own. The policies are rendered from the
templates and judged by the evaluator of local AWS, without a deployment.

The calls that a function makes need no row to be allowed: local AWS enforces the deployed policies in every end-to-end test.
"""

import re
from functools import cache

import pytest

from decisions import (
    AT_HOME,
    AT_HOME_ALONE,
    CLUSTER,
    ENFORCER,
    EVERYWHERE,
    FUNCTIONS,
    QUEUE,
    RISK,
    ROLE,
    SESSIONS,
    SWAPS,
    TO_EC2,
    WATCHER,
    table,
)  # fmt: skip
from local_aws.paths import ACCOUNT, REGION, ROOT
from principals import Filled, as_list, roles_of, trusts
from questions import questions
from test_template import KINDS, MEMBER, account_role, stack

OTHER = "666666666666"
EXTERNAL_ID = "secret"


@cache
def functions_at_home(kind="standalone"):
    roles = roles_of(stack(kind))
    return {name: roles[f"{name}FunctionRole"] for name in FUNCTIONS}


@cache
def other_roles(kind="standalone"):
    """Returns the roles of state machines, schedules, the hub and its members."""
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
    for kind in KINDS:
        wanted = [*row[4], *MORE_IN.get((kind, said(row)), [])]
        found = [name for name, role in functions_at_home(kind).items() if role.may(*asked)]
        assert found == sorted(wanted, key=FUNCTIONS.index), kind
        others = {name for name, role in other_roles(kind).items() if role.may(*asked)}
        assert others <= EXPECTED_OF_OTHERS.get(asked[:2], set()), kind


# A member's risk manager reports.
MORE_IN = {("member", "events:PutEvents: reports"): [RISK]}
# State machines invoke their own function (that of the responder has nodes evacuated, too), members ask the hub, schedules deliver what failed.
EXPECTED_OF_OTHERS = {
    (
        "lambda:InvokeFunction",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:ClusterOptimizerFunction",
    ): {"ClusterSwapStateMachineRole"},
    (
        "lambda:InvokeFunction",
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:KubernetesOptimizerFunction",
    ): {"NodeSwapStateMachineRole", "InterruptionResponseStateMachineRole"},
    (
        "states:StartExecution",
        f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:ClusterSwapStateMachine",
    ): {"ClusterSwapStateMachineRole"},
    ("dynamodb:BatchGetItem", table("SpotPoolRisk")): {"HubReaderRole"},
    ("sqs:SendMessage", QUEUE): {
        "RiskManagerFunctionCleanUpRole",
        "RiskManagerFunctionMeasureRole",
        "ReconcilerFunctionSweepRole",
        "GroupWatcherFunctionSweepRole",
        "SecurityEnforcerFunctionAuditRole",
        "WasteScannerFunctionDailyRole",
    },
}


def test_the_machine_that_answers_interruptions_invokes_the_responder_and_who_evacuates_nodes():
    role = other_roles()["InterruptionResponseStateMachineRole"]
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}Function"
    invoked = {name for name in FUNCTIONS if role.may("lambda:InvokeFunction", function.format(name))}
    assert invoked == {"InterruptionResponder", "KubernetesOptimizer"}


@pytest.mark.parametrize("row", EVERYWHERE, ids=said)
def test_in_another_account_a_session_may_what_its_function_may_at_home(row):
    asked = in_account(row, OTHER)
    found = [name for name, session in SESSIONS.items() if role_abroad().as_session(session).may(*asked)]
    assert sorted(found, key=FUNCTIONS.index) == sorted(row[4], key=FUNCTIONS.index)


@pytest.mark.parametrize("row", AT_HOME, ids=said)
def test_in_another_account_nobody_has_what_only_the_stack_holds(row):
    for session in SESSIONS.values():
        assert not role_abroad().as_session(session).may(*in_account(row, ACCOUNT)), session


def test_every_function_has_a_session_name_of_its_own():
    assert len(set(SESSIONS.values())) == len(FUNCTIONS)


@cache
def asked_of_both():
    """Returns every request that a statement of either template distinguishes: (action, resource, condition keys)."""
    at_home = [statement for role in functions_at_home().values() for statement in role.statements()]
    return questions([*at_home, *role_abroad().statements()], {ACCOUNT, OTHER})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_in_another_account_what_it_may_at_home_and_no_more(name):
    """The requests come from the statements: a grant in one template fails here until the other agrees."""
    home, there = functions_at_home()[name], role_abroad().as_session(SESSIONS[name])
    more, less = set(), set()
    for row in asked_of_both():
        abroad, own = there.may(*in_account(row, OTHER)), home.may(*in_account(row, ACCOUNT))
        if abroad != own:
            (more if abroad else less).add((row[1], row[2], str(row[3])))
    assert more == set()
    assert {one for one in less if not {one[0], one[0].split(":")[0]} & set(AT_HOME_ALONE)} == set()


def test_every_exception_of_home_is_one():
    granted = {action for role in functions_at_home().values() for action in role.allowed_actions()}
    assert set(AT_HOME_ALONE) <= granted | {action.split(":")[0] for action in granted}
    assert not [a for a in role_abroad().allowed_actions() if {a, a.split(":")[0]} & set(AT_HOME_ALONE)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_action_of_the_role_abroad_is_the_functions_own_or_denied_to_its_session(name):
    """Beyond the rows: an action that a new statement brings can't be forgotten."""
    rows = {row[1] for row in EVERYWHERE}
    assert role_abroad().allowed_actions() - rows <= {"kms:DescribeKey", "kms:ReEncryptFrom"}, "a row is missing"
    assert functions_at_home()[name].allowed_actions() - rows - {row[1] for row in AT_HOME} <= {
        "kms:DescribeKey", "kms:ReEncryptFrom", "sns:GetTopicAttributes", "dynamodb:Query",
        "dynamodb:BatchWriteItem",
    }, "a row is missing"  # fmt: skip


@pytest.mark.parametrize("row", [r for r in EVERYWHERE if "{account}" in r[2] and not r[1].startswith(("kms:", "ssm:"))], ids=said)
def test_no_function_reaches_into_another_account_but_through_its_role(row):
    shared = re.search(r":(subnet|placement-group|security-group)/", row[2])
    if not shared:
        assert [name for name, role in functions_at_home().items() if role.may(*in_account(row, OTHER))] == []


@pytest.mark.parametrize("where", ["at home", "in another account"])
def test_the_audit_reads_attributes_of_what_it_might_terminate_alone(where):
    """User data is one of the attributes, and EC2 has no condition key for the attribute. The requests come from every
    statement on terminations.
    """
    role = functions_at_home()[ENFORCER] if where == "at home" else role_abroad().as_session(SESSIONS[ENFORCER])
    asked = [in_account(row, role.account) for row in asked_of_both() if row[1] == "ec2:TerminateInstances"]
    marked = {key for _, _, keys in asked for key in keys}
    assert len(marked) >= 28
    differing = [keys for action, arn, keys in asked if role.may(action, arn, keys) != role.may("ec2:DescribeInstanceAttribute", arn, keys)]
    assert differing == []


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_the_hub_and_nobody_else_knows_where_it_is(kind):
    """The hub's role asks for the external id: no environment without a use for it has it."""
    reader = MEMBER["HubReaderRoleArn"]
    askers = {name for name, role in functions_at_home("member").items() if role.may("sts:AssumeRole", reader, {"sts:ExternalId": "herd"})}
    assert askers == {*SWAPS, WATCHER}
    for name in FUNCTIONS:
        variables = stack(kind).of_type("AWS::Lambda::Function")[f"{name}Function"]["Environment"]["Variables"]
        hub = {variable for variable in variables if variable.startswith("HUB_")}
        assert hub == ({"HUB_EXTERNAL_ID", "HUB_POOL_RISK_TABLE", "HUB_READER_ROLE_ARN", "HUB_REGION"} if name in askers else set()), name
        assert ("STACK_ROLE" in variables) is (name in {*askers, RISK}), name


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
    named = set(
        re.findall(
            r'"((?:autoscaling|dynamodb|ec2|eks|elasticloadbalancing|events|pricing|secretsmanager|sns|states|sts):[A-Z][A-Za-z]+)"', rust()
        )
    )
    assert len(named) > 40
    assert named - granted(account_role(), *map(stack, KINDS)) - TRANSACTIONS == set()
