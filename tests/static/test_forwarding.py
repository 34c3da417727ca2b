"""The rules that hand Spot notices to the stack, in each place: account.yaml for a StackSet, the stack's bus and its policy."""

import json
from itertools import product

import pytest
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy

from local_aws.paths import ACCOUNT, REGION, ROOT
from principals import Filled, roles_of
from test_reference import DRILL, events
from test_template import KINDS, account_role, stack

OTHER, STRANGER, ELSEWHERE = "666666666666", "999999999999", "eu-west-1"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/spot-optimizer-notices"
NOTICES = ["EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation"]
LAUNCH = "EC2 Instance Launch Successful"
RULES = {"NoticesRule", "LaunchesRule", "ForwardingRole", "UndeliveredQueue", "UndeliveredQueuePolicy", "UndeliveredEventsAlarm"}
ROLE = {"Role", "LooksPolicy", "SessionsPolicy", "NeverTerminatePolicy"}


def place(account=OTHER, region=REGION, **parameters):
    there = {"AWS::AccountId": account, "AWS::Region": region}
    return account_role(**there, **{"NoticesBusArn": BUS, "RoleRegion": REGION, **parameters})


@pytest.mark.parametrize(
    "account, region, more, made",
    [
        (OTHER, REGION, {}, ROLE | RULES),
        (OTHER, ELSEWHERE, {}, RULES),
        (OTHER, ELSEWHERE, {"RoleRegion": ""}, ROLE | RULES),
        (OTHER, REGION, {"NoticesBusArn": ""}, ROLE),
        (OTHER, ELSEWHERE, {"NoticesBusArn": ""}, set()),
        (ACCOUNT, ELSEWHERE, {"RoleRegion": ELSEWHERE}, RULES),
        (ACCOUNT, REGION, {}, set()),
    ],
    ids=lambda value: str(value) if not isinstance(value, set) else "",
)
def test_one_stack_set_makes_in_each_place_what_it_needs(account, region, more, made):
    """The role once for each account, the rules in each region; the stack's own place has them already."""
    assert set(place(account, region, **more).resources) == made


@pytest.mark.parametrize("drills", ["true", "false"])
def test_every_rule_of_notices_matches_the_same_events(drills):
    home, there = stack(AllowDrills=drills), place(AllowDrills=drills)
    rules = home.of_type("AWS::Events::Rule")
    expected = {"source": ["aws.ec2", *([DRILL] if drills == "true" else [])], "detail-type": NOTICES}
    for rule in (rules["RiskManagerFunctionSpotNotice"], rules["ForwardedNoticesRule"], there.of_type("AWS::Events::Rule")["NoticesRule"]):
        assert rule["EventPattern"] == expected


def test_launches_are_forwarded_and_declared():
    pattern = place().of_type("AWS::Events::Rule")["LaunchesRule"]["EventPattern"]
    assert pattern == {"source": ["aws.autoscaling"], "detail-type": [LAUNCH]}
    assert {("aws.autoscaling", LAUNCH), *(("aws.ec2", notice) for notice in NOTICES)} <= events()


def test_a_rule_of_notices_has_the_name_of_the_bus_everywhere():
    """The optimizers look for it by that name."""
    name = {"Fn::Sub": "${AWS::StackName}-notices"}
    home = stack()
    assert home.of_type("AWS::Events::Rule")["RiskManagerFunctionSpotNotice"]["Name"] == name
    assert home.of_type("AWS::Events::EventBus")["NoticesBus"]["Name"] == name
    there = place()
    assert there._plain(there.of_type("AWS::Events::Rule")["NoticesRule"]["Name"]) == "spot-optimizer-notices"


def test_what_is_forwarded_goes_to_the_bus_as_it_is_and_is_tried_for_a_while():
    there = place()
    for name, rule in there.of_type("AWS::Events::Rule").items():
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Ref": "NoticesBusArn"} and target["RoleArn"] == {"Fn::GetAtt": ["ForwardingRole", "Arn"]}
        assert not {"Input", "InputPath", "InputTransformer"} & set(target)
        assert 20 <= target["RetryPolicy"]["MaximumRetryAttempts"] <= 185, name
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["UndeliveredQueue", "Arn"]}}
        assert rule.get("State", "ENABLED") == "ENABLED"
    allow, _ = there.of_type("AWS::SQS::QueuePolicy")["UndeliveredQueuePolicy"]["PolicyDocument"]["Statement"]
    senders = {arn["Fn::GetAtt"][0] for arn in allow["Condition"]["ArnEquals"]["aws:SourceArn"]}
    assert (allow["Principal"], senders) == ({"Service": "events.amazonaws.com"}, {"NoticesRule", "LaunchesRule"})


def test_what_could_not_be_forwarded_rings_an_alarm_of_that_region():
    topic = f"arn:aws:sns:{ELSEWHERE}:{OTHER}:alerts"
    for parameter, actions in [("", None), (topic, [{"Ref": "AlarmTopicArn"}])]:
        (alarm,) = place(region=ELSEWHERE, AlarmTopicArn=parameter).of_type("AWS::CloudWatch::Alarm").values()
        assert alarm["Dimensions"] == [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["UndeliveredQueue", "QueueName"]}}]
        assert (alarm["MetricName"], alarm["Threshold"]) == ("ApproximateNumberOfMessagesVisible", 0)
        assert alarm["TreatMissingData"] == "notBreaching" and alarm.get("AlarmActions") == actions


def test_the_role_of_the_rules_puts_events_on_that_bus_and_does_nothing_else():
    role = roles_of(place(), OTHER)["ForwardingRole"]
    assert role.allowed_actions() == {"events:PutEvents"}
    assert role.may("events:PutEvents", BUS)
    assert not role.may("events:PutEvents", BUS.replace("-notices", "-hub"))
    trust = place().resources["ForwardingRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert [(s["Principal"], s["Condition"]) for s in trust] == [
        ({"Service": "events.amazonaws.com"}, {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}})
    ]


def may_put(made, account, source, detail_type, organization=None):
    policy = made.of_type("AWS::Events::EventBus")["NoticesBus"].get("Policy")
    keys = {"events:source": source, "events:detail-type": detail_type, "aws:principalorgid": organization}
    context = EvalContext(
        principal_arn=f"arn:aws:iam::{account}:role/forwards", principal_type="AssumedRole", principal_account=account,
        action="events:PutEvents", resource_arn=BUS, region=REGION, service_context={k: v for k, v in keys.items() if v},
        principal_keys={"aws:principalorgid": organization} if organization else {},
    )  # fmt: skip
    return evaluate_resource_policy(json.dumps(Filled(made, ACCOUNT)(policy)), context).decision == "Allow"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bus_takes_notices_and_launches_of_those_who_may_forward(kind):
    made = stack(kind, ForwardingAccountIds=OTHER)
    good = [*product(["aws.ec2"], NOTICES), ("aws.autoscaling", LAUNCH)]
    assert all(may_put(made, OTHER, *event) for event in good)
    assert not any(may_put(made, STRANGER, *event) for event in good)
    for event in [("payments", NOTICES[0]), ("aws.ec2", "EC2 Instance State-change Notification"), (DRILL, NOTICES[0])]:
        assert not may_put(made, OTHER, *event), event
    assert may_put(stack(kind, ForwardingAccountIds=OTHER, AllowDrills="true"), OTHER, DRILL, NOTICES[0])


def test_the_bus_takes_those_of_the_organization_by_its_id():
    made = stack(ForwardingOrganizationId="o-abcdefghij")
    (statement,) = made.of_type("AWS::Events::EventBus")["NoticesBus"]["Policy"]["Statement"]
    assert statement["Principal"] == "*"
    assert statement["Condition"]["StringEquals"]["aws:PrincipalOrgID"] == {"Ref": "ForwardingOrganizationId"}
    both = stack(ForwardingOrganizationId="o-abcdefghij", ForwardingAccountIds=OTHER)
    assert len(both.of_type("AWS::Events::EventBus")["NoticesBus"]["Policy"]["Statement"]) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_nobody_else_may_put_on_the_bus(kind):
    """The stack's own account needs no statement: there, the role of the rule decides."""
    assert "Policy" not in stack(kind).of_type("AWS::Events::EventBus")["NoticesBus"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_reaches_the_bus_reaches_the_risk_manager(kind):
    made = stack(kind)
    rule = made.of_type("AWS::Events::Rule")["ForwardedNoticesRule"]
    assert rule["EventBusName"] == {"Ref": "NoticesBus"}
    assert [target["Arn"] for target in rule["Targets"]] == [{"Fn::GetAtt": ["RiskManagerFunction", "Arn"]}]
    permissions = made.of_type("AWS::Lambda::Permission").values()
    assert {"Fn::GetAtt": ["ForwardedNoticesRule", "Arn"]} in [p["SourceArn"] for p in permissions]


@pytest.mark.parametrize("kind", KINDS)
def test_who_launches_knows_which_rule_to_look_for(kind):
    functions = stack(kind).of_type("AWS::Lambda::Function")
    for name, function in functions.items():
        variables = function["Environment"]["Variables"]
        told = (variables.get("NOTICES_BUS_ARN"), variables.get("RISK_MANAGER_ARN"))
        launches = name in ("ClusterOptimizerFunction", "KubernetesOptimizerFunction", "LabOptimizerFunction")
        needed = ({"Fn::GetAtt": ["NoticesBus", "Arn"]}, {"Fn::GetAtt": ["RiskManagerFunction", "Arn"]})
        assert told == (needed if launches else (None, None)), name


def test_a_sample_is_an_event_of_another_place():
    sample = json.loads((ROOT / "events" / "spot-interruption-warning-forwarded.json").read_text())
    home = json.loads((ROOT / "events" / "spot-interruption-warning.json").read_text())
    assert (sample["source"], sample["detail-type"]) == ("aws.ec2", NOTICES[0])
    assert (sample["account"], sample["region"]) != (home["account"], home["region"])
