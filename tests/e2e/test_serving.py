"""The retirement of the old instance: not before the new one serves, and not against the owner's later wishes."""

import time

import pytest
from botocore.exceptions import ClientError

from scene import reasons, wait_for

WARM_UP, READY = "spot-optimizer:warm-up-seconds", "spot-optimizer:ready-tag"


def retired_at(web):
    """Returns the time of the call that retired the old instance."""
    calls = web.aws.control.calls()
    return next(c["t"] for c in calls if c["action"] in ("DetachInstances", "TerminateInstanceInAutoScalingGroup"))


def waiting(web):
    """Returns the newcomer, in service, while the swap waits for the missing condition."""
    newcomer = web.start().reach("PauseForInService").newcomer()
    wait_for(lambda: newcomer in serving(web))
    return newcomer


def serving(web):
    return [i["InstanceId"] for i in web.group.describe()["Instances"] if i["LifecycleState"] == "InService"]


def assert_still_waiting(web, seconds=0.4):
    time.sleep(seconds)
    assert web.running() and set(web.old) <= set(serving(web))


# -- warm-up -----------------------------------------------------------------------------------------------------------

WARM_UPS = {
    "DefaultInstanceWarmup": {"DefaultInstanceWarmup": 1, "HealthCheckGracePeriod": 600},
    "HealthCheckGracePeriod where there is no warm-up": {"HealthCheckGracePeriod": 1},
    "the group's tag before both": {"DefaultInstanceWarmup": 600, "HealthCheckGracePeriod": 600, "tags": {WARM_UP: "1"}},
}


@pytest.mark.parametrize("case", WARM_UPS)
def test_the_old_one_stays_for_as_long_as(scene, case):
    web = scene(size=2, minimum=0, **WARM_UPS[case])
    report = web.swap(max_swaps=1)
    web.assert_swapped(report, web.old[0])
    newcomer = report["swapped"][0]["new_instance_id"]
    assert 1 <= retired_at(web) - web.serving_since(newcomer) < 60


NO_WARM_UPS = {
    "a tag of 0": {"DefaultInstanceWarmup": 600, "tags": {WARM_UP: "0"}},
    "a warm-up of 0, whatever the grace period": {"DefaultInstanceWarmup": 0, "HealthCheckGracePeriod": 600},
}


@pytest.mark.parametrize("case", NO_WARM_UPS)
def test_nothing_is_waited_for_by(scene, case):
    web = scene(size=1, minimum=0, **NO_WARM_UPS[case])
    web.assert_swapped(web.swap())


def test_a_newcomer_that_dies_while_it_warms_up_keeps_the_old_one(aws, scene):
    web = scene(size=1, minimum=0, DefaultInstanceWarmup=600)
    aws.control.timing(replace=60)
    aws.control.kill(waiting(web))
    report = web.end()["output"]
    assert len(report["rolled_back"]) == 1, report
    web.assert_untouched()


# -- ready tag ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish, wrong", [("app-ready", ("app-read", "y")), ("app-ready=yes", ("app-ready", "no"))])
def test_the_old_one_stays_until_the_newcomer_says_that_it_is_ready(scene, wish, wrong):
    web = scene(size=1, minimum=0, DefaultInstanceWarmup=600, tags={READY: wish})
    newcomer = waiting(web)
    assert_still_waiting(web)
    web.tag(newcomer, *wrong)
    assert_still_waiting(web)
    web.tag(newcomer, "app-ready", "yes")
    web.assert_swapped(web.end()["output"])


def test_the_newcomer_does_not_inherit_the_word_of_the_old_one(scene):
    web = scene(size=1, minimum=0, tags={READY: "app-ready"})
    web.tag(web.old[0], "app-ready", "yes")
    newcomer = waiting(web)
    assert_still_waiting(web)
    web.tag(newcomer, "app-ready", "yes")
    web.assert_swapped(web.end()["output"])


def test_a_newcomer_that_never_says_that_it_is_ready_is_taken_out_again(scene, settings):
    web = scene(size=1, minimum=0, tags={READY: "app-ready"})
    settings(in_service_timeout_seconds=1)
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_NOT_SERVING")
    assert "app-ready" in report["rolled_back"][0]["detail"]


# -- target groups that others fill --------------------------------------------------------------------------------------


def test_where_others_registered_the_old_one_the_newcomer_has_to_serve_too(scene):
    web = scene(size=1, minimum=0)
    arn = web.foreign_target_group(web.old[0])
    newcomer = waiting(web)
    assert_still_waiting(web)
    web.register(arn, newcomer)
    web.assert_swapped(web.end()["output"])


def test_where_nobody_registers_the_newcomer_the_old_one_stays(scene, settings):
    web = scene(size=1, minimum=0)
    settings(in_service_timeout_seconds=1)
    arn = web.foreign_target_group(web.old[0])
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_NOT_SERVING")
    assert arn.split("/")[1] in report["rolled_back"][0]["detail"]


def test_where_others_registered_the_newcomer_it_has_to_be_healthy(aws, scene, settings):
    web = scene(size=1, minimum=0, tags={READY: "app-ready"})
    arn = web.foreign_target_group()
    aws.control.target_health(arn)
    newcomer = waiting(web)
    web.register(arn, newcomer)
    web.tag(newcomer, "app-ready", "yes")
    assert_still_waiting(web)
    aws.control.target_health(arn, state=None)
    web.assert_swapped(web.end()["output"])


def test_at_a_port_that_others_chose_the_newcomer_has_to_serve_too(aws, scene):
    """As ECS and Nomad register their tasks."""
    web = scene(size=1, minimum=0)
    arn = web.foreign_target_group(web.old[0], port=32768)
    newcomer = waiting(web)
    assert_still_waiting(web)
    aws.control.target_health(arn)
    web.register(arn, newcomer, port=32770)
    assert_still_waiting(web)
    aws.control.target_health(arn, state=None)
    web.assert_swapped(web.end()["output"])


def test_a_member_that_a_target_group_of_another_vpc_has_by_its_address_is_left_alone(aws, scene):
    """A central VPC for incoming traffic names members of other VPCs so."""
    web = scene(size=1, minimum=0)
    vpc = aws.client("ec2").create_vpc(CidrBlock="172.20.0.0/16")["Vpc"]["VpcId"]
    arn, address = web.foreign_target_group(kind="ip", vpc=vpc), aws.instance(web.old[0])["PrivateIpAddress"]
    aws.client("elbv2").register_targets(TargetGroupArn=arn, Targets=[{"Id": address, "Port": 80, "AvailabilityZone": "all"}])
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[0]: "NOT_REPRODUCIBLE"}
    assert arn.split("/")[1] in report["skipped"][0]["detail"]
    web.assert_untouched()


# -- newcomers that are lost ---------------------------------------------------------------------------------------------


def dies_and_is_replaced(web, newcomer):
    web.aws.control.timing(replace=0.2, group_launch=0.3)
    web.aws.control.kill(newcomer, code="Server.SpotInstanceTermination", message="taken back")
    wait_for(lambda: newcomer not in web.group.instance_ids)


def dies_unnoticed(web, newcomer):
    web.aws.control.timing(replace=60)
    web.aws.control.kill(newcomer)


def is_detached(web, newcomer):
    web.aws.client("autoscaling").detach_instances(
        AutoScalingGroupName=web.name, InstanceIds=[newcomer], ShouldDecrementDesiredCapacity=True
    )
    wait_for(lambda: newcomer not in web.group.instance_ids)


def is_terminated_by_its_group(web, newcomer):
    web.aws.client("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=newcomer, ShouldDecrementDesiredCapacity=True)


@pytest.mark.parametrize("lost", [dies_and_is_replaced, dies_unnoticed, is_detached, is_terminated_by_its_group])
def test_the_swap_is_undone_at_once_if_its_newcomer(aws, scene, lost):
    """In-service timeouts are minutes: the swap does not wait for a newcomer that is gone."""
    web = scene(size=2, minimum=0, with_target_group=True)
    aws.control.newcomers(target_health={"state": "initial", "reason": "Elb.InitialHealthChecking"})
    newcomer = web.start(max_swaps=1).reach("PauseForInService").newcomer()
    wait_for(lambda: newcomer in serving(web))
    lost(web, newcomer)
    execution = web.end(timeout=20)
    assert execution["status"] == "SUCCEEDED", execution
    (back,) = execution["output"]["rolled_back"]
    assert back["reason"] in ("NEWCOMER_UNHEALTHY", "NEWCOMER_AT_RISK", "NEWCOMER_NOT_SERVING", "GROUP_CHANGED")
    assert set(web.old) <= set(web.group.instance_ids)
    web.assert_owners()


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", [False, True], ids=["a drain", "a terminating hook"])
def test_max_size_is_the_owners_again_during(aws, scene, hook):
    """The group is at its MaxSize under load: a scaling policy must not get the place that a swap makes."""
    web = scene(size=2, maximum=2)
    if hook:
        web.hook("TERMINATING")
    aws.control.timing(detach=600, terminate_hook=600)
    web.start(max_swaps=1).reach("PauseForRetirement")
    wait_for(lambda: web.group.describe()["MaxSize"] == 2)
    assert web.running() and web.old[0] in web.group.instance_ids
    with pytest.raises(ClientError, match="above max value 2"):
        aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=3)
    aws.control.timing(detach=0.3, terminate_hook=0.5)
    web.assert_swapped(web.end()["output"], web.old[0])
    leaving = [s for s in web.capacity.samples if s["desired"] == 2 and len(s["members"]) == 3]
    assert leaving[-1]["max"] == 2 and web.capacity.highest_desired == 3


def test_a_terminating_hook_may_take_longer_than_the_settings_allow_for(aws, scene, settings):
    web = scene(size=1, minimum=0)
    web.hook("TERMINATING", HeartbeatTimeout=7200)
    settings(retire_timeout_seconds=1)
    aws.control.timing(terminate_hook=3)
    web.assert_swapped(web.swap())


# -- the owner, between the steps ------------------------------------------------------------------------------------------


def begin_refresh(web):
    web.aws.control.group(web.name, refreshes=[{"InstanceRefreshId": "r-1", "Status": "InProgress"}])


def protect(web):
    web.aws.client("autoscaling").set_instance_protection(
        AutoScalingGroupName=web.name, InstanceIds=web.old[-1:], ProtectedFromScaleIn=True
    )


def suspend(process):
    def act(web):
        web.group.suspend(process)
        web.before["SuspendedProcesses"] = [{"ProcessName": process}]

    return act


def roll_template(web):
    web.new_template_version(ImageId=web.aws.network.image, InstanceType="m5.large")


def give_address(web):
    ec2 = web.aws.client("ec2")
    ec2.associate_address(InstanceId=web.old[-1], AllocationId=ec2.allocate_address(Domain="vpc")["AllocationId"])


# What the owner does with the group, or with its last member → the reason that says so, if not GROUP_CHANGED.
MEANWHILE = {
    "opts the group out": (lambda web: web.tag_group("spot-optimizer:opt-out", "true"), "OPTED_OUT"),
    "opts the instance out": (lambda web: web.tag(web.old[-1], "spot-optimizer:opt-out", "true"), "OPTED_OUT"),
    "asks for On-Demand": (lambda web: web.tag_group("spot-optimizer:min-on-demand", "2"), "ON_DEMAND_FLOOR"),
    "protects from scale-in": (protect, "SCALE_IN_PROTECTED"),
    "protects from termination": (lambda web: web.protect_from_termination(web.old[-1]), "TERMINATION_PROTECTED"),
    "gives it an Elastic IP": (give_address, "NOT_REPRODUCIBLE"),
    "begins a refresh": (begin_refresh, "GROUP_BUSY"),
    "suspends Launch": (suspend("Launch"), None),
    "suspends Terminate": (suspend("Terminate"), None),
}
# Where a newcomer is held, how, and what lets it go on.
HOLDS = {
    "attached": ("PauseForHealth", {"status": "initializing"}, {"status": "ok"}),
    "retired": ("PauseForInService", {"lifecycle_state": "Pending"}, {"lifecycle_state": "InService"}),
}


def side_by_side(webs, state, act):
    """Calls the function with each scene as soon as its execution has reached the state."""
    waiting = dict(webs)
    while waiting:
        for case, web in list(waiting.items()):
            if state in web.states():
                act(case, web)
                del waiting[case]
            assert web.running(), (case, web.end()["output"])


@pytest.mark.parametrize("before", HOLDS)
def test_the_owner_is_asked_again_before_anything_is(aws, scene, before):
    """Each group of one has one change by its owner. All run at once, because the wait is the same."""
    state, held, let_go = HOLDS[before]
    cases = {**MEANWHILE, "rolls the template": (roll_template, None)} if before == "attached" else MEANWHILE
    aws.control.newcomers(**held)

    def act(case, web):
        newcomer = web.newcomer()
        cases[case][0](web)
        aws.control.instance(newcomer, **let_go)

    webs = {case: scene(size=1, minimum=0).start() for case in cases}
    side_by_side(webs, state, act)
    reports = {case: web.end()["output"] for case, web in webs.items()}
    wrong = {case: report for case, report in reports.items() if not (report or {}).get("rolled_back")}
    assert not wrong, wrong
    for case, web in webs.items():
        (back,) = reports[case]["rolled_back"]
        assert back["reason"] in (cases[case][1], "GROUP_CHANGED"), (case, back)
        web.assert_rolled_back(reports[case], back["reason"])


def test_the_owner_is_asked_again_before_the_next_launch(aws, scene):
    """In each group of two, the first swap waits for its old instance to leave. A rolled template is used."""
    aws.control.timing(detach=600)
    webs = {case: scene(size=2, minimum=0).start() for case in MEANWHILE}
    side_by_side(webs, "PauseForRetirement", lambda case, web: MEANWHILE[case][0](web))
    aws.control.timing(detach=0.3)
    reports = {case: web.end()["output"] for case, web in webs.items()}
    wrong = {case: report for case, report in reports.items() if len((report or {}).get("swapped", [])) != 1}
    assert not wrong, wrong
    for case, web in webs.items():
        assert len(web.newcomers) == 1 and web.old[1] in web.group.instance_ids, (case, reports[case])
        said = {*reasons(reports[case]["skipped"]).values(), reports[case].get("ended_by", {}).get("reason")}
        assert said & {MEANWHILE[case][1], "GROUP_CHANGED"}, (case, reports[case])
        web.assert_owners()
