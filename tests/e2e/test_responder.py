"""The answers to interruptions: a member of an enrolled group leaves in time, and as many serve as before."""

import datetime
import json

import pytest

import notices
from local_aws.stack import INTERRUPTION, REBALANCE
from notices import ENROLLED, answered
from scene import SIZES, is_change, wait_for, wait_for_look


@pytest.fixture
def enrolled(scene):
    """`enrolled(size=2, …)` makes an enrolled group at its MaxSize, whose first member is Spot."""

    def make(tags=ENROLLED, **options):
        web = scene(**{"size": 2, "minimum": 2, "maximum": 2, "tags": tags, **options})
        web.doomed = web.old[0]
        web.aws.control.instance(web.doomed, set={"InstanceLifecycle": "spot"})
        return web

    return make


def hear(web, instance_id=None, *notice):
    return notices.hear(web, instance_id or web.doomed, *notice)


def sizes(web):
    after = web.group.describe()
    return {size: after[size] for size in SIZES}


def changes(aws):
    return {call["action"] for call in aws.control.calls() if is_change(call)}


def assert_restored(web):
    """Nothing is raised, as many serve as before without the doomed one, and the group is free."""
    wait_for(lambda: web.doomed not in web.group.instance_ids)
    wait_for(lambda: [i["LifecycleState"] for i in web.group.describe()["Instances"]] == ["InService"] * len(web.old))
    assert sizes(web) == {size: web.before[size] for size in SIZES}
    wait_for(lambda: not {"lease_owner", "journal"} & set(web.row()))


def test_a_replacement_comes_first_and_a_notice_that_comes_twice_is_answered_once(aws, enrolled, inbox):
    web = enrolled(with_target_group=True)
    web.hook("TERMINATING")
    started = hear(web)
    assert hear(web)["execution_arn"] == started["execution_arn"]
    answer = answered(web, started)
    again = hear(web)
    assert again.get("outcome") == "IGNORED" or again["execution_arn"] == started["execution_arn"], "late"
    assert (answer["outcome"], answer["asg_name"], answer["instance_id"]) == ("REPLACED", web.name, web.doomed)
    assert answer["served_at_least"] == 2 and "reason" not in answer
    states = {m["lifecycle_state"] for sample in web.capacity.samples for m in sample["members"] if m["instance_id"] == web.doomed}
    assert "Terminating:Wait" in states, "its hook runs"
    assert_restored(web)  # The hook may still hold the doomed one in its group until here.
    health = aws.client("elbv2").describe_target_health(TargetGroupArn=web.group.target_group)["TargetHealthDescriptions"]
    assert sorted(t["Target"]["Id"] for t in health if t["TargetHealth"]["State"] == "healthy") == sorted(web.group.instance_ids)
    assert web.capacity.lowest >= 2 and web.capacity.highest_desired == 3
    wait_for(lambda: any("Interruption Answered" in json.dumps(told) for told in inbox()))


def test_a_drill_through_the_bus_is_answered(aws, enrolled):
    web = enrolled()
    aws.put_drill(web.doomed)
    assert_restored(web)
    assert web.capacity.lowest >= 2


def test_a_group_that_is_not_enrolled_is_left_alone_and_so_is_one_that_opted_out(aws, enrolled):
    web, out = enrolled(tags={}), enrolled(tags={"spot-optimizer:enabled": "false"})
    aws.control.clear_calls()
    assert [(a["outcome"], a["reason"]) for a in map(hear, (web, out))] == [("IGNORED", "NOT_ENROLLED"), ("IGNORED", "OPTED_OUT")]
    on_demand = hear(web, web.old[1])
    assert (on_demand["outcome"], on_demand["reason"]) == ("IGNORED", "NOT_SPOT")
    assert changes(aws) <= {"PutEvents"}
    web.assert_untouched()
    out.assert_untouched()


def test_while_a_swap_works_on_the_group_the_instance_leaves_at_once_and_the_group_replaces_it(aws, enrolled):
    web = enrolled(maximum=3)
    web.start_held()
    web.newcomer()
    answer = answered(web, hear(web))
    assert (answer["outcome"], answer["reason"]) == ("RELEASED", "GROUP_LEASED")
    at_risk = hear(web, web.doomed, REBALANCE)
    assert at_risk["outcome"] == "IGNORED"
    wait_for(lambda: web.doomed not in web.group.instance_ids and len(web.group.instance_ids) == 2)
    report = web.let_go().end()["output"]
    assert [swapped["old_instance_id"] for swapped in report["swapped"]] == [web.old[1]], report
    assert sizes(web) == {size: web.before[size] for size in SIZES}


def test_two_notices_in_one_group_are_both_answered_and_one_of_them_at_once(aws, enrolled):
    web = enrolled(size=3, minimum=3, maximum=3)
    second = web.old[1]
    aws.control.instance(second, set={"InstanceLifecycle": "spot"})
    aws.control.timing(group_launch=600)
    first = hear(web)
    aws.wait_state(first["execution_arn"], "PauseForReplacement")
    answer = answered(web, hear(web, second))
    assert (answer["outcome"], answer["reason"]) == ("RELEASED", "GROUP_LEASED")
    wait_for(lambda: second not in web.group.instance_ids)
    aws.control.timing(group_launch=0.2)
    assert answered(web, first)["outcome"] == "REPLACED"
    assert_restored(web)


def test_a_replacement_that_dies_at_the_last_moment_is_waited_for_anew(aws, enrolled):
    web = enrolled()
    aws.control.timing(group_launch=600, replace=0.2)
    web.arn = hear(web)["execution_arn"]
    web.reach("PauseForReplacement")
    held = aws.control.fault("GetItem", kind="hold", match={"Key": web.name})  # Release reads the row before it looks.
    aws.control.timing(group_launch=0.2)
    wait_for(lambda: next(f["hits"] for f in aws.control.faults() if f["id"] == held["id"]))
    aws.control.timing(group_launch=600)
    (replacement,) = set(web.group.instance_ids) - {*web.old}
    aws.control.kill(replacement)
    wait_for(lambda: replacement not in web.group.instance_ids)
    aws.control.clear_faults()
    web.reach_again("PauseForReplacement")
    assert web.doomed in web.group.instance_ids and sizes(web)["DesiredCapacity"] == 3
    aws.control.timing(group_launch=0.2)
    answer = web.end()["output"]
    assert (answer["outcome"], answer["served_at_least"]) == ("REPLACED", 2) and "Leave" not in web.states()
    assert_restored(web)
    assert web.capacity.lowest >= 2


def test_a_notice_that_comes_late_is_answered_as_far_as_there_is_time(aws, enrolled):
    ago = lambda seconds: (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
    hurried, over, gone = enrolled(), enrolled(), enrolled()
    gone.aws.client("ec2").terminate_instances(InstanceIds=[gone.doomed])
    answer = answered(hurried, hear(hurried, None, INTERRUPTION, ago(85)))
    assert (answer["outcome"], answer["reason"]) == ("RELEASED", "NO_TIME")
    late = [hear(over, None, INTERRUPTION, ago(130)), hear(gone)]
    assert [(a["outcome"], a["reason"]) for a in late] == [("IGNORED", "TOO_LATE"), ("IGNORED", "INSTANCE_GONE")]
    assert_restored(hurried)
    assert hurried.capacity.highest_desired == 2
    over.assert_untouched()


def test_a_policy_that_scales_out_meanwhile_keeps_what_it_asked_for(aws, enrolled):
    web = enrolled(maximum=5)
    aws.control.timing(group_launch=600)
    first = hear(web)
    aws.wait_state(first["execution_arn"], "PauseForReplacement")
    aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=5)
    aws.control.timing(group_launch=0.2)
    answer = answered(web, first)
    assert answer["outcome"] == "FAILED" and "desired capacity is 5" in answer["detail"], "a person is told"
    wait_for(lambda: web.doomed not in web.group.instance_ids and len(web.group.instance_ids) == 5)
    assert sizes(web)["DesiredCapacity"] == 5 and not web.leased()


def test_a_replacement_serves_once_it_has_its_owners_ready_tag(aws, enrolled):
    web = enrolled(tags={**ENROLLED, "spot-optimizer:ready-tag": "app=ready"})
    started = hear(web)
    (newcomer,) = wait_for(lambda: [i for i in in_service(web) if i not in web.old])
    aws.wait_state(started["execution_arn"], "PauseForReplacement")
    wait_for_look(lambda: [name for _, name in aws.states(started["execution_arn"])], "PauseForReplacement")
    assert web.doomed in in_service(web), "what has no tag yet takes nobody's place"
    aws.client("ec2").create_tags(Resources=[newcomer], Tags=[{"Key": "app", "Value": "ready"}])
    answer = answered(web, started)
    assert answer["outcome"] == "REPLACED" and "reason" not in answer, answer
    assert_restored(web)


def in_service(web):
    return [i["InstanceId"] for i in web.group.describe()["Instances"] if i["LifecycleState"] == "InService"]


def test_without_room_it_leaves_at_once_and_max_size_is_the_owners(aws, enrolled):
    web = enrolled()
    aws.control.fault("SetDesiredCapacity", code="ValidationError", status=400)
    answer = answered(web, hear(web))
    assert (answer["outcome"], answer["reason"]) == ("RELEASED", "NO_ROOM")
    assert_restored(web)
    assert web.capacity.highest_desired == 2


@pytest.mark.parametrize("dies", [False, True], ids=["the doomed one lives", "EC2 was faster"])
def test_an_execution_that_is_stopped_leaves_nothing_raised(aws, enrolled, settings, dies):
    web = enrolled()
    aws.control.timing(group_launch=600, replace=0.2)
    web.arn = hear(web)["execution_arn"]
    web.reach("PauseForReplacement").stop()
    if dies:
        aws.control.kill(web.doomed)
    aws.control.timing(group_launch=0.2)
    settings(reconcile_after_seconds=0)
    web.reconcile_until_free()
    assert_restored(web)
    assert "by the reconciler" in web.row()["last_summary"]


def test_a_member_at_risk_is_replaced_by_the_swap_of_its_group_and_no_more_than_the_share_within_an_hour(aws, enrolled):
    web = enrolled(size=3, minimum=3, maximum=4)
    aws.control.instance(web.old[1], set={"InstanceLifecycle": "spot"})
    started = hear(web, web.doomed, REBALANCE)
    web.arn = started["execution_arn"]
    execution = aws.wait_execution(web.arn)
    given = json.loads(execution["input"])
    assert (given["asg_name"], given["replace"]) == (web.name, [web.doomed])
    assert execution["stateMachineArn"] == aws.outputs["ClusterSwapStateMachineArn"]
    refused = hear(web, web.old[1], REBALANCE)
    assert (refused["outcome"], refused["reason"]) == ("IGNORED", "SHARE_AT_RISK")
