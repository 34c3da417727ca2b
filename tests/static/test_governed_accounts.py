"""The parameters for a governed account: writers of tables, key, network, limits, logs, transport."""

import json
import re
from functools import cache

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy

from decisions import RESPONDER, SWAPS
from local_aws.paths import ACCOUNT, REGION
from principals import Filled, roles_of
from rendered import translated
from test_template import KINDS, VPC, stack

KEY_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1a2b-3c4d"
KEY = {"Ref": "KmsKeyArn"}
LOGS = "AWS::Logs::LogGroup"

each_kind = pytest.mark.parametrize("kind", KINDS)


# ---------------------------------------------------------------- who writes the tables of authority

ADMINS = f"arn:aws:iam::{ACCOUNT}:role/registry-*,arn:aws:iam::{ACCOUNT}:user/ann"
WRITES = [
    f"dynamodb:{a}" for a in ("BatchWriteItem", "DeleteItem", "PartiQLDelete", "PartiQLInsert", "PartiQLUpdate", "PutItem", "UpdateItem")
]


@cache
def policies_of_tables(kind="standalone"):
    """Returns {table: its policy} as CloudFormation would make it."""
    made = stack(kind, TableAdmins=ADMINS)
    filled = Filled(made, ACCOUNT)
    found = {
        n: filled(t["ResourcePolicy"]["PolicyDocument"]) for n, t in made.of_type("AWS::DynamoDB::Table").items() if "ResourcePolicy" in t
    }
    for policy in found.values():
        (statement,) = policy["Statement"]
        admins = statement["Condition"]["ArnNotLike"]
        admins["aws:PrincipalArn"] = admins["aws:PrincipalArn"].split(",")  # As CloudFormation gives a list.
    return found


@each_kind
def test_only_table_admins_and_the_functions_that_do_write_the_tables_of_authority(kind):
    """The expectation comes from the roles: the table's policy allows each role whose own policies may write it, and no
    other principal.
    """
    assert set(policies_of_tables(kind)) == {"AccountsTable", "SettingsTable", "SwapsTable", "InstanceAuthTable"}
    writers = set()
    for table, policy in policies_of_tables(kind).items():
        arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"
        for action in WRITES:
            for principal, denied in (("role/registry-1", False), ("user/ann", False), ("role/developer", True), ("root", True)):
                assert writes(policy, action, principal) is not denied, (table, action, principal)
        for name, role in roles_of(stack(kind)).items():
            may = any(role.may(action, arn) for action in WRITES)
            assert writes(policy, "dynamodb:UpdateItem", role.arn.split(":")[5]) is may, (table, name)
            writers |= {(table, name)} if may else set()
        # Reads, and the policy itself, stay what IAM makes of them: nobody locks himself out.
        for action in ("dynamodb:GetItem", "dynamodb:DeleteResourcePolicy", "dynamodb:PutResourcePolicy", "dynamodb:UpdateTable"):
            assert writes(policy, action, "role/developer"), (table, action)
    swaps = {("SwapsTable", f"{name}FunctionRole") for name in [*SWAPS, RESPONDER]}
    assert writers == {("InstanceAuthTable", "SecurityEnforcerFunctionRole"), *swaps}


def test_a_role_of_another_stack_with_a_like_name_writes_no_swap():
    """The policy names the roles as they are, not by a pattern: CloudFormation shortens the names of a stack with a long
    name.
    """
    for role in ("spot-optimizer-ReconcilerFunctionRole-ZZZZZZZZZZZZ", "spot-optimizer-2-ReconcilerFunctionRole-1ABC2DEF3GHI"):
        assert not writes(policies_of_tables()["SwapsTable"], "dynamodb:UpdateItem", f"role/{role}")


def test_a_policy_of_a_table_is_far_below_its_quota():
    for table, policy in policies_of_tables().items():
        assert len(json.dumps(policy)) < 20_000 / 2, table  # 20 KB; ARNs may be longer than ours.


def test_no_resource_of_the_template_waits_for_itself():
    """A table's policy names roles, so that the roles' policies about it are separate. CloudFormation refuses a circular
    dependency.
    """
    resources = translated()["Resources"]
    waits_for = {name: references(resource) & set(resources) for name, resource in resources.items()}
    assert "ReconcilerFunctionRole" in waits_for["SwapsTable"]
    while free := [name for name, others in waits_for.items() if not others]:
        for name in free:
            del waits_for[name]
        waits_for = {name: others - set(free) for name, others in waits_for.items()}
    assert waits_for == {}


def test_a_function_has_all_its_rights_before_it_exists():
    """A policy that lies apart from the role comes after it. A schedule may fire as soon as its function is there."""
    resources = translated()["Resources"]
    apart = {
        (role["Ref"].removesuffix("Role"), name)
        for name, policy in resources.items()
        if policy["Type"] == "AWS::IAM::ManagedPolicy"
        for role in policy["Properties"].get("Roles", [])
    }
    assert ("ReconcilerFunction", "DeadSwapsPolicy") in apart
    # An execution goes on in another one after hours: its policy is there by then.
    for function, policy in apart - {("ClusterSwapStateMachine", "ContinuationPolicy")}:
        assert policy in references(resources[function]), f"{function} does not wait for {policy}"


def references(node):
    """Returns the logical ids that a part of a template names, under any conditions."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    named = {node["Ref"]} if "Ref" in node else set()
    if "Fn::GetAtt" in node:
        named |= {node["Fn::GetAtt"][0]}
    if "Fn::Sub" in node:
        text = node["Fn::Sub"] if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"][0]
        named |= {found.split(".")[0] for found in re.findall(r"\$\{([^}!]+)\}", text)}
    depends = node.get("DependsOn", [])
    named |= {depends} if isinstance(depends, str) else set(depends)
    return named.union(*map(references, node.values()))


def writes(policy, action, principal):
    """Returns true if the table's policy lets the principal do this; the principal's own policies allow it."""
    arn = f"arn:aws:iam::{ACCOUNT}:{principal}"
    context = EvalContext(
        principal_arn=arn, principal_type="AssumedRole", principal_account=ACCOUNT, action=action,
        resource_arn=f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/AccountsTable", region=REGION,
    )  # fmt: skip
    return evaluate_resource_policy(json.dumps(policy), context, service="").decision != "Deny"


@each_kind
def test_without_table_admins_no_table_has_a_policy(kind):
    assert not [n for n, t in stack(kind).of_type("AWS::DynamoDB::Table").items() if "ResourcePolicy" in t]


# ---------------------------------------------------------------- the customer's key


@each_kind
def test_everything_that_is_kept_is_under_the_customers_key(kind):
    keyed = stack(kind, KmsKeyArn=KEY_ARN)
    for name, table in keyed.of_type("AWS::DynamoDB::Table").items():
        assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}, name
    found = {
        "KmsMasterKeyId": [*keyed.of_type("AWS::SNS::Topic").values(), *keyed.of_type("AWS::SQS::Queue").values()],
        "KmsKeyId": keyed.of_type(LOGS).values(),
        "KmsKeyArn": keyed.of_type("AWS::Lambda::Function").values(),
    }
    for key, resources in found.items():
        assert resources and all(resource[key] == KEY for resource in resources), key
    assert all(queue["SqsManagedSseEnabled"] is False for queue in keyed.of_type("AWS::SQS::Queue").values())


@each_kind
def test_without_a_key_nothing_names_one_and_everything_is_encrypted_all_the_same(kind):
    plain = stack(kind)
    assert json.dumps(KEY) not in json.dumps(plain.resources)
    assert all(t["SSESpecification"] == {"SSEEnabled": True} for t in plain.of_type("AWS::DynamoDB::Table").values())
    assert all(queue["SqsManagedSseEnabled"] is True for queue in plain.of_type("AWS::SQS::Queue").values())


@each_kind
def test_who_reads_and_writes_may_use_the_key_and_no_other(kind):
    functions = {f"{n}Role" for n in stack(kind).of_type("AWS::Lambda::Function")}
    for name, role in roles_of(stack(kind, KmsKeyArn=KEY_ARN)).items():
        for action in ("kms:Decrypt", "kms:GenerateDataKey"):
            assert role.may(action, KEY_ARN) is (name in functions or name == "HubReaderRole"), (name, action)
            assert not role.may(action, KEY_ARN.replace("1a2b", "9f9f")), name
    assert not [name for name, role in roles_of(stack(kind)).items() if role.may("kms:Decrypt", KEY_ARN)]


# ---------------------------------------------------------------- network


def test_all_functions_are_in_the_vpc_if_asked_for():
    everything = stack(**VPC, VpcFunctions="all")
    for name, function in everything.of_type("AWS::Lambda::Function").items():
        assert function["VpcConfig"]["SubnetIds"] == {"Fn::Split": [",", {"Ref": "VpcSubnetIds"}]}, name
        role = everything.of_type("AWS::IAM::Role")[function["Role"]["Fn::GetAtt"][0]]
        assert "AWSLambdaVPCAccessExecutionRole" in json.dumps(role["ManagedPolicyArns"]), name


@each_kind
def test_no_function_may_have_network_interfaces_outside_a_vpc(kind):
    for parameters in ({}, {"VpcFunctions": "all"}):
        made = stack(kind, **parameters)
        assert "VpcConfig" not in json.dumps(made.of_type("AWS::Lambda::Function"))
        assert "AWSLambdaVPCAccessExecutionRole" not in json.dumps(made.of_type("AWS::IAM::Role"))


# ---------------------------------------------------------------- bounds

BOUNDS = {"RiskManagerFunction": 5, "SecurityEnforcerFunction": 2, "WasteScannerFunction": 2}


@pytest.mark.parametrize(
    "kind, chosen, bounded",
    [("hub", "auto", True), ("standalone", "auto", False), ("member", "auto", False), ("member", "true", True), ("hub", "false", False)],
)  # fmt: skip
def test_what_events_can_flood_is_bounded(kind, chosen, bounded):
    """The limit is not set everywhere by default: a new account's quota of ten leaves nothing to reserve, and the deployment
    would fail.
    """
    functions = stack(kind, ReserveConcurrency=chosen).of_type("AWS::Lambda::Function")
    found = {n: f["ReservedConcurrentExecutions"] for n, f in functions.items() if "ReservedConcurrentExecutions" in f}
    assert found == (BOUNDS if bounded else {})


# ---------------------------------------------------------------- logs


@each_kind
def test_state_machines_log_their_failures_without_what_they_were_given(kind):
    made = stack(kind)
    machines = made.of_type("AWS::StepFunctions::StateMachine")
    assert len(machines) == 4
    for name, machine in machines.items():
        logging = machine["LoggingConfiguration"]
        assert (logging["Level"], logging["IncludeExecutionData"]) == ("ERROR", False), name
        (destination,) = logging["Destinations"]
        group = destination["CloudWatchLogsLogGroup"]["LogGroupArn"]["Fn::GetAtt"][0]
        assert group in made.of_type(LOGS), name
        assert roles_of(made)[f"{name}Role"].may("logs:CreateLogDelivery", "*"), name


@each_kind
def test_logs_are_kept_as_long_as_the_parameter_says_and_outlive_the_stack(kind):
    groups = {n: r for n, r in stack(kind, LogRetentionDays=365).resources.items() if r["Type"] == LOGS}
    assert len(groups) == 2
    for name, group in groups.items():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, name
        assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name


# ---------------------------------------------------------------- transport


def decision(policy, action, resource, service, **keys):
    context = EvalContext(
        principal_arn="*", principal_type="Service", principal_account="", action=action, resource_arn=resource,
        region=REGION, secure_transport=keys.pop("secure", True),
        service_context={"aws:sourceaccount": ACCOUNT, **keys},
    )  # fmt: skip
    return evaluate_resource_policy(json.dumps(policy), context, service=service).decision


@each_kind
@pytest.mark.parametrize("kind_of_policy, action", [("AWS::SNS::TopicPolicy", "sns:Publish"), ("AWS::SQS::QueuePolicy", "sqs:SendMessage")])
def test_nothing_is_sent_in_the_clear(kind, kind_of_policy, action):
    made = stack(kind)
    for properties in made.of_type(kind_of_policy).values():
        policy = Filled(made, ACCOUNT)(properties["PolicyDocument"])
        for resource in {statement["Resource"] for statement in policy["Statement"]}:
            assert decision(policy, action, resource, "events.amazonaws.com", secure=True) == "Allow"
            assert decision(policy, action, resource, "events.amazonaws.com", secure=False) == "Deny"
