"""Executions that die half-way: the reconciler finishes or undoes their swaps, from the journal alone."""

import concurrent.futures
import json
import time

import pytest

from scene import wait_for


@pytest.fixture
def quiet(settings):
    """Reconciles dead executions at once: safe here, because the Lambda that may still run only reads."""
    settings(reconcile_after_seconds=0)


def waiting_in(scene, state, **options):
    """Returns a swap of a group of one at its MaxSize, whose execution is stopped while it waits in this state."""
    web = scene(**{"size": 1, "minimum": 1, "maximum": 1, "with_target_group": True, **options})
    hold = {
        "PauseForHealth": lambda: web.aws.control.newcomers(status="initializing"),
        "PauseForInService": lambda: web.aws.control.newcomers(target_health={"state": "initial"}),
        "PauseForRetirement": lambda: web.aws.control.timing(target_drain=600),
    }
    hold[state]()
    web.start().reach(state).stop()
    web.aws.control.timing(target_drain=0.2)
    return web


def _serving(web):
    return [i["InstanceId"] for i in web.group.describe()["Instances"] if i["LifecycleState"] == "InService"]


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForInService"])
def test_an_execution_stopped_before_the_old_one_leaves_is_undone_by_the_status_change(quiet, scene, state, inbox):
    web = waiting_in(scene, state)
    # No sweep yet: the event alone sends the newcomer away. What then takes time is the next visit's.
    wait_for(lambda: not web.leased() or web.newcomer() not in _serving(web))
    web.reconcile_until_free()
    web.assert_untouched()
    assert "Undone by the reconciler" in web.row()["last_summary"]
    details = lambda: [m["detail"] for m in inbox() if m.get("detail-type") == "Swap Rolled Back"]  # noqa: E731
    told = wait_for(lambda: [detail for detail in details() if detail["execution_arn"] == web.arn])
    # EventBridge delivers at least once.
    assert {(detail["old_instance_id"], detail["reason"]) for detail in told} == {(web.old[0], "EXECUTION_DIED")}
    wait_for(lambda: [m for m in inbox() if web.arn in str(m.get("Message", "")) and "undone" in m["Subject"]])


def test_an_execution_stopped_after_the_old_one_left_is_finished(aws, quiet, scene, inbox):
    web = waiting_in(scene, "PauseForRetirement")
    wait_for(lambda: aws.invoke("ReconcilerFunctionName", {"task": "sweep"}) and not web.leased())
    newcomer = web.newcomer()
    assert web.group.instance_ids == [newcomer]
    assert aws.instance(web.old[0])["State"]["Name"] == "terminated"
    web.assert_owners()
    assert "Finished by the reconciler" in web.row()["last_summary"]
    wait_for(lambda: web.kept_pool(newcomer) == aws.pool_of(newcomer))
    (told,) = wait_for(lambda: [m["detail"] for m in inbox() if m.get("detail-type") == "Swap Completed"])
    assert (told["old_instance_id"], told["new_instance_id"], told["pool"]) == (web.old[0], newcomer, aws.pool_of(newcomer))
    assert "the reconciler" in told["detail"]


@pytest.mark.parametrize("state", ["WaitForHealth", "WaitForInService"], ids=["Launch", "Attach"])
def test_an_execution_stopped_right_after(aws, quiet, scene, state):
    web = scene(size=2, maximum=2)
    if state == "WaitForHealth":
        aws.control.newcomers(status="initializing")
    aws.control.timing(attach=600)
    web.start().reach(state).stop()
    aws.control.timing(attach=0.2)
    web.reconcile_until_free()
    web.assert_untouched()


@pytest.mark.parametrize("call", ["RunInstances", "AttachInstances", "TerminateInstances"])
def test_an_execution_stopped_while_a_call_is_under_way(aws, scene, call):
    web = scene(size=1, minimum=1, maximum=1)
    aws.control.fault(call, kind="hold")
    web.start()
    wait_for(lambda: aws.control.faults()[0]["hits"])
    web.stop(then=aws.control.clear_faults)
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    if call == "TerminateInstances":
        newcomer = web.newcomer()
        pool = aws.pool_of(newcomer)
        wait_for(lambda: web.kept_pool(newcomer) == pool)  # The reconciler keeps it last.
        web.assert_swapped({"swapped": [{"old_instance_id": web.old[0], "new_instance_id": newcomer, "pool": pool}]})
    else:
        web.assert_untouched()


def test_a_new_execution_can_start_afterwards(quiet, scene):
    web = waiting_in(scene, "PauseForHealth")
    wait_for(lambda: not web.leased())
    web.aws.control.reset()
    web.assert_swapped(web.swap())


def test_until_then_the_group_stays_locked(aws, scene):
    web = waiting_in(scene, "PauseForHealth")
    error, cause = web.refused()
    assert (error, "is working on it" in cause) == ("GroupBusy", True)
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    web.assert_untouched()


def test_a_running_execution_is_left_alone(aws, quiet, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(status="initializing")
    web.start().reach("PauseForHealth")
    summary, error = aws.invoke("ReconcilerFunctionName", {"task": "sweep"})
    assert error is None and summary["running"] == [f"group {web.name}"]
    aws.control.instance(web.newcomer(), status="ok")
    web.assert_swapped(web.end()["output"])


def test_an_execution_that_died_too_recently_is_left_for_a_retry(aws, scene, settings):
    web = waiting_in(scene, "PauseForHealth")
    summary, error = aws.invoke("ReconcilerFunctionName", {"task": "sweep"})
    assert error is None and summary["too_early"] == [f"group {web.name}"]
    envelope = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change"}
    about = {**envelope, "detail": {"executionArn": web.arn, "status": "ABORTED"}}
    _, error = aws.invoke("ReconcilerFunctionName", about)
    assert error["errorType"] == "TooEarly" and web.name in error["errorMessage"]
    assert web.leased()
    settings(reconcile_after_seconds=3)
    web.reconcile_until_free()
    web.assert_untouched()


def test_two_reconcilers_at_once_do_what_one_does(aws, scene):
    web = waiting_in(scene, "PauseForInService")
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: aws.invoke("ReconcilerFunctionName", {"task": "sweep"}), range(4)))
    web.reconcile_until_free()
    web.assert_untouched()


def test_two_reconcilers_at_once_remove_a_dead_newcomer_once(aws, scene):
    web = waiting_in(scene, "PauseForInService", size=2, minimum=1, maximum=2)
    aws.control.timing(replace=60)
    aws.control.kill(web.newcomer())
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: aws.invoke("ReconcilerFunctionName", {"task": "sweep"}), range(4)))
    web.reconcile_until_free()
    web.assert_untouched()


@pytest.mark.parametrize("replace", [0.2, 60], ids=["noticed by the group", "not noticed"])
def test_a_newcomer_that_died_with_its_execution_is_cleared_away(aws, scene, replace):
    web = waiting_in(scene, "PauseForInService")
    aws.control.timing(replace=replace, group_launch=0.3)
    aws.control.kill(web.newcomer())
    if replace < 1:
        wait_for(lambda: len(web.group.instance_ids) == 2 and web.newcomer() not in web.group.instance_ids)
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    after = web.group.describe()
    assert (after["DesiredCapacity"], after["MaxSize"], after["SuspendedProcesses"]) == (1, 1, [])
    wait_for(lambda: len(web.group.instance_ids) == 1)  # One too many, of the group's own launches, leaves by itself.
    assert web.capacity.lowest == 1
    web.assert_no_stray()


def test_an_old_one_whose_newcomer_died_with_the_execution_comes_back(aws, scene):
    web = waiting_in(scene, "PauseForRetirement", maximum=2)
    aws.control.timing(replace=60)
    wait_for(lambda: web.old[0] not in web.group.instance_ids)
    aws.control.kill(web.newcomer())
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    assert aws.control.groups()[web.name]["in_service"] >= 1
    assert web.group.describe()["SuspendedProcesses"] == []
    web.assert_no_stray()


def test_a_swap_whose_group_was_deleted_leaves_nothing(aws, scene):
    web = waiting_in(scene, "PauseForHealth", with_target_group=False)
    web.group.delete()
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    web.assert_no_stray()


def test_a_lease_that_cannot_be_read_does_not_keep_the_others_waiting(aws, scene):
    web = waiting_in(scene, "PauseForHealth")
    table = aws.table("SwapsTableName")
    table.put_item(Item={"target": "nonsense", "lease_owner": "nobody"})
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    try:
        _, error = aws.invoke("ReconcilerFunctionName", {"task": "sweep"})
        assert error["errorType"] == "ReconcileFailed" and "nonsense" in error["errorMessage"]
        web.reconcile_until_free()
        web.assert_untouched()
    finally:
        table.delete_item(Key={"target": "nonsense"})


# -- rows that nobody of ours wrote ----------------------------------------------------------------------------------

GONE = "i-0123456789abcdef0"  # EC2 knows no such instance


def forged(aws, leased, execution, **journal):
    """Writes a row of the Swaps table, as any caller that can write the table can."""
    key = leased["Group"]["arn"] if "Group" in leased else f"123456789012#us-east-1#{leased['Instance']}"
    whole = {
        "stage": "Undoing", "launching_since": "2026-01-01T00:00:00Z",
        "attempt": 0, "newcomer": None, "original": None, "max_raised_to": None, "retirement": "Detach",
        "desired_settled": False, "undo": None, **journal,
    }  # fmt: skip
    aws.table("SwapsTableName").put_item(
        Item={
            "target": key, "leased": json.dumps(leased), "account_id": "123456789012", "region": "us-east-1",
            "lease_owner": execution, "lease_since": int(time.time() * 1000), "stage": whole["stage"], "journal": json.dumps(whole),
        }
    )  # fmt: skip
    return key


def test_a_row_that_no_execution_of_ours_left_harms_nobody(aws, quiet, scene):
    web, table = waiting_in(scene, "PauseForHealth", with_target_group=False, minimum=0), aws.table("SwapsTableName")
    web.reconcile_until_free()  # Its execution died over this very group.
    aws.control.reset()
    done = scene(size=1, minimum=0)
    newcomer = done.swap()["swapped"][0]["new_instance_id"]
    ec2 = aws.client("ec2")
    launched = ec2.run_instances(
        ImageId=aws.network.image, InstanceType="m5.large", MinCount=2, MaxCount=2,
        SubnetId=aws.network.subnets["us-east-1a"],
    )["Instances"]  # fmt: skip
    victim, other = (instance["InstanceId"] for instance in launched)
    run = lambda: {aws.instance(i)["State"]["Name"] for i in (victim, other, newcomer)} == {"running"}  # noqa: E731
    wait_for(run)

    never, old, arn = web.arn + "-never", web.old[0], web.before["AutoScalingGroupARN"]
    none = arn.replace(":autoScalingGroup:", ":autoScalingGroup:0")
    group = lambda scene, arn: {"Group": {"arn": arn, "name": scene.name}}  # noqa: E731
    started = aws.client("stepfunctions").describe_execution(executionArn=web.arn)["startDate"]
    swap_of = lambda instance_id: f"{instance_id}-{int(started.timestamp() * 1000)}"  # noqa: E731
    left_none = "has left no such swap"
    original = {"desired": 1, "max": 1, "az_rebalance_suspended": False, "serving": 1, "members": [old]}
    empty = {**original, "desired": 0, "serving": 0}
    over = {"old": done.old[0], "newcomer": newcomer, "original": empty, "swap_id": done.tags(newcomer)["spot-optimizer:swap"]}
    lab = {"old_instance": "terminate", "address": None, "registrations": [], "capture": False, "leaving": True, "stopping": True}
    rows = [
        (left_none, group(web, none), never, {"old": GONE, "newcomer": victim}),
        (left_none, {"Instance": victim}, never, {"old": victim, "newcomer": other, "stage": "Retiring", "lab": lab}),
        ("ClientToken", group(web, arn), web.arn, {"old": old, "newcomer": victim, "original": original}),
        (
            "TerminateOld", group(web, arn), web.arn,
            {"old": victim, "newcomer": GONE, "original": original, "stage": "Retiring"},
        ),
        ("names no newcomer", group(web, arn), web.arn, {"old": victim, "newcomer": None, "stage": "Retiring"}),
        (left_none, group(done, done.before["AutoScalingGroupARN"]), done.arn, over),
        (left_none, group(done, done.before["AutoScalingGroupARN"]), never, over),
    ]  # fmt: skip
    for why, leased, execution, journal in rows:
        key = forged(aws, leased, execution, **{"swap_id": swap_of(journal["old"]), **journal})
        answer, error = aws.invoke("ReconcilerFunctionName", {"task": "sweep"})
        assert run(), (journal, answer, error)
        named = leased.get("Instance") or leased["Group"]["arn"]
        assert error and named in error["errorMessage"] and why in error["errorMessage"], (journal, answer, error)
        table.delete_item(Key={"target": key})
    ec2.terminate_instances(InstanceIds=[victim, other])
    web.assert_untouched()
    assert done.group.instance_ids == [newcomer]
    done.assert_owners()
