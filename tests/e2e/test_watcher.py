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
    web.assert_swapped(follow(web, answer))
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
    wait_for(lambda: ours(inbox, "Swap Started") == [(web.name, None)])
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
    answer = watch()
    assert (list(started(answer)), answer["deferred"]) == ([second.name], [])
    second.assert_swapped(follow(second, answer))


def test_a_failure_pauses_and_failures_in_a_row_end_it(aws, scene, watch, inbox, settings):
    web = scene(size=1, minimum=0, tags=TAGGED)
    aws.control.newcomers(kill={"after_seconds": 0, "code": "Server.InternalError", "message": "internal error on launch"})
    report = follow(web, watch())
    assert [r["reason"] for r in report["rolled_back"]] == ["NEWCOMER_UNHEALTHY"]
    assert "NEWCOMER_UNHEALTHY" in tags(web)["spot-optimizer:last-error"][0]
    answer = told(watch(), web)
    assert answer["reason"] == "BACKING_OFF" and "NEWCOMER_UNHEALTHY" in answer["detail"]
    assert 10 * 60 < moment(answer["not_before"]) - time.time() <= 15 * 60
    assert told(watch(web), web) == answer, "a person who names it waits, too"

    settings(settle_seconds=0, max_failed_runs=1)
    assert told(watch(), web)["reason"] == "TOO_MANY_FAILURES"
    wait_for(lambda: any(web.name in str(m.get("Message", "")) for m in inbox()))
    wait_for(lambda: ours(inbox, "Swap Deferred") == [(web.name, "BACKING_OFF"), (web.name, "TOO_MANY_FAILURES")])
    web.assert_untouched()

    aws.control.newcomers(kill=None)
    aws.clear_memory()  # The way out. Its name is taken for the rest of the quarter of an hour.
    answer = watch()
    if started(answer):  # The next quarter has begun.
        web.assert_swapped(follow(web, answer))
    else:
        assert deferred(answer) == {web.name: "STARTED_RECENTLY"}


def test_nodes_go_one_at_a_time_under_the_slots_of_their_cluster(aws, nodes, watch):
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


def test_what_cannot_be_read_is_named(aws, watch):
    answer, error = aws.invoke("GroupWatcherFunctionName", {"asgname": "web"})
    assert answer is None and error["errorType"] == "InvalidInput" and "asgname" in error["errorMessage"]
    (failure,) = watch(asg_name="no such group")["failed"]
    assert failure["asg_name"] == "no such group" and "has no Auto Scaling group" in failure["error"], json.dumps(failure)
