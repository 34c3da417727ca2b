"""The deployment agrees with the repository, and the functions accept the sample events."""

import json
import time

import pytest
import yaml
from botocore.exceptions import ClientError

from local_aws.build import load
from local_aws.paths import ROOT, TEMPLATE
from local_aws.stack import LocalAws
from scene import wait_for

OUTPUTS = {
    "ClusterSwapStateMachineArn", "SpotPoolRiskTableName", "AccountsTableName", "SettingsTableName", "SwapsTableName",
    "RiskManagerFunctionName", "ClusterOptimizerFunctionName", "ReconcilerFunctionName", "AlertsTopicArn",
    "SecurityEnforcerFunctionName", "InstanceAuthTableName", "WasteScannerFunctionName", "WasteResourceTableName",
    "SightingsTableName",
    "LabSwapStateMachineArn", "LabOptimizerFunctionName",
    "NodeSwapStateMachineArn", "KubernetesOptimizerFunctionName",
    "GroupWatcherFunctionName", "GroupsTableName", "InterruptionResponderFunctionName", "InterruptionResponseStateMachineArn",
    "NoticesBusArn",
}  # fmt: skip
FUNCTIONS = [
    "RiskManagerFunctionName", "ClusterOptimizerFunctionName", "ReconcilerFunctionName",
    "SecurityEnforcerFunctionName", "WasteScannerFunctionName", "LabOptimizerFunctionName",
    "KubernetesOptimizerFunctionName", "GroupWatcherFunctionName", "InterruptionResponderFunctionName",
]  # fmt: skip
TABLES = [
    "SpotPoolRiskTableName", "AccountsTableName", "SettingsTableName", "SwapsTableName",
    "InstanceAuthTableName", "WasteResourceTableName", "SightingsTableName",
    "GroupsTableName",
]  # fmt: skip


def event(name):
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def test_the_outputs_of_the_stack_are_complete(aws):
    assert OUTPUTS <= set(aws.outputs)
    assert all(aws.outputs.values())


MACHINES = {
    "cluster-optimizer": ("ClusterSwapStateMachineArn", "ClusterOptimizerFunction"),
    "kubernetes-optimizer": ("NodeSwapStateMachineArn", "KubernetesOptimizerFunction"),
    "lab-optimizer": ("LabSwapStateMachineArn", "LabOptimizerFunction"),
}


def machine(name):
    return (ROOT / "functions" / name / "swap.asl.yaml").read_text()


@pytest.mark.parametrize("name", MACHINES)
def test_the_deployed_state_machine_is_the_one_in_the_repository(aws, name):
    output, function = MACHINES[name]
    deployed = aws.client("stepfunctions").describe_state_machine(stateMachineArn=aws.outputs[output])["definition"]
    described = aws.client("lambda").get_function_configuration(FunctionName=aws.outputs[f"{function}Name"])
    source = machine(name).replace(f"${{{function}Arn}}", described["FunctionArn"]).replace("${Partition}", "aws")
    assert json.loads(deployed) == yaml.safe_load(source)


def test_every_function_runs_the_binary_named_after_it_with_a_role_of_its_own(aws):
    described = [aws.client("lambda").get_function_configuration(FunctionName=aws.outputs[f]) for f in FUNCTIONS]
    assert {d["Runtime"] for d in described} == {"provided.al2023"}
    assert len({d["Role"] for d in described}) == len(FUNCTIONS)


def an_hour_ago():
    """Returns a time one hour ago: a notice of the week before last poisons nothing any more."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))


@pytest.mark.parametrize("name", ["spot-interruption-warning", "rebalance-recommendation", "drill-interruption-warning"])
def test_the_sample_notice_is_understood(aws, name):
    """The function parses the notice, and does not find its instance, which is AWS's example."""
    _, error = aws.invoke("RiskManagerFunctionName", {**event(name), "time": an_hour_ago()})
    assert error["errorType"] == "InstanceUnknown" and "i-0b662ef9931388ba0" in error["errorMessage"]


def test_the_sample_of_a_forwarded_notice_is_understood(aws):
    """The function parses the notice, and does not find its account in the registry."""
    sample = event("spot-interruption-warning-forwarded")
    _, error = aws.invoke("RiskManagerFunctionName", {**sample, "time": an_hour_ago()})
    assert error["errorType"] == "AccountUnknown" and sample["account"] in error["errorMessage"]


def test_the_sample_clean_up_is_understood(aws):
    assert aws.invoke("RiskManagerFunctionName", event("risk-clean-up"))[1] is None


def test_the_sample_measure_is_understood(aws):
    assert aws.invoke("RiskManagerFunctionName", event("risk-measure"))[1] is None


def test_the_sample_report_of_a_member_is_understood(aws):
    """A stack that is no hub parses the report, and refuses it."""
    _, error = aws.invoke("RiskManagerFunctionName", event("spot-pool-interrupted"))
    assert error["errorType"] == "InvalidEvent" and "only a hub takes reports" in error["errorMessage"]


def test_the_sample_status_change_is_understood(aws):
    summary, error = aws.invoke("ReconcilerFunctionName", event("execution-status-change"))
    assert error is None
    assert set(summary) == {"running", "finished", "undone", "waiting", "too_early", "left_alone"}


@pytest.mark.parametrize("name", ["cluster-swap-input", "cluster-swap-replace-input", "cluster-swap-to-on-demand-input"])
def test_the_sample_input_of_a_swap_is_understood(aws, name):
    execution = aws.wait_execution(aws.start_execution(event(name)))
    assert execution["error"] == "GroupNotFound"


@pytest.mark.parametrize(
    "name, machine, reason", [("node-swap-input", "NodeSwap", "INSTANCE_GONE"), ("lab-swap-input", "LabSwap", "PROD_ACCOUNT")]
)
def test_the_sample_input_of_a_swap_of_one_instance_is_understood(aws, name, machine, reason):
    """The function parses the input, and does not find its instance, which is AWS's example."""
    arn = aws.start_execution(event(name), machine=f"{machine}StateMachineArn")
    assert aws.wait_execution(arn)["output"]["reason"] == reason


@pytest.mark.parametrize("name", ["security-audit", "security-audit-schedule"])
def test_the_sample_audit_is_understood(aws, name):
    summary, error = aws.invoke("SecurityEnforcerFunctionName", event(name))
    assert error is None and summary["partial"] is False


@pytest.mark.parametrize("name", ["waste-scan-input", "waste-scan-schedule"])
def test_the_sample_scan_is_understood(aws, name):
    summary, error = aws.invoke("WasteScannerFunctionName", event(name))
    assert error is None and summary["continues"] is False


def test_the_sample_continuation_is_understood(aws):
    sample = event("waste-scan-to-be-continued")
    sample["detail"]["run_started"] = int(time.time()) - 60
    summary, error = aws.invoke("WasteScannerFunctionName", sample)
    assert error is None and summary["continues"] is False


@pytest.mark.parametrize("name", ["group-watcher-sweep", "instance-launched"])
def test_the_sample_of_the_loop_is_understood(aws, name):
    """The group of the launch does not exist, and no group of the stack is tagged: nothing is started."""
    answer, error = aws.invoke("GroupWatcherFunctionName", event(name))
    assert error is None and answer["started"] == [] and answer["partial"] is False


def test_every_sample_is_tested_here():
    assert {p.stem for p in (ROOT / "events").glob("*.json")} == {
        "spot-interruption-warning", "spot-interruption-warning-forwarded", "rebalance-recommendation", "drill-interruption-warning", "risk-clean-up",
        "execution-status-change", "cluster-swap-input", "security-audit", "security-audit-schedule",
        "waste-scan-input", "waste-scan-schedule", "waste-scan-to-be-continued",
        "risk-measure", "spot-pool-interrupted", "lab-swap-input", "node-swap-input",
        "cluster-swap-replace-input", "cluster-swap-to-on-demand-input", "group-watcher-sweep", "instance-launched",
    }  # fmt: skip


def test_the_tables_survive_the_stack(aws):
    for output in TABLES:
        table = aws.client("dynamodb").describe_table(TableName=aws.outputs[output])["Table"]
        assert table["DeletionProtectionEnabled"] is True
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_a_first_deployment_that_fails_leaves_no_table(aws):
    """The tables of the template stand beside a signal that never comes."""
    template = load(TEMPLATE)
    tables = {name: r for name, r in template["Resources"].items() if r["Type"] == "AWS::DynamoDB::Table"}
    signal = {"Type": "AWS::CloudFormation::WaitCondition", "Properties": {"Handle": "nobody", "Timeout": "1"}}
    resources = {**tables, "Signal": {**signal, "DependsOn": [*tables]}}
    body = {"Parameters": template["Parameters"], "Conditions": template["Conditions"], "Resources": resources}
    other = LocalAws(aws.home, "777777777777")
    other.client("cloudformation").create_stack(
        StackName="fails", TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": "EnvironmentType", "ParameterValue": "PROD"}],
    )  # fmt: skip
    wait_for(lambda: _status(other, "fails") == "ROLLBACK_COMPLETE")
    assert other.client("dynamodb").list_tables()["TableNames"] == []


def _status(aws, stack):
    return aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]


def test_an_execution_that_step_functions_itself_ends_is_told(aws):
    rules = aws.client("events").list_rules()["Rules"]
    (pattern,) = [r["EventPattern"] for r in rules if "TIMED_OUT" in r.get("EventPattern", "") and "Stuck" in r["EventPattern"]]

    def told(**detail):
        machine = aws.outputs["ClusterSwapStateMachineArn"]
        sample = {**event("execution-status-change"), "detail": {"stateMachineArn": machine, **detail}}
        return aws.client("events").test_event_pattern(EventPattern=pattern, Event=json.dumps(sample))["Result"]

    assert told(status="TIMED_OUT") and told(status="FAILED", error="Stuck")
    assert told(status="FAILED", error="States.DataLimitExceeded") and told(status="FAILED", error="States.Runtime")
    assert not told(status="FAILED", error="GroupNotFound") and not told(status="ABORTED")


def test_an_optimizer_of_groups_may_put_back_our_tag_and_no_other_on_ours_and_no_other(aws):
    ours, theirs = aws.launch_spot(), aws.launch_spot()
    aws.client("ec2").create_tags(Resources=[ours], Tags=[{"Key": "spot-optimizer:swap", "Value": "swap-1"}])
    mark, team = {"Key": "ManagedBy", "Value": "SpotOptimizer"}, {"Key": "team", "Value": "web"}
    for function in ("ClusterOptimizerFunctionName", "KubernetesOptimizerFunctionName"):
        ec2 = aws.client_of(function, "ec2")
        ec2.create_tags(Resources=[ours], Tags=[mark])
        for instance, tags in ((theirs, [mark]), (ours, [team]), (ours, [mark, team])):
            with pytest.raises(ClientError, match="UnauthorizedOperation"):
                ec2.create_tags(Resources=[instance], Tags=tags)
    for function in ("LabOptimizerFunctionName", "ReconcilerFunctionName"):
        with pytest.raises(ClientError, match="UnauthorizedOperation"):
            aws.client_of(function, "ec2").create_tags(Resources=[ours], Tags=[mark])
    aws.client("ec2").terminate_instances(InstanceIds=[ours, theirs])


def test_an_optimizer_of_groups_may_set_max_size_and_nothing_else(aws, scene):
    web = scene(size=1, minimum=1)
    autoscaling = aws.client_of("ClusterOptimizerFunctionName", "autoscaling")
    most = web.before["MaxSize"] + 1
    for more in ({"MinSize": 0}, {"VPCZoneIdentifier": web.before["VPCZoneIdentifier"].split(",")[0]}, {"LaunchConfigurationName": "mine"}):
        with pytest.raises(ClientError, match="AccessDenied"):
            autoscaling.update_auto_scaling_group(AutoScalingGroupName=web.name, MaxSize=most, **more)
    autoscaling.update_auto_scaling_group(AutoScalingGroupName=web.name, MaxSize=most)
    (group,) = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[web.name])["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"]) == (1, most)


def test_a_stack_that_allows_no_drills_listens_to_none(aws):
    """The rule of this stack, which allows drills, stands beside the template's rule for other stacks."""
    patterns = [json.loads(r["EventPattern"]) for r in aws.client("events").list_rules()["Rules"] if r.get("EventPattern")]
    notices = [p for p in patterns if "EC2 Spot Instance Interruption Warning" in p["detail-type"]]
    assert [sorted(p["source"]) for p in notices] == [["aws.ec2", "spot-optimizer.drill"]] * 2, "risk manager and responder"
    template = (ROOT / "template.yaml").read_text()
    assert template.count("source: !If [DrillsAllowed, [aws.ec2, spot-optimizer.drill], [aws.ec2]]") == 4


def test_the_status_change_of_a_failed_swap_reaches_the_reconciler(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(status="initializing")
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1, poll_seconds=300)
    web.start().reach("PauseForHealth")
    aws.control.clear_calls()
    web.stop()
    wait_for(lambda: not web.leased())
    assert aws.control.calls(action="Scan") != []
    web.assert_untouched()
