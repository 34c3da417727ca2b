"""The templates without a server: names, rights, alarms and parameters of every kind of stack."""

import json
import re
from functools import cache

import pytest
from ministack.services.eventbridge import _matches_pattern

from local_aws.build import load
from local_aws.paths import ACCOUNT, ACCOUNT_ROLE, IMPORT_TABLES, REGION, ROOT, TEMPLATE
from rendered import Rendered, translated

HUB = {
    "EnvironmentType": "PROD",
    "Role": "hub",
    "OrganizationId": "o-abcdefghij",
    "MemberAccountIds": "222222222222",
    "HubExternalId": "herd",
}
MEMBER = {
    "EnvironmentType": "PROD",
    "Role": "member",
    "HubEventBusArn": "arn:aws:events:us-east-1:555555555555:event-bus/spot-optimizer-hub",
    "HubPoolRiskTable": "risk",
    "HubReaderRoleArn": "arn:aws:iam::555555555555:role/reader",
    "HubExternalId": "herd",
}
KINDS = {"standalone": {"EnvironmentType": "PROD"}, "hub": HUB, "member": MEMBER}
VPC = {"VpcSubnetIds": "subnet-0a,subnet-0b", "VpcSecurityGroupIds": "sg-0a"}
EXAMPLES = sorted((ROOT / "docs" / "samconfig").glob("*.toml"))
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: all inline policies of a role, one managed policy.
INLINE, MANAGED = 10240, 6144


load = cache(load)


def stack(kind="standalone", **more):
    return Rendered(translated(), {**KINDS[kind], **more})


def account_role(**more):
    """Returns account.yaml in another account, in the region that makes the role; nothing is forwarded."""
    there = {"AWS::AccountId": "666666666666", "AWS::Region": REGION}
    return Rendered(load(ACCOUNT_ROLE), {**there, "StackAccountId": ACCOUNT, "ExternalId": "secret", **more})


@pytest.fixture(params=KINDS)
def made(request):
    return stack(request.param)


# ---------------------------------------------------------------- names


def test_no_resource_has_a_name_that_a_second_stack_would_want_too(made):
    for name, resource in made.resources.items():
        for key, value in resource.get("Properties", {}).items():
            if key.endswith("Name") and key not in ("MetricName", "DisplayName"):
                own = isinstance(value, dict) and ("Ref" in value or "${AWS::StackName}" in value.get("Fn::Sub", ""))
                assert own, f"{name}: {key} = {value}"


def test_no_schedule_has_a_name(made):
    schedules = made.of_type("AWS::Scheduler::Schedule")
    assert len(schedules) == 6
    assert [name for name, schedule in schedules.items() if "Name" in schedule] == []


def test_figures_are_read_by_stack(made):
    """Two stacks in one region would otherwise ring each other's alarms."""
    alarms = [a for a in made.of_type("AWS::CloudWatch::Alarm").values() if a["Namespace"] == "SpotOptimizer"]
    assert len(alarms) >= 3
    assert all({"Name": "Stack", "Value": {"Ref": "AWS::StackName"}} in a["Dimensions"] for a in alarms)
    dashboard = translated()["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    ours = re.findall(r'\["SpotOptimizer",.*?\]', dashboard)
    assert len(ours) == 4 and all('"Stack", "${AWS::StackName}"' in metric for metric in ours)
    for function in made.of_type("AWS::Lambda::Function").values():
        assert function["Environment"]["Variables"]["STACK_NAME"] == {"Ref": "AWS::StackName"}


# ---------------------------------------------------------------- failures are heard


def test_eventbridge_publishes_alerts_without_a_condition(made):
    (policy,) = made.of_type("AWS::SNS::TopicPolicy").values()
    conditions = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        assert statement["Resource"] == {"Ref": "AlertsTopic"}
        if statement["Effect"] == "Deny":
            continue
        services = statement["Principal"]["Service"]
        for service in [services] if isinstance(services, str) else services:
            conditions[service] = statement.get("Condition")
    assert conditions["events.amazonaws.com"] is None
    assert conditions["cloudwatch.amazonaws.com"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_what_is_not_delivered_ends_in_the_queue(made):
    queue = {"Arn": {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}}
    for name, rule in made.of_type("AWS::Events::Rule").items():
        for target in rule["Targets"]:
            assert target.get("DeadLetterConfig") == queue, name
    roles = made.of_type("AWS::IAM::Role")
    for name, schedule in made.of_type("AWS::Scheduler::Schedule").items():
        assert schedule["Target"].get("DeadLetterConfig") == queue, name
        assert 1 <= schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] <= 185, name
        role = roles[schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]]
        assert ("sqs:SendMessage", queue["Arn"]) in _rights(role), name


def test_the_reconciler_may_write_to_the_queue(made):
    """The reconciler's role is not SAM's, which would add the permission by itself."""
    queue = {"Fn::GetAtt": ["FailedEventsQueue", "Arn"]}
    assert ("sqs:SendMessage", queue) in _rights(made.of_type("AWS::IAM::Role")["ReconcilerFunctionRole"])


# What a person is told of an execution that has ended: (status, error) → of a swap, of an answer. A swap that is refused
# concerns its sender, who waits for it; nobody waits for an answer.
ENDS = {
    ("SUCCEEDED", None): (False, False),
    ("ABORTED", None): (False, False),
    ("TIMED_OUT", None): (True, True),
    ("FAILED", "Stuck"): (True, True),
    ("FAILED", "States.Runtime"): (True, True),
    ("FAILED", "Transient"): (False, True),
    ("FAILED", "NotAuthorized"): (False, True),
    ("FAILED", "InvalidSettings"): (False, True),
    ("FAILED", "Runtime.ExitError"): (False, True),
    ("FAILED", "Lambda.TooManyRequestsException"): (False, True),
    ("FAILED", "InvalidInput"): (False, False),
    ("FAILED", "GroupNotFound"): (False, False),
}


@pytest.mark.parametrize("status, error", ENDS)
def test_an_execution_that_a_person_must_know_of_is_told_once(made, status, error):
    machines = made.of_type("AWS::StepFunctions::StateMachine")
    assert len(machines) == 4
    rules = [r for r in made.of_type("AWS::Events::Rule").values() if r["Targets"][0]["Arn"] == {"Ref": "AlertsTopic"}]
    patterns = [json.dumps(rule["EventPattern"]).replace('{"Ref": ', "").replace('StateMachine"}', 'StateMachine"') for rule in rules]
    swap, answer = ENDS[status, error]
    for machine in machines:
        detail = {"stateMachineArn": machine, "status": status, **({"error": error} if error else {})}
        event = {"Source": "aws.states", "DetailType": "Step Functions Execution Status Change", "Detail": json.dumps(detail)}
        told = sum(_matches_pattern(pattern, event) for pattern in patterns)
        assert told == (answer if machine == "InterruptionResponseStateMachine" else swap), machine


def test_silence_rings_where_schedules_run():
    def silent(**more):
        alarms = stack(**more).of_type("AWS::CloudWatch::Alarm").values()
        return [a for a in alarms if a["MetricName"] == "Invocations"]

    assert silent(SchedulesEnabled="false") == []
    watched = {a["Dimensions"][0]["Value"]["Ref"]: a["Period"] * a["EvaluationPeriods"] for a in silent()}
    assert watched == {
        "GroupWatcherFunction": 3600, "ReconcilerFunction": 1800, "SecurityEnforcerFunction": 10800, "WasteScannerFunction": 172800,
    }  # fmt: skip
    for alarm in silent():
        assert (alarm["TreatMissingData"], alarm["ComparisonOperator"]) == ("breaching", "LessThanThreshold")
        assert (alarm["Statistic"], alarm["Threshold"]) == ("Sum", 1)
        assert alarm["AlarmActions"] == [{"Ref": "AlertsTopic"}]


@pytest.mark.parametrize("enabled, state", [("true", "ENABLED"), ("false", "DISABLED")])
def test_one_parameter_stops_all_schedules(enabled, state):
    schedules = stack(SchedulesEnabled=enabled).of_type("AWS::Scheduler::Schedule").values()
    assert {s["State"] for s in schedules} == {state}


def on(rendered):
    """Returns the names of the rules and schedules that are enabled."""
    found = {**rendered.of_type("AWS::Scheduler::Schedule"), **rendered.of_type("AWS::Events::Rule")}
    return {name for name, one in found.items() if one.get("State", "ENABLED") == "ENABLED"}


LOOP = {"GroupWatcherFunctionSweep", "GroupWatcherFunctionInstanceLaunched", "ForwardedLaunchesRule"}
ANSWERS = {"InterruptionResponderFunctionSpotNotice", "InterruptionResponderFunctionForwardedNotice"}


@pytest.mark.parametrize("continuous", ["true", "false"])
@pytest.mark.parametrize("schedules", ["true", "false"])
def test_the_loop_needs_both_of_its_parameters(continuous, schedules):
    """A launch, or a recommendation, would otherwise start swaps in a stack whose schedules are off."""
    rendered = stack(Continuous=continuous, SchedulesEnabled=schedules)
    is_on = continuous == schedules == "true"
    assert on(rendered) & LOOP == (LOOP if is_on else set())
    responder = rendered.of_type("AWS::Lambda::Function")["InterruptionResponderFunction"]
    assert responder["Environment"]["Variables"]["CONTINUOUS"] == ("true" if is_on else "false")


def test_one_parameter_switches_the_answers_off_and_nothing_else(made):
    assert on(made) >= ANSWERS
    assert on(made) - on(stack(AnswersInterruptions="false")) - {"HubReportsRule", "ReportToHubRule"} == ANSWERS


def test_a_second_stack_learns_and_repairs_and_starts_nothing():
    """docs/operations.md names the two parameters. The stacks do not see each other's leases."""
    text = (ROOT / "docs" / "operations.md").read_text()
    assert "`SchedulesEnabled=false AnswersInterruptions=false`" in text
    assert on(stack(SchedulesEnabled="false", AnswersInterruptions="false")) == {
        "RiskManagerFunctionSpotNotice", "ForwardedNoticesRule", "ReconcilerFunctionExecutionDied", "SwapStuckRule",
        "AnswerFailedRule", "WasteScannerFunctionContinue",
    }  # fmt: skip


@pytest.mark.parametrize("continuous, state", [("true", "ENABLED"), ("false", "DISABLED")])
def test_one_parameter_switches_the_loop_off_and_nothing_else(continuous, state):
    rendered = stack(Continuous=continuous)
    of_watcher = lambda name: name.startswith("GroupWatcher") or name == "ForwardedLaunchesRule"  # noqa: E731
    watchers = lambda kind: {n: r["State"] for n, r in rendered.of_type(kind).items() if of_watcher(n)}  # noqa: E731
    assert watchers("AWS::Scheduler::Schedule") == {"GroupWatcherFunctionSweep": state}
    launches = ("GroupWatcherFunctionInstanceLaunched", "ForwardedLaunchesRule")
    assert watchers("AWS::Events::Rule") == dict.fromkeys(launches, state)
    others = [*rendered.of_type("AWS::Scheduler::Schedule").items(), *rendered.of_type("AWS::Events::Rule").items()]
    assert {r.get("State", "ENABLED") for n, r in others if not of_watcher(n)} == {"ENABLED"}
    silent = "GroupWatcherFunction" in str(
        [a for a in rendered.of_type("AWS::CloudWatch::Alarm").values() if a["MetricName"] == "Invocations"]
    )
    assert silent is (continuous == "true"), "a loop that is switched off is not silent by mistake"


def test_unauthorised_instances_ring_in_the_hour_in_which_they_are_found(made):
    (alarm,) = [a for a in made.of_type("AWS::CloudWatch::Alarm").values() if a["MetricName"] == "UnauthorisedInstances"]
    assert (alarm["Statistic"], alarm["Threshold"], alarm["ComparisonOperator"]) == ("Maximum", 0, "GreaterThanThreshold")
    assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["TreatMissingData"]) == (3600, 1, "ignore")
    assert alarm["AlarmActions"] == [{"Ref": "AlertsTopic"}]


def _rings(alarm, values):
    """Returns true if the metric's values, the oldest first, end in ALARM. A missing value does not breach."""
    last = values[-alarm["EvaluationPeriods"] :]
    return sum(value is not None and value > alarm["Threshold"] for value in last) >= alarm["DatapointsToAlarm"]


def test_what_the_loop_cannot_see_for_hours_rings(made):
    (alarm,) = [a for a in made.of_type("AWS::CloudWatch::Alarm").values() if a["MetricName"] == "LoopFailures"]
    assert (alarm["Statistic"], alarm["Threshold"], alarm["ComparisonOperator"]) == ("Maximum", 0, "GreaterThanThreshold")
    assert (alarm["Period"], alarm["TreatMissingData"]) == (900, "notBreaching"), "a value for each sweep"
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 3 * 3600
    assert alarm["AlarmActions"] == [{"Ref": "AlertsTopic"}]
    assert not _rings(alarm, [1, 0, 0, 0] * 24), "a call that is throttled once in each hour"
    assert not _rings(alarm, [0] * 7 + [3] * 5), "an outage of an hour"
    assert not _rings(alarm, [None] * 12), "the loop is off"
    assert _rings(alarm, [0] * 6 + [1] * 6), "a role that is gone"
    assert _rings(alarm, [0, 1] * 6), "the same, where each second sweep gets that far"


# ---------------------------------------------------------------- tables


def test_tables_outlive_the_stack_but_not_a_failed_first_deployment(made):
    tables = {n: r for n, r in made.resources.items() if r["Type"] == "AWS::DynamoDB::Table"}
    assert len(tables) == 8
    for name, table in tables.items():
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name
        assert table["Properties"]["DeletionProtectionEnabled"] is False, name  # Else it could not be taken away again.
        assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}, name
    protected = stack(TableDeletionProtection="true").of_type("AWS::DynamoDB::Table")
    assert all(table["DeletionProtectionEnabled"] is True for table in protected.values())


def test_the_tables_to_import_are_those_of_the_stack():
    """A deployment after the import would otherwise replace the tables that it should adopt."""
    imported = load(IMPORT_TABLES)["Resources"]
    tables = stack().of_type("AWS::DynamoDB::Table")
    assert {n: {**r["Properties"], "DeletionProtectionEnabled": False} for n, r in imported.items()} == tables
    assert {(r["DeletionPolicy"], r["UpdateReplacePolicy"]) for r in imported.values()} == {("Retain", "Retain")}


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize("kind", KINDS)
def test_every_role_has_the_permissions_boundary_if_one_is_named(kind):
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    roles = stack(kind, PermissionsBoundaryArn=boundary).of_type("AWS::IAM::Role")
    assert len(roles) >= 15
    assert [n for n, r in roles.items() if r.get("PermissionsBoundary") != {"Ref": "PermissionsBoundaryArn"}] == []
    assert [n for n, r in stack(kind).of_type("AWS::IAM::Role").items() if "PermissionsBoundary" in r] == []


def test_the_role_in_another_account_has_the_permissions_boundary_if_one_is_named():
    (role,) = account_role(PermissionsBoundaryArn="arn:aws:iam::123456789012:policy/b").of_type("AWS::IAM::Role").values()
    assert role["PermissionsBoundary"] == {"Ref": "PermissionsBoundaryArn"}
    (role,) = account_role().of_type("AWS::IAM::Role").values()
    assert "PermissionsBoundary" not in role


@pytest.mark.parametrize("rendered", [account_role(), *map(stack, KINDS)], ids=["account", *KINDS])
def test_policies_keep_within_iams_quotas(rendered):
    for name, role in rendered.of_type("AWS::IAM::Role").items():
        assert sum(_size(policy["PolicyDocument"]) for policy in role.get("Policies", [])) < INLINE, name
        attached = [p for p in rendered.of_type("AWS::IAM::ManagedPolicy").values() if {"Ref": name} in p.get("Roles", [])]
        assert len(role.get("ManagedPolicyArns", [])) + len(attached) <= 10, name
    for name, policy in rendered.of_type("AWS::IAM::ManagedPolicy").items():
        assert _size(policy["PolicyDocument"]) < MANAGED, name


def _where(rendered, sid):
    found = []
    for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for properties in rendered.of_type(kind).values():
            found += [s for s in _statements(properties) if s.get("Sid") == sid]
    assert found, sid
    assert all(s == found[0] for s in found)
    return found[0]


BOTH = pytest.mark.parametrize("rendered", [stack(), account_role()], ids=["stack", "account"])


@BOTH
def test_a_launch_may_read_the_image_that_its_template_names_by_parameter(rendered):
    statement = _where(rendered, "ImageOfTheTemplate")
    resource = "arn:${AWS::Partition}:ssm:*:*:parameter/${ImageParameterPath}"
    assert (statement["Action"], statement["Resource"]) == ("ssm:GetParameters", {"Fn::Sub": resource})
    assert rendered.parameters["ImageParameterPath"] == "*"


@BOTH
def test_a_launch_passes_roles_of_one_path_to_ec2_only(rendered):
    statement = _where(rendered, "ProfileOfTheTemplate")
    resource = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${InstanceProfileRolePath}"
    assert statement["Resource"] == {"Fn::Sub": resource}
    assert statement["Condition"] == {
        "StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]}
    }  # fmt: skip


@BOTH
def test_a_launch_may_name_licences_and_placement_groups_of_other_accounts(rendered):
    resources = [r["Fn::Sub"] for r in _where(rendered, "LaunchFrom")["Resource"]]
    assert "arn:${AWS::Partition}:license-manager:*:*:license-configuration:*" in resources
    assert "arn:${AWS::Partition}:ec2:*:*:placement-group/*" in resources


@BOTH
def test_kubeconfigs_under_a_key_of_the_customer_can_be_read_and_nothing_else_by_that_right(rendered):
    statement = _where(rendered, "KeysOfKubeconfigs")
    assert statement["Action"] == "kms:Decrypt"
    condition = statement["Condition"]["StringLike"]
    assert all(service.startswith("secretsmanager.*.") for service in condition["kms:ViaService"])
    secrets = _where(rendered, "Kubeconfigs")["Resource"]
    assert condition["kms:EncryptionContext:SecretARN"] == secrets


@BOTH
def test_our_tag_alone_is_put_back_on_our_newcomers_alone(rendered):
    statement = _where(rendered, "TagOurNewcomerAgain")
    assert statement["Action"] == "ec2:CreateTags"
    sessions = {"StringLike": {"aws:userid": ["*:spot-optimizer-node-*", "*:spot-optimizer-run-*"]}}
    assert statement["Condition"] == {
        **(sessions if rendered.parameters.get("StackAccountId") else {}),
        "StringEquals": {"aws:RequestTag/ManagedBy": "SpotOptimizer"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["ManagedBy"]},
        "Null": {"aws:ResourceTag/spot-optimizer:swap": "false"},
    }


def test_optimizers_of_groups_may_plan_and_tag_and_recovery_may_not_tag():
    rendered = stack()
    roles = rendered.of_type("AWS::IAM::Role")
    managed = rendered.of_type("AWS::IAM::ManagedPolicy")
    rights, held_by = {}, {}
    for function in ("ClusterOptimizer", "KubernetesOptimizer", "LabOptimizer", "Reconciler"):
        role = roles[f"{function}FunctionRole"]
        held = [managed[arn["Ref"]] for arn in role["ManagedPolicyArns"] if isinstance(arn, dict) and "Ref" in arn]
        held_by[function] = [role, *held]
        rights[function] = {action for policy in [role, *held] for action, _ in _rights(policy)}
    for function in ("ClusterOptimizer", "KubernetesOptimizer", "LabOptimizer"):
        wanted = {"ec2:DescribeSubnets", "ec2:DescribeImages", "elasticloadbalancing:DescribeTargetGroups"}
        assert wanted | {"ssm:GetParameters"} <= rights[function], function
    sids = {function: {s.get("Sid") for policy in held_by[function] for s in _statements(policy)} for function in rights}
    for function in ("ClusterOptimizer", "KubernetesOptimizer"):
        assert "autoscaling:SuspendProcesses" in rights[function], function
        assert "TagOurNewcomerAgain" in sids[function], function
    assert "autoscaling:SuspendProcesses" not in rights["LabOptimizer"]
    assert "ec2:CreateTags" not in rights["Reconciler"] and "ec2:RunInstances" not in rights["Reconciler"]


@pytest.mark.parametrize(
    "key",
    [
        "KubernetesCluster",
        "eks:nodegroup-name",
        "alpha.eksctl.io/cluster-name",
        "AWSRDSCustom",
        "awsbackup-restore-test",
        "red-hat-managed",
        "api.openshift.com/id",
        "sigs.k8s.io/cluster-api-provider-aws/role",
        "kops.k8s.io/instancegroup",
        "aws:pcs:compute-node-group-id",
        "parallelcluster:cluster-name",
        "AmazonEVSManaged",
    ],  # fmt: skip
)
@BOTH
def test_the_audit_is_denied_what_these_tags_mark(rendered, key):
    assert [c for c in _denies(rendered) if c.get("StringLike", {}).get(f"aws:ResourceTag/{key}") == "?*"]


@BOTH
def test_the_audit_is_denied_what_image_builder_and_fast_launch_run(rendered):
    makers = ["EC2 Image Builder", "EC2 Fast Launch"]
    assert [c for c in _denies(rendered) if c.get("StringEquals", {}).get("aws:ResourceTag/CreatedBy") == makers]


LOOKS = {
    "SecurityEnforcerFunction": {"ec2:DescribeRegions"},
    "WasteScannerFunction": {
        "autoscaling:DescribeLaunchConfigurations", "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeLockedSnapshots",
        "ec2:DescribeRegions", "ec2:DescribeSnapshotAttribute", "ec2:ListImagesInRecycleBin", "ec2:ListSnapshotsInRecycleBin", "ec2:ListVolumesInRecycleBin",
    },
    "RiskManagerFunction": {"ec2:DescribeSpotInstanceRequests"},
}  # fmt: skip


def test_what_a_function_looks_at_here_it_may_look_at_in_another_account():
    roles = stack().of_type("AWS::IAM::Role")
    elsewhere = account_role().of_type("AWS::IAM::ManagedPolicy")["LooksPolicy"]
    for function, looks in LOOKS.items():
        assert looks <= {action for action, _ in _rights(roles[f"{function}Role"])}, function
        assert looks <= {action for action, _ in _rights(elsewhere)}, function


def _denies(rendered):
    kinds = ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")
    statements = [s for kind in kinds for properties in rendered.of_type(kind).values() for s in _statements(properties)]
    return [s["Condition"] for s in statements if s["Effect"] == "Deny" and s.get("Action") == "ec2:TerminateInstances"]


# ---------------------------------------------------------------- functions


def test_functions_are_in_a_vpc_only_with_the_parameters():
    ours = {"KubernetesOptimizerFunction", "ReconcilerFunction"}
    assert {n for n, f in stack().of_type("AWS::Lambda::Function").items() if "VpcConfig" in f} == set()
    inside = {n: f for n, f in stack(**VPC).of_type("AWS::Lambda::Function").items() if "VpcConfig" in f}
    assert set(inside) == ours
    for function in inside.values():
        assert function["VpcConfig"] == {
            "SubnetIds": {"Fn::Split": [",", {"Ref": "VpcSubnetIds"}]},
            "SecurityGroupIds": {"Fn::Split": [",", {"Ref": "VpcSecurityGroupIds"}]},
        }
    assert _with_network_interfaces(stack()) == set()
    assert _with_network_interfaces(stack(**VPC)) == {f"{name}Role" for name in ours}


def _with_network_interfaces(rendered):
    roles = rendered.of_type("AWS::IAM::Role")
    return {n for n, role in roles.items() if "AWSLambdaVPCAccessExecutionRole" in json.dumps(role)}


def test_every_role_of_a_function_may_log(made):
    roles = made.of_type("AWS::IAM::Role")
    for name, function in made.of_type("AWS::Lambda::Function").items():
        role = roles[function["Role"]["Fn::GetAtt"][0]]
        assert "AWSLambdaBasicExecutionRole" in json.dumps(role["ManagedPolicyArns"]), name


def test_subnets_and_security_groups_come_together():
    assert stack(**VPC).broken_rules() == []
    for name in VPC:
        assert stack(**{name: VPC[name]}).broken_rules() != []


def test_optimizers_have_the_processor_for_a_gate_of_one_second(made):
    functions = made.of_type("AWS::Lambda::Function")
    for name in ("ClusterOptimizerFunction", "LabOptimizerFunction", "KubernetesOptimizerFunction"):
        assert functions[name]["MemorySize"] >= 256, name


def test_the_hubs_region_can_be_read_off_even_where_there_is_no_hub():
    function = translated()["Resources"]["ClusterOptimizerFunction"]["Properties"]
    _, then, _ = function["Environment"]["Variables"]["HUB_REGION"]["Fn::If"]
    text = then["Fn::Select"][1]["Fn::Split"][1]["Fn::Sub"]
    for arn, region in ((MEMBER["HubEventBusArn"], "us-east-1"), ("", "")):
        assert text.replace("${HubEventBusArn}", arn).split(":")[3] == region


@pytest.mark.parametrize(
    "kind, chosen, there",
    [
        ("standalone", "auto", True),
        ("hub", "auto", True),
        ("member", "auto", False),
        ("member", "true", True),
        ("hub", "false", False),
    ],
)
def test_members_have_no_dashboard_unless_asked_for(kind, chosen, there):
    assert bool(stack(kind, DashboardEnabled=chosen).of_type("AWS::CloudWatch::Dashboard")) is there


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("path", [TEMPLATE, ACCOUNT_ROLE], ids=lambda path: path.name)
def test_every_parameter_has_a_label_and_a_place_in_one_group(path):
    template = load(path)
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    assert set(interface["ParameterLabels"]) == set(template["Parameters"])
    assert all(group["Label"]["default"] for group in interface["ParameterGroups"])
    assert all(parameter.get("Description") for parameter in template["Parameters"].values())


def test_external_ids_are_not_shown():
    assert load(TEMPLATE)["Parameters"]["HubExternalId"]["NoEcho"] is True
    assert load(ACCOUNT_ROLE)["Parameters"]["ExternalId"]["NoEcho"] is True


def test_every_pattern_of_a_parameter_allows_its_default():
    for path in (TEMPLATE, ACCOUNT_ROLE):
        for name, parameter in load(path)["Parameters"].items():
            if "Default" in parameter and "AllowedPattern" in parameter:
                assert re.fullmatch(parameter["AllowedPattern"], parameter["Default"]), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_hold_for_a_complete_stack_and_not_for_another(kind):
    assert stack(kind).broken_rules() == []
    for name in set(KINDS[kind]) - {"EnvironmentType", "Role", "OrganizationId", "MemberAccountIds"}:
        assert stack(kind, **{name: ""}).broken_rules() != [], name


def test_there_is_an_example_for_each_kind_of_stack():
    assert {path.stem for path in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_configuration_fits_the_template(path):
    tomllib = pytest.importorskip("tomllib")
    configuration = tomllib.loads(path.read_text())
    assert configuration["version"] == 0.1
    deploy, build = (configuration["default"][command]["parameters"] for command in ("deploy", "build"))
    overrides = dict(pair.split("=", 1) for pair in deploy["parameter_overrides"])
    template = translated()
    for name, value in overrides.items():
        parameter = template["Parameters"][name]
        assert value in parameter.get("AllowedValues", [value]), name
        assert re.fullmatch(parameter.get("AllowedPattern", ".*"), value), name
    rendered = Rendered(template, overrides)
    assert rendered.broken_rules() == []
    assert rendered.parameters["Role"] == path.stem
    assert set(template["Parameters"]) == set(rendered.parameters), "a parameter without a default is missing"
    assert build["parameter_overrides"] == [f"Architecture={rendered.parameters['Architecture']}"]
    assert deploy["capabilities"] == "CAPABILITY_IAM"


# ---------------------------------------------------------------- reading policies


def _statements(properties):
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
    return [statement for document in documents for statement in document["Statement"]]


def _rights(properties):
    """Returns (action, resource) of the allowed requests; a resource that is a list counts as None."""
    found = []
    for statement in _statements(properties):
        if statement["Effect"] == "Allow":
            actions, resource = statement["Action"], statement["Resource"]
            found += [(a, resource) for a in ([actions] if isinstance(actions, str) else actions)]
    return found


def _size(document):
    """Counts characters without whitespace, as IAM does, with the longest values of references."""

    def told(node):
        if isinstance(node, list):
            return [told(part) for part in node]
        if not isinstance(node, dict):
            return node
        if isinstance(text := node.get("Fn::Sub"), str):
            return text.replace("${AWS::Partition}", "aws-us-gov").replace("${AWS::AccountId}", "1" * 12)
        if {"Ref", "Fn::GetAtt", "Fn::Sub"} & set(node):
            return "x" * 120
        return {key: told(value) for key, value in node.items()}

    return len(re.sub(r"\s", "", json.dumps(told(document), separators=(",", ":"))))
