"""The loop: which groups it starts, which it leaves for now and why. Nothing is started for a group without a tag."""

import concurrent.futures
import datetime
import json
import time

import pytest

from scene import wait_for

ENABLED, WINDOW = "spot-optimizer:enabled", "spot-optimizer:window"
TAGGED = {ENABLED: "true"}
HOUR = 3600
# What the watcher may do beside reading: its own table, an execution, an event.
OWN = {"UpdateItem", "StartExecution", "PutEvents"}


@pytest.fixture
def watch(aws, settings):
    """`watch()` sweeps, `watch(web)` looks at one group; returns the answer. New members count as settled."""
    aws.clear_memory()
    settings(settle_seconds=0)

    def look(group=None, **input):
        answer, error = aws.invoke("GroupWatcherFunctionName", {**({"asg_name": group.name} if group else {}), **input})
        assert error is None, error
        return answer

    yield look
    aws.clear_memory()


def started(answer):
    return {s["asg_name"]: s["execution_arn"] for s in answer["started"]}


def deferred(answer):
    return {d["asg_name"]: d["reason"] for d in answer["deferred"]}


def told(answer, group):
    (found,) = [d for d in answer["deferred"] if d["asg_name"] == group.name]
    return found


def moment(text):
    return datetime.datetime.fromisoformat(text).timestamp()


def ours(inbox, detail_type):
    events = [message for message in inbox() if message.get("detail-type") == detail_type]
    return [(event["detail"]["asg_name"], event["detail"].get("reason")) for event in events]


def ends(inbox, detail_type):
    """Returns the details of the swaps that ended so, by the old instance. A repeated step may tell again."""
    return {m["detail"]["old_instance_id"]: m["detail"] for m in inbox() if m.get("detail-type") == detail_type}


def alerts(inbox, name):
    return [m["Message"] for m in inbox() if name in str(m.get("Message", ""))]


def row(aws, group):
    return aws.table("GroupsTableName").get_item(Key={"group": group.before["AutoScalingGroupARN"]}).get("Item", {})


def running(aws):
    """Returns the executions that the loop counts as running."""
    return set(aws.table("GroupsTableName").get_item(Key={"group": "running"}).get("Item", {}).get("executions", ()))


def tags(group):
    return {t["Key"]: (t["Value"], t["PropagateAtLaunch"]) for t in group.group.describe()["Tags"]}


def executions(aws, group):
    found = aws.client("stepfunctions").list_executions(stateMachineArn=aws.outputs["ClusterSwapStateMachineArn"])["executions"]
    return [e["name"] for e in found if e["name"].startswith(f"loop-{group.name}-")]


def follow(group, answer):
    """Waits for the execution that the loop has started for the group; returns its report."""
    group.arn = started(answer)[group.name]
    execution = group.end()
    assert execution["status"] == "SUCCEEDED", execution
    return execution["output"]


def test_a_tagged_group_moves_to_spot_and_no_other_group_is_touched(aws, scene, watch, inbox, settings):
    web, plain, off = (
        scene(size=2, tags={**TAGGED, "spot-optimizer:last-error": "of an earlier run"}),
        scene(size=1, minimum=0),
        scene(size=1, minimum=0, tags={ENABLED: "false"}),
    )
    aws.control.clear_calls()
    answer = watch()
    assert (list(started(answer)), answer["deferred"], answer["failed"], answer["partial"]) == ([web.name], [], [], False)
    assert answer["looked_at"] == 1
    assert len(aws.control.calls(action="StartExecution")) == 1
    report = follow(web, answer)
    web.assert_swapped(report)
    last_run, propagates = tags(web)["spot-optimizer:last-run"]
    assert "swapped 2 skipped 0 rolled back 0 remaining 0" in last_run and not propagates
    assert "spot-optimizer:last-error" not in tags(web)

    aws.control.clear_calls()
    idle = watch()
    assert (idle["looked_at"], idle["started"], idle["deferred"], idle["failed"]) == (1, [], [], [])
    changes = {
        c["action"] for c in aws.control.calls() if not c["action"].startswith(("Describe", "BatchGet", "Get", "Scan", "AssumeRole"))
    }
    assert changes <= OWN - {"StartExecution"}
    assert watch(plain)["looked_at"] == watch(off)["looked_at"] == 0
    for left in (plain, off):
        left.assert_untouched()
        assert left.row() == {} and executions(aws, left) == []
    wait_for(lambda: ours(inbox, "Swap Started") == [(web.name, None)] and len(ends(inbox, "Swap Completed")) == 2)
    for old, told in ends(inbox, "Swap Completed").items():
        (swapped,) = [s for s in report["swapped"] if s["old_instance_id"] == old]
        assert (told["new_instance_id"], told["pool"], told["to"]) == (swapped["new_instance_id"], swapped["pool"], "SPOT")
        assert (told["execution_arn"], told["asg_name"], told["account_id"], told["region"]) == (
            web.arn,
            web.name,
            aws.account,
            "us-east-1",
        )
    assert alerts(inbox, web.name) == [], "a run that does what it should alerts nobody"
    assert row(aws, web)["failures"] == 0 and running(aws) == set()

    settings(settle_seconds=0, enrolment="opt-out")
    assert list(started(watch(plain))) == [plain.name], "each group is enrolled then"
    assert watch(off)["started"] == []
    plain.arn = row(aws, plain)["execution"]
    plain.end()


def test_a_launch_starts_the_swap_and_our_own_attach_starts_none(aws, scene, watch):
    web = scene(size=1, minimum=0, maximum=4, tags=TAGGED)
    aws.control.launch_events()
    aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=2)
    wait_for(lambda: len(web.group.spot) == 2 and len(web.group.instance_ids) == 2, 90)
    wait_for(lambda: not web.leased())
    # Both attaches were launches to Auto Scaling, too.
    assert len(executions(aws, web)) == 1
    newcomer = web.group.spot[0]
    aws.control.launch_events(False)
    aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=3)
    wait_for(lambda: [i["LifecycleState"] for i in web.group.describe()["Instances"]] == ["InService"] * 3)
    aws.control.clear_calls()

    def launched(instance_id):
        event = {
            "version": "0", "id": "1", "source": "aws.autoscaling", "detail-type": "EC2 Instance Launch Successful",
            "account": aws.account, "region": "us-east-1", "time": "2026-11-20T10:00:00Z", "resources": [],
            "detail": {"AutoScalingGroupName": web.name, "EC2InstanceId": instance_id},
        }  # fmt: skip
        answer, error = aws.invoke("GroupWatcherFunctionName", event)
        assert error is None, error
        return answer

    of_ours = launched(newcomer)
    assert (of_ours["started"], of_ours["deferred"]) == ([], []), "although another member is On-Demand"
    assert aws.control.calls(action="StartExecution") == []
    (on_demand,) = web.group.on_demand
    answer = launched(on_demand)
    if started(answer):  # The next quarter of an hour has begun.
        follow(web, answer)
    else:
        assert deferred(answer) == {web.name: "STARTED_RECENTLY"}


def test_every_brake_has_its_reason_and_is_told_once(aws, scene, watch, inbox, settings):
    day = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)).strftime("%a")
    alone = {"size": 1, "minimum": 0, "zones": ["us-east-1a"]}
    closed = scene(**alone, tags={**TAGGED, WINDOW: f"{day} 00:00-24:00 UTC"})
    bad = scene(**alone, tags={**TAGGED, WINDOW: "nine to five"})
    unsure = scene(**alone, tags={ENABLED: "yes"})
    hooked = scene(**alone, tags=TAGGED)
    hooked.hook("LAUNCHING")
    poisoned = scene(**alone, tags=TAGGED, overrides=["c5.large", "c5a.large"])
    aws.poison("us-east-1#use1-az6#c5.large", 5 * HOUR)
    aws.poison("us-east-1#use1-az6#c5a.large", 2 * HOUR)
    leased = scene(**alone, tags=TAGGED).start_held()
    wait_for(leased.leased)
    aws.control.clear_calls()
    answer = watch()
    reasons = {
        closed: "WINDOW_CLOSED", bad: "BAD_TAG", unsure: "BAD_TAG", hooked: "GROUP_NOT_SUPPORTED", poisoned: "POOL_POISONED",
        leased: "SWAP_IN_PROGRESS",
    }  # fmt: skip
    assert deferred(answer) == {group.name: reason for group, reason in reasons.items()}
    assert (answer["started"], answer["looked_at"], answer["failed"]) == ([], len(reasons), [])
    assert WINDOW in told(answer, bad)["detail"] and "nine" in told(answer, bad)["detail"]
    opens = moment(told(answer, closed)["not_before"])
    assert datetime.datetime.fromtimestamp(opens, datetime.UTC).strftime("%a %H:%M") == f"{day} 00:00"
    assert abs(moment(told(answer, poisoned)["not_before"]) - time.time() - 2 * HOUR) < 60, "the earliest end"
    once = sorted((group.name, reason) for group, reason in reasons.items())
    wait_for(lambda: sorted(ours(inbox, "Swap Deferred")) == once)

    aws.control.clear_calls()
    assert deferred(watch()) == deferred(answer)
    assert {c["action"] for c in aws.control.calls()} & OWN == set(), "nothing is told or noted twice"
    assert [c for c in aws.control.calls() if c["action"] == "DescribeLifecycleHooks"] == [], "what was looked at is not asked again"
    assert aws.control.calls(action="StartExecution") == []
    assert row(aws, poisoned)["reason"] == "POOL_POISONED"

    settings(settle_seconds=HOUR)
    young = told(watch(poisoned), poisoned)
    assert young["reason"] == "SETTLING" and 0 < moment(young["not_before"]) - time.time() <= HOUR
    bad.tag_group(WINDOW, "Mon-Sun 00:00-24:00 UTC")
    assert told(watch(bad), bad)["reason"] == "SETTLING"
    settings(settle_seconds=0)
    assert list(started(watch(bad))) == [bad.name], "a tag that is corrected holds at once"
    leased.let_go().end()
    bad.arn = row(aws, bad)["execution"]
    bad.end()
    assert len(ours(inbox, "Swap Started")) == 1


def test_one_starts_where_two_ask_and_no_more_run_than_may(aws, scene, watch, settings):
    settings(settle_seconds=0, max_groups_at_once=1)
    first, second = scene(size=1, minimum=0, tags=TAGGED), scene(size=1, minimum=0, tags=TAGGED)
    aws.control.newcomers(status="initializing")  # Each swap waits for the test.
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        answers = [answer.result() for answer in [both.submit(watch, first), both.submit(watch, first)]]
    arns = {arn for answer in answers for arn in started(answer).values()}
    assert len(arns) == 1 and len(executions(aws, first)) == 1
    assert {reason for answer in answers for reason in deferred(answer).values()} <= {
        "SWAP_IN_PROGRESS",
        "TOO_MANY_AT_ONCE",
        "STARTED_RECENTLY",
    }
    answer = watch()
    assert deferred(answer) == {first.name: "SWAP_IN_PROGRESS", second.name: "TOO_MANY_AT_ONCE"}
    assert executions(aws, second) == []
    first.arn = arns.pop()
    aws.control.newcomers(status="ok")
    aws.control.instance(first.newcomer(), status="ok")
    first.end()
    # Now a person starts the other in the same moment: one of the two works, and neither counts as a failure.
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        by_hand, by_loop = both.submit(second.start), both.submit(watch)
        arns = {by_hand.result().arn, *started(by_loop.result()).values()}
    ended = [aws.wait_execution(arn) for arn in arns]
    assert sum(len(e["output"]["swapped"]) for e in ended if e["status"] == "SUCCEEDED") == 1, ended
    assert {e.get("error") for e in ended if e["status"] == "FAILED"} <= {"GroupBusy"}
    assert len(second.group.spot) == len(second.group.instance_ids) == 1
    answer = watch()
    assert (answer["started"], answer["deferred"], answer["failed"]) == ([], [], [])
    assert row(aws, second).get("failures", 0) == 0 and running(aws) == set()


def test_an_owner_who_changes_their_mind_is_obeyed_while_the_loop_works(aws, scene, watch, inbox):
    """One group opts out in the middle of its swap: that is undone. The other only loses the tag: its swap ends as it began."""
    out, off = scene(size=1, minimum=0, tags=TAGGED), scene(size=1, minimum=0, tags=TAGGED)
    aws.control.newcomers(status="initializing")
    begun = started(watch())
    out.arn, off.arn = begun[out.name], begun[off.name]
    newcomers = [wait_for(group.newcomer) for group in (out, off)]
    out.tag_group("spot-optimizer:opt-out", "true")
    tag = {"ResourceId": off.name, "ResourceType": "auto-scaling-group", "Key": ENABLED}
    aws.client("autoscaling").delete_tags(Tags=[tag])
    aws.control.newcomers(status="ok")
    for newcomer in newcomers:
        aws.control.instance(newcomer, status="ok")
    assert [r["reason"] for r in out.end()["output"]["rolled_back"]] == ["OPTED_OUT"]
    assert len(off.end()["output"]["swapped"]) == 1
    out.assert_untouched()
    aws.control.clear_calls()
    answer = watch()
    assert (answer["looked_at"], answer["started"], answer["deferred"], answer["failed"]) == (1, [], [], [])
    assert aws.control.calls(action="StartExecution") == [] and running(aws) == set()
    wait_for(lambda: list(ends(inbox, "Swap Rolled Back")) == out.old and list(ends(inbox, "Swap Completed")) == off.old)


def test_a_member_that_is_too_young_holds_up_no_settled_one(aws, scene, watch, settings):
    web = scene(size=2, tags=TAGGED)
    settled, young = web.old
    settings(settle_seconds=HOUR)
    aws.control.instance(settled, set={"LaunchTime": "2026-01-01T00:00:00Z"})
    answer = watch()
    assert (list(started(answer)), answer["deferred"]) == ([web.name], [])
    report = follow(web, answer)
    assert [s["old_instance_id"] for s in report["swapped"]] == [settled], report
    assert young in web.group.on_demand and len(web.group.spot) == 1
    assert told(watch(), web)["reason"] == "SETTLING"


def test_a_lab_instance_is_swapped_once_and_one_that_is_brought_back_stays(aws, lab, watch, inbox):
    tagged, plain = lab(tags=TAGGED), lab()
    aws.control.clear_calls()
    assert watch()["looked_at"] == 0, "the account is PROD"
    assert [c for c in aws.control.calls(action="DescribeInstances") if ENABLED in str(c["params"])] == []
    with aws.function_environment("GroupWatcherFunctionName", ENVIRONMENT_TYPE="LAB"):
        answer = watch()
        ((begun,), looked_at) = answer["started"], answer["looked_at"]
        assert (begun["instance_id"], "asg_name" in begun, looked_at) == (tagged.old.id, False, 1)
        tagged.arn = begun["execution_arn"]
        report = tagged.end()
        tagged.assert_swapped(report)
        idle = watch()
        assert (idle["started"], idle["deferred"], idle["failed"]) == ([], [], []), "its twin bears the tag, too"
        wait_for(lambda: ends(inbox, "Swap Completed"))
        (told,) = ends(inbox, "Swap Completed").values()
        assert (told["old_instance_id"], told["new_instance_id"]) == (tagged.old.id, report["new_instance_id"])
        assert "asg_name" not in told and alerts(inbox, tagged.old.id) == []
        tagged.swap(bring_back=True)
        (left,) = watch()["deferred"]
        assert (left["instance_id"], left["reason"]) == (tagged.old.id, "BROUGHT_BACK")
        assert watch()["started"] == []
        wait_for(lambda: [m["detail"]["instance_id"] for m in inbox() if m.get("detail-type") == "Swap Deferred"] == [tagged.old.id])
    plain.assert_untouched()
    assert len(aws.control.calls(action="StartExecution")) == 1


def test_a_failure_pauses_and_failures_in_a_row_end_it(aws, scene, watch, inbox, settings):
    web = scene(size=1, minimum=0, tags=TAGGED)
    aws.control.newcomers(kill={"after_seconds": 0, "code": "Server.InternalError", "message": "internal error on launch"})
    report = follow(web, watch())
    assert [r["reason"] for r in report["rolled_back"]] == ["NEWCOMER_UNHEALTHY"]
    wait_for(lambda: ends(inbox, "Swap Rolled Back") and alerts(inbox, web.name))
    (undone,) = ends(inbox, "Swap Rolled Back").values()
    assert (undone["asg_name"], undone["reason"], undone["old_instance_id"]) == (web.name, "NEWCOMER_UNHEALTHY", web.old[0])
    assert aws.instance(undone["new_instance_id"])["State"]["Name"] == "terminated" and undone["pool"].endswith("#m5.large")
    (alert,) = alerts(inbox, web.name)
    assert "1 rolled back" in alert and "NEWCOMER_UNHEALTHY" in alert and web.arn in alert
    assert "NEWCOMER_UNHEALTHY" in tags(web)["spot-optimizer:last-error"][0]
    answer = told(watch(), web)
    assert answer["reason"] == "BACKING_OFF" and "NEWCOMER_UNHEALTHY" in answer["detail"]
    assert 10 * 60 < moment(answer["not_before"]) - time.time() <= 15 * 60
    assert told(watch(web), web) == answer, "a person who names it waits, too"

    settings(settle_seconds=0, max_failed_runs=1)
    assert told(watch(), web)["reason"] == "TOO_MANY_FAILURES"
    wait_for(lambda: len(alerts(inbox, web.name)) == 2)
    wait_for(lambda: ours(inbox, "Swap Deferred") == [(web.name, "BACKING_OFF"), (web.name, "TOO_MANY_FAILURES")])
    web.assert_untouched()

    aws.control.newcomers(kill=None)
    aws.clear_memory()  # The way out. Its name is taken for the rest of the quarter of an hour.
    answer = watch()
    if started(answer):  # The next quarter has begun.
        web.assert_swapped(follow(web, answer))
    else:
        assert deferred(answer) == {web.name: "STARTED_RECENTLY"}


def test_nodes_go_one_at_a_time_under_the_slots_of_their_cluster(aws, nodes, watch, inbox):
    web = nodes(size=2, tags=TAGGED)
    for last in (False, True):
        answer = watch()
        ((begun,), left) = answer["started"], answer["deferred"]
        assert (begun["asg_name"], left) == (web.name, []) and begun["instance_id"] in web.old
        web.arn, web.instance_id = begun["execution_arn"], begun["instance_id"]
        web.old = [web.instance_id] if last else web.old
        assert web.finish()["outcome"] == "SWAPPED"
    assert len(web.group.spot) == 2
    assert watch()["started"] == []
    wait_for(lambda: len(ends(inbox, "Swap Completed")) == 2)
    told = ends(inbox, "Swap Completed")[web.instance_id]
    assert (told["asg_name"], told["cluster_name"], told["new_instance_id"] in web.group.spot) == (web.name, "local", True)


def test_what_cannot_be_read_is_named(aws, watch):
    answer, error = aws.invoke("GroupWatcherFunctionName", {"asgname": "web"})
    assert answer is None and error["errorType"] == "InvalidInput" and "asgname" in error["errorMessage"]
    (failure,) = watch(asg_name="no such group")["failed"]
    assert failure["asg_name"] == "no such group" and "has no Auto Scaling group" in failure["error"], json.dumps(failure)
