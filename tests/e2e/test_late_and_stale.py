"""Calls that land after their caller gave up, descriptions that lag, steps that run on beside their own repetition.

Whatever comes when, the owner's group is whole in the end, and served in full all the while.
"""

import pytest

from scene import wait_for

# Seconds. What a history holds back comes well before.
QUIET = 5


@pytest.fixture
def quiet(settings):
    settings(launch_visible_after_seconds=QUIET)


def hit(aws, fault, times=1):
    """Returns once the fault has met as many calls."""
    wait_for(lambda: next(f["hits"] for f in aws.control.faults() if f["id"] == fault["id"]) >= times)


def of(web, instance_id=None):
    """Returns parameters that match the calls about this group; about one instance in it, or to be in it."""
    return {"AutoScalingGroupName": web.name, **({"InstanceIds.member.1": instance_id} if instance_id else {})}


def launch_of(web):
    """Returns parameters that match the launches for this group."""
    return {"LaunchTemplate.LaunchTemplateId": web.group.template_id}


def start_to(web, call, match=None):
    """Starts the swap; returns the fault that holds the first such call."""
    fault = web.aws.control.fault(call, kind="hold", times=1, match=of(web) if match is None else match)
    web.start()
    return fault


def assert_whole(web):
    """Each swap has ended either way: swapped, or as if it had never been."""
    execution = web.end()
    assert execution["status"] == "SUCCEEDED", execution
    report = execution["output"]
    if swapped := [s["old_instance_id"] for s in report["swapped"]]:
        web.assert_swapped(report, *swapped)
    else:
        web.assert_untouched()
    assert {*swapped, *(r["instance_id"] for r in report["rolled_back"])} == {*web.old}, report
    return report


# -- the group's description lags --------------------------------------------------------------------------------------

LAGS = {
    "desired": ["desired"],
    "its members": ["members", "lifecycle"],
    "their states": ["lifecycle"],
    "everything": ["desired", "max", "suspended", "tags", "members", "lifecycle"],
}


def test_the_swap_is_finished_whatever_lags_when_the_old_one_leaves(aws, quiet, scene):
    webs = {lag: scene(size=1, minimum=1, maximum=1) for lag in LAGS}
    webs["everything, with room"] = scene(size=1, minimum=1, maximum=2)
    for lag, web in webs.items():
        aws.control.stale(web.name, *LAGS[lag.split(",")[0]], after="DetachInstances", reads=3)
        web.start()
    for lag, web in webs.items():
        assert assert_whole(web)["swapped"], lag
        assert aws.control.stale_answers(web.name) > 0, lag


def test_the_swap_is_undone_whatever_lags_when_the_newcomer_leaves(aws, quiet, scene):
    aws.control.newcomers(lifecycle_state="Pending")
    webs = {lag: scene(size=1, minimum=1, maximum=1) for lag in LAGS}
    for lag, web in webs.items():
        aws.control.stale(web.name, *LAGS[lag], after="DetachInstances", reads=3)
        web.start()
    newcomers = [web.reach("PauseForInService").newcomer() for web in webs.values()]
    aws.poison(aws.pool_of(newcomers[0]))
    for newcomer in newcomers:
        aws.control.instance(newcomer, lifecycle_state="InService")
    for lag, web in webs.items():
        web.assert_rolled_back(web.end()["output"], "NEWCOMER_AT_RISK")
        assert aws.control.stale_answers(web.name) > 0, lag


# -- a call lands after its caller gave up -----------------------------------------------------------------------------


def test_what_the_attach_called_in_vain_lands_while_the_swap_is_being_undone(aws, quiet, scene):
    """The first try is lost, and lands between the rollback's look and its call. The second is denied."""
    webs = {call: scene(size=1, minimum=1, maximum=1) for call in ("UpdateAutoScalingGroup", "SuspendProcesses", "AttachInstances")}
    for call, web in webs.items():
        aws.control.fault(call, kind="late", match=of(web), times=1)
        aws.control.fault(call, code="AccessDenied", status=403, match=of(web))
        web.start()
    held = [aws.control.fault("TerminateInstances", kind="hold", match={"InstanceId.1": web.newcomer()}) for web in webs.values()]
    for fault in held:
        hit(aws, fault)
    landed = aws.control.land()
    aws.control.clear_faults()
    for call, web in webs.items():
        assert [c["status"] for c in landed if c["action"] == call] == [200]
        web.assert_rolled_back(web.end()["output"], "NOT_AUTHORIZED")


def test_a_detach_lands_once_the_swap_is_being_undone(aws, quiet, scene):
    """Every try is lost. One lands before the rollback's first look, and one after."""
    webs = {looked: scene(size=1, minimum=0, maximum=2) for looked in (False, True)}
    for looked, web in webs.items():
        aws.control.fault("DetachInstances", kind="late", match=of(web, web.old[0]))
        if not looked:  # The rollback's first write says why, and comes before its look.
            aws.control.fault("UpdateItem", kind="hold", match={"ExpressionAttributeValues": "STEP_FAILED", "Key": web.name})
        web.start()
    for looked, web in webs.items():
        web.reach("PauseForRollback" if looked else "Rollback")
    wait_for(lambda: [f["hits"] > 0 for f in aws.control.faults() if f["kind"] == "hold"] == [True])
    landed = aws.control.land()
    assert [c["status"] for c in landed].count(200) == len(webs), landed
    aws.control.clear_faults()
    for web in webs.values():
        assert_whole(web)


def test_a_launch_that_lands_after_the_next_attempt_leaves_one_newcomer(aws, quiet, scene):
    """The next attempt goes to the same pool, by the same ClientToken, or to another: the first was poisoned meanwhile."""
    zones = {"the same pool": "us-east-1b", "another pool": "us-east-1a"}
    webs = {row: scene(size=1, minimum=1, maximum=1, overrides=["m5.large", "c5.large"], zones=(zone,)) for row, zone in zones.items()}
    aws.control.newcomers(status="initializing")
    launches = [start_to(web, "RunInstances", launch_of(web)) for web in webs.values()]
    for launch in launches:
        hit(aws, launch)
    aws.poison(aws.pool_of(webs["another pool"].old[0]))
    for launch in launches:
        aws.control.change_fault(launch, kind="late")
    for web in webs.values():
        wait_for(lambda web=web: web.newcomers or "PauseForRollback" in web.states())
    assert [c["status"] for c in aws.control.land()] == [200, 200]
    aws.control.newcomers(status="ok")
    for instance in [newcomer for web in webs.values() for newcomer in web.newcomers]:
        aws.control.instance(instance["InstanceId"], status="ok")
    for web in webs.values():
        assert_whole(web)


# -- the answer to an interruption ---------------------------------------------------------------------------------------


@pytest.fixture
def answering(quiet, scene):
    """`answering()` makes an enrolled group at its MaxSize, whose first member is a Spot instance that gets its notice."""

    def make():
        web = scene(size=2, minimum=2, maximum=2, tags={"spot-optimizer:enabled": "true"})
        web.aws.control.instance(web.old[0], set={"InstanceLifecycle": "spot"})
        return web

    return make


def interrupt(*webs):
    """Brings each group's first member its two-minute notice."""
    for web in webs:
        answer, error = web.aws.invoke("InterruptionResponderFunctionName", web.aws.drill_event(web.old[0], source="aws.ec2"))
        assert error is None, error
        web.arn = answer["execution_arn"]


def assert_answered(web):
    """The interrupted one is replaced, as many serve as before all the while, and nothing of ours is left."""
    execution = web.end()
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    wait_for(lambda: [i["LifecycleState"] for i in web.group.describe()["Instances"]] == ["InService"] * 2)
    after = web.group.describe()
    assert (after["DesiredCapacity"], after["MaxSize"]) == (2, 2) and web.old[0] not in web.group.instance_ids
    assert web.capacity.lowest >= 2 and web.capacity.highest_desired == 3 and not web.leased()
    return execution["output"]


def test_a_raise_of_desired_that_lands_after_its_repetition_leaves_nothing_raised(aws, settings, answering):
    """The first try has no answer, and lands once the replacement of the second one serves: it says how many, not how many
    more, and changes nothing as long as our one is in desired."""
    settings(launch_visible_after_seconds=2 * QUIET)
    webs = {call: answering() for call in ("UpdateAutoScalingGroup", "SetDesiredCapacity")}
    for call, web in webs.items():
        aws.control.fault(call, kind="late", match=of(web), times=1)
    interrupt(*webs.values())
    for web in webs.values():
        wait_for(lambda web=web: [i["LifecycleState"] for i in web.group.describe()["Instances"]].count("InService") == 3)
    assert [c["status"] for c in aws.control.land()] == [200, 200]
    for call, web in webs.items():
        assert assert_answered(web)["outcome"] == "REPLACED", call


def test_a_lowering_of_desired_that_has_no_answer_is_made_once(aws, answering):
    """It lands late; or never, and is made again after the quiet period."""
    webs = {row: answering() for row in ("late", "never")}
    for row, web in webs.items():
        kind = {"kind": "late"} if row == "late" else {"kind": "error", "status": 500, "times": 1}
        web.fault = aws.control.fault("TerminateInstanceInAutoScalingGroup", match={"InstanceId": web.old[0]}, **kind)
    interrupt(*webs.values())
    for web in webs.values():
        hit(aws, web.fault)
        web.reach("PauseForRestore")
    assert [c["status"] for c in aws.control.land()] == [200]
    for row, web in webs.items():
        assert assert_answered(web)["outcome"] == "REPLACED", row


def test_an_answer_ends_whole_whatever_lags(aws, answering):
    """The description lags behind the raise of desired, or behind the lowering."""
    lags = dict.fromkeys(LAGS, "TerminateInstanceInAutoScalingGroup") | {"everything, raised": "SetDesiredCapacity"}
    webs = {lag: answering() for lag in lags}
    for lag, web in webs.items():
        aws.control.stale(web.name, *LAGS[lag.split(",")[0]], after=lags[lag], reads=3)
    interrupt(*webs.values())
    for lag, web in webs.items():
        assert assert_answered(web)["outcome"] == "REPLACED", lag
        assert aws.control.stale_answers(web.name) > 0, lag


# -- a step runs on beside its repetition ------------------------------------------------------------------------------


def give_up(web, phase, fault):
    """Has Step Functions give up the phase while its call is held: it is repeated beside the one that still runs."""
    hit(web.aws, fault)
    web.aws.give_up(web.arn, phase)


def run_on(aws, *faults):
    """Lets what was given up go on, to its end. A call that is held for more than ten seconds has no caller any more."""
    for fault in faults:
        aws.control.change_fault(fault, kind="delay")
    aws.given_up_ended()


ANSWERS = {
    "launches": {"kind": "delay"},
    "finds no capacity": {"kind": "error", "code": "InsufficientInstanceCapacity", "status": 500},
}


def test_a_launch_runs_on_beside_its_repetition(aws, scene):
    webs = {row: scene(size=1, minimum=1, maximum=1) for row in ANSWERS}
    aws.control.newcomers(status="initializing")
    launches = {row: start_to(web, "RunInstances", launch_of(web)) for row, web in webs.items()}
    for row, web in webs.items():
        give_up(web, "Launch", launches[row])
    for row, web in webs.items():
        web.reach("PauseForHealth")
        aws.control.change_fault(launches[row], **ANSWERS[row])
    aws.given_up_ended()
    for row, web in webs.items():
        assert assert_whole(web.let_go())["swapped"], row
        assert len(web.newcomers) == 1, row


def test_an_attach_runs_on_beside_its_repetition(aws, scene):
    aws.control.newcomers(lifecycle_state="Pending")
    webs = {call: scene(size=1, minimum=1, maximum=1) for call in ("UpdateAutoScalingGroup", "SuspendProcesses", "AttachInstances")}
    faults = {call: start_to(web, call) for call, web in webs.items()}
    for call, web in webs.items():
        give_up(web, "Attach", faults[call])
    newcomers = [web.reach("PauseForInService").newcomer() for web in webs.values()]
    run_on(aws, *faults.values())
    for newcomer in newcomers:
        aws.control.instance(newcomer, lifecycle_state="InService")
    for call, web in webs.items():
        assert assert_whole(web)["swapped"], call


def test_a_retirement_runs_on_beside_its_repetition(aws, scene):
    plain, hooked = scene(size=1, minimum=1, maximum=1), scene(size=1, minimum=0, maximum=2)
    hooked.hook("TERMINATING")
    aws.control.timing(detach=600, terminate_hook=600)
    detach = start_to(plain, "DetachInstances")
    terminate = start_to(hooked, "TerminateInstanceInAutoScalingGroup", {"InstanceId": hooked.old[0]})
    for web, fault in ((plain, detach), (hooked, terminate)):
        give_up(web, "RetireOld", fault)
    for web in (plain, hooked):
        web.reach("PauseForRetirement")
    run_on(aws, detach, terminate)
    aws.control.timing(detach=0.3, terminate_hook=0.5)
    for web in (plain, hooked):
        assert assert_whole(web)["swapped"]


def test_a_capacity_that_changes_between_the_last_look_and_the_retirement_is_told(aws, scene):
    """The group scales out in that moment: AWS's answer names it, and nobody else would."""
    plain, hooked = scene(size=1, minimum=1, maximum=4), scene(size=1, minimum=1, maximum=4)
    hooked.hook("TERMINATING")
    retirements = {
        plain: start_to(plain, "DetachInstances"),
        hooked: start_to(hooked, "TerminateInstanceInAutoScalingGroup", {"InstanceId": hooked.old[0]}),
    }
    for web, fault in retirements.items():
        hit(aws, fault)
        web.group.update(DesiredCapacity=3)
        aws.control.change_fault(fault, kind="delay")
    for web in retirements:
        report = web.end()["output"]
        assert [s["old_instance_id"] for s in report["swapped"]] == web.old
        (remark,) = report["remarks"]
        assert "desired fell from 3 to 2" in remark and "from 2 to 1" in remark, remark
        assert web.group.describe()["DesiredCapacity"] == 2


def next_swap_boots(web):
    """Returns the newcomer of the second swap, which is held before its status checks pass."""
    wait_for(lambda: web.states().count("Launch") == 2 and web.states()[-1] == "PauseForHealth")
    alive = [i["InstanceId"] for i in web.newcomers if i["State"]["Name"] in ("pending", "running")]
    (booting,) = set(alive) - set(web.group.instance_ids)
    return booting


def test_a_restore_runs_on_beside_the_next_swap(aws, scene):
    """It has its owner's settings to restore and its journal to close, not the next swap's."""
    web = scene(size=2, minimum=2, maximum=2)
    fault = start_to(web, "ResumeProcesses")
    hit(aws, fault)
    aws.control.newcomers(status="initializing")
    give_up(web, "Restore", fault)
    booting = next_swap_boots(web)
    run_on(aws, fault)
    aws.control.instance(booting, status="ok")
    assert len(assert_whole(web)["swapped"]) == 2


def test_a_rollback_runs_on_beside_the_next_swap(aws, scene):
    web = scene(size=2, minimum=2, maximum=2)
    aws.control.newcomers(status="initializing")
    fault = start_to(web, "TerminateInstances", {})
    newcomer = web.newcomer()
    aws.poison(aws.pool_of(newcomer))
    aws.control.instance(newcomer, status="ok")
    give_up(web, "Rollback", fault)
    booting = next_swap_boots(web)
    run_on(aws, fault)
    aws.control.instance(booting, status="ok")
    assert len(assert_whole(web)["swapped"]) == 1
