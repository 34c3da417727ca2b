"""The same scripts of calls against local AWS and against the world of `tests/world`, compared: each answer, each refusal, and
the state that follows.

Where the two differ, AWS's documentation decides which one is mended. `KNOWN` has the differences that stay. `lab_scripts.py`
has more of both.
"""

import pytest

import lab_scripts
from sides import WorldServer, both
from steps import (
    END_EXECUTION,
    LOOK,
    PROTECT,
    SETTLE,
    Script,
    attach,
    batch,
    describe_execution,
    detach,
    ec2,
    group_tags,
    hooks,
    instances_by,
    launch,
    members,
    of_group,
    page,
    publish,
    put_events,
    row,
    spot_request,
    start,
    status_checks,
    tag_group,
    tags_of,
    targets,
    terminate,
    terminate_in_group,
    transaction,
    untag_group,
)

KEY = {"Key": {"target": {"S": "row-a"}}}
OTHER_KEY = {"Key": {"target": {"S": "row-b"}}}
CLAIM = {
    **KEY,
    "UpdateExpression": "SET lease_owner = :me, revision = if_not_exists(revision, :none) + :one",
    "ConditionExpression": "attribute_not_exists(lease_owner) OR lease_owner = :me",
    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
}


def values(me="first"):
    return {":me": {"S": me}, ":none": {"N": "0"}, ":one": {"N": "1"}}


def put(name, number):
    return row("put_item", Item={"target": {"S": name}, "weight": {"N": str(number)}, "kind": {"S": "even" if number % 2 == 0 else "odd"}})


def _protection(answer):
    return answer["DisableApiTermination"]["Value"]


SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}

SCRIPTS = {
    "attach": Script(
        steps=[
            launch("new"), LOOK, attach("$new"), SETTLE,
            attach("$new"), LOOK, attach("$new"), SETTLE,
            attach("i-0123456789abcdef0"),
        ],
    ),
    "attach beyond MaxSize": Script(
        maximum=1,
        steps=[
            launch("new"), SETTLE, attach("$new"), LOOK,
            of_group("update_auto_scaling_group", MaxSize=2), attach("$new"), LOOK, SETTLE,
        ],
    ),
    "attach what is gone": Script(
        steps=[launch("new"), SETTLE, terminate("$new"), SETTLE, attach("$new"), LOOK],
    ),
    "attach while Launch is suspended": Script(
        steps=[
            launch("new"), SETTLE, of_group("suspend_processes", ScalingProcesses=["Launch"]), attach("$new"),
            of_group("resume_processes", ScalingProcesses=["Launch"]), attach("$new"), SETTLE,
        ],
    ),
    "detach twice": Script(
        size=2,
        steps=[detach("$1"), LOOK, detach("$1"), SETTLE, detach("$1"), LOOK],
    ),
    "detach below MinSize, and without decrement": Script(
        minimum=1,
        steps=[detach("$1"), LOOK, detach("$1", decrement=False), terminate_in_group("$1"), SETTLE],
    ),
    "detach a member that is Pending": Script(
        steps=[launch("new"), SETTLE, attach("$new"), detach("$new"), LOOK, SETTLE],
    ),
    "terminate in group twice": Script(
        size=2,
        steps=[terminate_in_group("$1"), LOOK, terminate_in_group("$1"), detach("$1"), SETTLE, terminate_in_group("$1"), LOOK],
    ),
    "terminate in group below MinSize, and without decrement": Script(
        minimum=1,
        steps=[terminate_in_group("$1"), LOOK, terminate_in_group("$1", decrement=False), SETTLE],
    ),
    "terminate a stranger in no group": Script(
        steps=[launch("new"), SETTLE, terminate_in_group("$new"), detach("$new"), LOOK],
    ),
    "desired": Script(
        steps=[
            of_group("set_desired_capacity", DesiredCapacity=3), LOOK, of_group("set_desired_capacity", DesiredCapacity=2), SETTLE,
            of_group("set_desired_capacity", DesiredCapacity=1, HonorCooldown=False), SETTLE,
        ],
    ),
    "desired below MinSize": Script(
        minimum=1,
        steps=[of_group("set_desired_capacity", DesiredCapacity=0), LOOK],
    ),
    "sizes": Script(
        size=2,
        steps=[
            of_group("update_auto_scaling_group", MaxSize=1), SETTLE, of_group("update_auto_scaling_group", MinSize=2), LOOK,
            of_group("update_auto_scaling_group", MinSize=2, MaxSize=3), SETTLE,
            of_group("update_auto_scaling_group", DesiredCapacity=4), LOOK,
        ],
    ),
    "MaxSize while a member leaves": Script(
        size=2,
        steps=[detach("$1"), of_group("update_auto_scaling_group", MaxSize=1), LOOK, SETTLE],
    ),
    "processes": Script(
        steps=[
            of_group("suspend_processes", ScalingProcesses=["AZRebalance"]), LOOK,
            of_group("suspend_processes", ScalingProcesses=["AZRebalance", "Terminate"]), LOOK,
            of_group("resume_processes", ScalingProcesses=["AZRebalance"]), LOOK,
            of_group("resume_processes", ScalingProcesses=["AZRebalance"]), LOOK,
            of_group("suspend_processes", ScalingProcesses=["Rebalance"]),
        ],
    ),
    "a dead member while Terminate is suspended": Script(
        steps=[
            of_group("suspend_processes", ScalingProcesses=["Terminate"]), terminate("$1"), SETTLE,
            of_group("resume_processes", ScalingProcesses=["Terminate"]), SETTLE,
        ],
    ),
    "a dead member of a group with a hook": Script(
        hook="terminating", steps=[terminate("$1"), SETTLE],
    ),
    "a group that does not exist": Script(
        steps=[
            of_group("set_desired_capacity", AutoScalingGroupName="none", DesiredCapacity=1),
            of_group("update_auto_scaling_group", AutoScalingGroupName="none", MaxSize=1),
            of_group("suspend_processes", AutoScalingGroupName="none", ScalingProcesses=["Launch"]),
        ],
    ),
    "ClientToken": Script(
        steps=[
            launch("new", token="a", **SPOT), launch("new", token="a", **SPOT), launch("new", token="a", InstanceType="c5.large", **SPOT),
            launch("new", token="a"), LOOK, launch("other", token="b"), SETTLE,
            terminate("$new"), SETTLE, launch("new", token="a", **SPOT), LOOK,
        ],
    ),
    "a terminating hook": Script(
        size=2, hook="terminating",
        steps=[
            hooks(), terminate_in_group("$1"), LOOK, terminate_in_group("$1"), detach("$1"), SETTLE, detach("$2"), LOOK, SETTLE,
        ],
    ),
    "a launching hook": Script(
        hook="launching",
        steps=[
            launch("new"), SETTLE, attach("$new"), SETTLE, of_group("update_auto_scaling_group", MaxSize=3, DesiredCapacity=3), SETTLE,
        ],
    ),
    "members": Script(
        size=2, maximum=3, steps=[members(), launch("new"), SETTLE, attach("$new"), members(), SETTLE, members()],
    ),
    "status checks": Script(
        steps=[
            launch("new", **SPOT), status_checks("$new"), spot_request("$new"), SETTLE, status_checks("$new"), terminate("$new"), SETTLE,
            status_checks("$new"), spot_request("$new"), status_checks("i-0123456789abcdef0"), spot_request("i-0123456789abcdef0"),
            status_checks("$1"), spot_request("$1"),
        ],
    ),
    "protection": Script(
        steps=[
            PROTECT, ec2("describe_instance_attribute", _protection, InstanceId="$1", Attribute="disableApiTermination"), terminate("$1"),
            LOOK, terminate_in_group("$1"), SETTLE,
        ],
    ),
    "tags": Script(
        steps=[
            tag_group("blue"), group_tags(), launch("new"), SETTLE, attach("$new"),
            tags_of("$new", "team", "aws:autoscaling:groupName"), tag_group("green"), group_tags(),
            tags_of("$new", "team", "aws:autoscaling:groupName"), SETTLE, detach("$new"), SETTLE,
            tags_of("$new", "team", "aws:autoscaling:groupName"), untag_group("team"), untag_group("team"), group_tags(),
            ec2("create_tags", Resources=["$new"], Tags=[{"Key": "note", "Value": "1"}]), tags_of("$new", "note"),
            ec2("delete_tags", Resources=["$new"], Tags=[{"Key": "note"}]), tags_of("$new", "note"),
            ec2("create_tags", Resources=["i-0123456789abcdef0"], Tags=[{"Key": "note", "Value": "1"}]),
        ],
    ),
    "filters": Script(
        steps=[
            launch("new", token="filter-0", **SPOT), launch("other", token="filter-1"), instances_by(client_token="$group-filter-0"),
            instances_by(client_token="$group-filter-?"), instances_by(instance_type="m5.large", client_token="$group-filter-*"),
            instances_by(tag_key="aws:autoscaling:groupName", client_token="$group-filter-*"), terminate("$new"), SETTLE,
            instances_by(client_token="$group-filter-*", instance_state_name="running"),
            instances_by(client_token="$group-filter-*", instance_state_name="terminated"),
        ],
    ),
    "announcements": Script(
        steps=[
            publish(Message="text", Subject="subject"), publish(Message=""), publish(Message="text", Subject="s" * 101),
            publish("$topic-none", Message="text"),
            put_events({"Source": "spot-optimizer", "DetailType": "Swap Started", "Detail": "{}"}),
            put_events({"Source": "spot-optimizer", "DetailType": "Swap Started", "Detail": "no JSON"}),
            put_events({"Source": "aws.ec2", "DetailType": "EC2 Spot Instance Interruption Warning", "Detail": "{}"}),
        ],
    ),
    "a ClientToken in another zone": Script(
        steps=[launch("new", token="c"), launch("other", token="c", SubnetId="$elsewhere"), SETTLE],
    ),
    "launches that EC2 refuses": Script(
        steps=[
            launch("new", SubnetId="subnet-0123456789abcdef0"), launch("new", DryRun=True), LOOK,
            launch("new", InstanceType="m5.huge"),
        ],
    ),
    "terminate twice": Script(
        steps=[launch("new"), SETTLE, terminate("$new"), terminate("$new"), SETTLE, terminate("$new"), LOOK, terminate("i-0123456789abcdef0")],
    ),
    "a member that is terminated": Script(
        steps=[terminate("$1"), SETTLE],
    ),
    "targets": Script(
        size=0, has_target_group=True,
        steps=[
            launch("new"), targets("register_targets", "$new"), SETTLE, targets("describe_target_health", "$new"),
            targets("register_targets", "$new"), targets("describe_target_health", "$new"), SETTLE,
            targets("deregister_targets", "$new"), LOOK, targets("deregister_targets", "$new"), SETTLE,
            targets("describe_target_health", "i-0123456789abcdef0"),
        ],
    ),
    "a member's targets": Script(
        size=2, has_target_group=True,
        steps=[launch("new"), terminate_in_group("$1"), LOOK, SETTLE, attach("$new"), SETTLE],
    ),
    "conditional updates": Script(
        steps=[
            row("update_item", **CLAIM, ExpressionAttributeValues=values(), ReturnValues="ALL_NEW"),
            row("update_item", **CLAIM, ExpressionAttributeValues=values("second")),
            row("update_item", **{**CLAIM, "ReturnValuesOnConditionCheckFailure": "NONE"}, ExpressionAttributeValues=values("second")),
            row("update_item", **CLAIM, ExpressionAttributeValues=values(), ReturnValues="UPDATED_OLD"),
            row("get_item", **KEY, ConsistentRead=True),
            row("update_item", **{**CLAIM, **OTHER_KEY, "ConditionExpression": "attribute_exists(target)"}, ExpressionAttributeValues=values()),
            row("get_item", **OTHER_KEY, ConsistentRead=True),
            row("delete_item", **KEY, ConditionExpression="lease_owner = :me", ExpressionAttributeValues={":me": {"S": "second"}}),
            row("delete_item", **KEY, ConditionExpression="lease_owner = :me", ExpressionAttributeValues={":me": {"S": "first"}},
                ReturnValues="ALL_OLD"),
        ],
    ),
    "updates that are malformed": Script(
        steps=[
            row("update_item", **KEY, UpdateExpression="SET revision = :missing"),
            row("update_item", **KEY, UpdateExpression="SET target = :x", ExpressionAttributeValues={":x": {"S": "y"}}),
            row("update_item", **KEY, UpdateExpression="SET weight = weight + :one", ExpressionAttributeValues={":one": {"N": "1"}}),
            row("put_item", Item={"weight": {"N": "1"}}),
            row("get_item", **{**KEY, "TableName": "none"}),
            row("update_item", **KEY, UpdateExpression="REMOVE lease_owner"),
            row("get_item", **KEY),
            row("update_item", **KEY, UpdateExpression="SET size = :one", ExpressionAttributeValues={":one": {"N": "1"}}),
        ],
    ),
    "transactions": Script(
        steps=[
            put("row-a", 1),
            transaction(
                {"Update": {**OTHER_KEY, "UpdateExpression": "SET weight = :n", "ExpressionAttributeValues": {":n": {"N": "2"}}}},
                {"ConditionCheck": {**KEY, "ConditionExpression": "weight = :n", "ExpressionAttributeValues": {":n": {"N": "9"}},
                                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}},
            ),
            row("get_item", **OTHER_KEY),
            transaction(
                {"Put": {"Item": {"target": {"S": "row-b"}}, "ConditionExpression": "attribute_not_exists(target)"}},
                {"Delete": {**KEY, "ConditionExpression": "weight = :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}},
            ),
            row("get_item", **KEY), row("get_item", **OTHER_KEY),
            transaction({"Delete": OTHER_KEY}, {"Put": {"Item": {"target": {"S": "row-b"}}}}),
        ],
    ),
    "a transaction's token": Script(
        steps=[
            transaction({"Put": {"Item": {"target": {"S": "row-a"}}}}, token="$group-token"), row("delete_item", **KEY),
            transaction({"Put": {"Item": {"target": {"S": "row-a"}}}}, token="$group-token"), row("get_item", **KEY),
            transaction({"Put": {"Item": {"target": {"S": "row-b"}}}}, token="$group-token"),
        ],
    ),
    "batches": Script(
        steps=[
            batch("batch_write_item", [{"PutRequest": {"Item": {"target": {"S": f"row-{n}"}, "weight": {"N": str(n)}}}} for n in range(3)]),
            batch("batch_write_item", [{"DeleteRequest": {"Key": {"target": {"S": "row-0"}}}}, {"DeleteRequest": KEY}]),
            batch("batch_get_item", {"Keys": [{"target": {"S": f"row-{n}"}} for n in range(3)], "ConsistentRead": True}),
            batch("batch_write_item", [{"DeleteRequest": KEY}, {"DeleteRequest": KEY}]),
            batch("batch_write_item", [{"PutRequest": {"Item": {"target": {"S": f"row-{n}"}}}} for n in range(26)]),
            row("query", KeyConditionExpression="target = :row", ExpressionAttributeValues={":row": {"S": "row-1"}}),
            row("query", KeyConditionExpression="weight = :n", ExpressionAttributeValues={":n": {"N": "1"}}),
        ],
    ),
    "scans": Script(
        steps=[
            put("row-a", 1), put("row-b", 2), put("row-c", 3),
            row("scan"), page(Limit=2), page(Limit=2, ExclusiveStartKey={"target": {"S": "$last"}}), page(Limit=3), page(Limit=4),
            row("scan", FilterExpression="kind = :kind", ExpressionAttributeValues={":kind": {"S": "odd"}}),
            row("scan", FilterExpression="begins_with(target, :p) AND weight BETWEEN :low AND :high", ProjectionExpression="target",
                ExpressionAttributeValues={":p": {"S": "row-"}, ":low": {"N": "2"}, ":high": {"N": "3"}}),
            page(Limit=1, FilterExpression="attribute_not_exists(kind)"),
        ],
    ),
    "executions": Script(
        steps=[
            start("one", {"asg_name": "web"}), start("one", {"asg_name": "web"}), start("one", {"asg_name": "other"}), describe_execution(),
            END_EXECUTION, describe_execution(), start("one", {"asg_name": "web"}),
            start("two", {}, machine="$machine-none"), describe_execution("$execution-none"),
        ],
    ),
}  # fmt: skip

# (script, step) → the reason for which the two differ there. In each of them the world is what AWS documents.
KNOWN = {
    ("processes", "8 suspend_processes"):
        "moto takes any name. The API names nine: "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SuspendProcesses.html",
    ("a ClientToken in another zone", "1 run_instances"):
        "moto looks a token up in all zones, EC2 in the one of the request: "
        "https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html",
    ("a ClientToken in another zone", "2 settle"): "the same",
    ("launches that EC2 refuses", "3 run_instances"): "moto launches any type, the world the types of its catalog",
    ("terminate twice", "3 terminate_instances"): "moto knows no `shutting-down`",
    ("status checks", "8 describe_spot_instance_requests"):
        "moto gives the closed request of a terminated instance no new status: "
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html",
    ("tags", "20 create_tags"): "moto tags what does not exist",
    ("targets", "11 describe_target_health"):
        "moto describes any target. EC2 has forgotten this one: docs/to-try-on-aws.md asks what AWS says of it",
    ("updates that are malformed", "6 get_item"):
        "MiniStack makes an item of an update that only removes: https://github.com/scylladb/scylladb/issues/5862",
    ("updates that are malformed", "7 update_item"):
        "MiniStack knows no reserved words: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html",
    ("announcements", "1 publish"):
        "MiniStack publishes an empty message: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html",
    ("announcements", "2 publish"): "MiniStack takes a subject of more than 100 characters: the same page",
    ("announcements", "5 put_events"):
        "MiniStack takes a detail that is no JSON: "
        "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html",
    ("executions", "1 start_execution"):
        "MiniStack refuses the same input under the name of a running execution. Step Functions returns that execution: "
        "https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html",
}  # fmt: skip


SCRIPTS |= lab_scripts.SCRIPTS
KNOWN |= lab_scripts.KNOWN


@pytest.fixture(scope="module")
def world():
    server = WorldServer()
    yield server
    server.stop()


@pytest.mark.parametrize("title", SCRIPTS)
def test_the_world_and_local_aws_answer_the_same_script_alike(aws, world, title):
    differing = [(step, ours, theirs) for step, ours, theirs in both(aws, world, SCRIPTS[title]) if ours != theirs]
    unknown = [f"{step}:\n  local AWS {ours}\n  the world {theirs}" for step, ours, theirs in differing if (title, step) not in KNOWN]
    assert not unknown, "\n".join(unknown)
    gone = {step for script, step in KNOWN if script == title} - {step for step, *_ in differing}
    assert not gone, f"no difference any more: {gone}"
