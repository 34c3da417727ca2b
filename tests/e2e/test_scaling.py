"""Groups that scale: a launch waits until its group is at rest, and its scheduled actions have run."""

import datetime

from scene import reasons


def schedule(web, seconds, **sizes):
    """Schedules an action of the owner, this number of seconds from now."""
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    web.aws.client("autoscaling").put_scheduled_update_group_action(
        AutoScalingGroupName=web.name, ScheduledActionName=f"{web.name}-morning", StartTime=at, **sizes
    )


def take_back(web):
    web.aws.client("autoscaling").delete_scheduled_action(AutoScalingGroupName=web.name, ScheduledActionName=f"{web.name}-morning")


def scale_out(web, to):
    web.aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=web.name, DesiredCapacity=to)


def launched_at(web):
    (call,) = web.aws.control.calls(action="RunInstances")
    return call["t"]


def assert_launched_into_three_in_service(web, report):
    """The launch came after all instances that the group launched by itself were in service."""
    assert (len(report["swapped"]), report["rolled_back"]) == (1, []), report
    three = next(
        s["t"] for s in web.capacity.samples
        if [m["lifecycle_state"] for m in s["members"]] == ["InService"] * 3
    )  # fmt: skip
    assert three <= launched_at(web)
    after = web.group.describe()
    assert (after["DesiredCapacity"], after["MaxSize"]) == (3, 4)
    web.assert_no_stray()


def test_a_launch_waits_for_a_scheduled_action_and_for_what_it_launches(aws, scene):
    web = scene(size=2, minimum=0, maximum=4)
    aws.control.timing(group_reacts=2, group_launch=2)
    schedule(web, 600, DesiredCapacity=3)
    web.start(max_swaps=1).reach("PauseForLaunch")
    assert web.newcomers == []
    schedule(web, 1, DesiredCapacity=3)
    assert_launched_into_three_in_service(web, web.end()["output"])


def test_a_launch_waits_for_a_group_that_scales_out(aws, scene):
    web = scene(size=2, minimum=0, maximum=4)
    aws.control.timing(group_launch=8)
    scale_out(web, 3)
    assert_launched_into_three_in_service(web, web.swap(max_swaps=1))


def test_a_scheduled_action_that_is_taken_back_is_not_waited_for(aws, scene):
    """A failed call does not let a launch through either."""
    web = scene(size=1, minimum=0)
    schedule(web, 600, DesiredCapacity=1)
    aws.control.fault("DescribeScheduledActions", code="ServiceUnavailable", status=503, times=3)
    web.start().reach("PauseForLaunch")
    assert web.newcomers == []
    take_back(web)
    web.assert_swapped(web.end()["output"])


def test_a_scheduled_action_after_the_swap_is_no_hindrance(scene, settings):
    web = scene(size=1, minimum=0)
    settings(health_timeout_seconds=60, in_service_timeout_seconds=300)
    schedule(web, 600, DesiredCapacity=1)
    web.assert_swapped(web.swap())


def test_a_group_that_never_rests_is_left_alone_and_nothing_is_paid_for(aws, scene, settings):
    web = scene(size=2, minimum=0, maximum=4)
    settings(health_timeout_seconds=1, in_service_timeout_seconds=1)
    aws.control.timing(group_launch=600)
    scale_out(web, 3)
    report = web.swap()
    assert report["ended_by"]["reason"] == "GROUP_SCALING" and "1 pending" in report["ended_by"]["detail"]
    assert (report["swapped"], report["rolled_back"], web.newcomers) == ([], [], [])
    assert "GROUP_SCALING" in reasons(report["skipped"]).values()
    assert set(web.old) <= set(web.group.instance_ids) and not web.leased()


def test_the_launch_of_a_node_waits_too(nodes):
    web = nodes()
    web.deploy()
    schedule(web, 600, DesiredCapacity=2)
    web.start().reach("PauseForLaunch")
    assert web.newcomers == []
    take_back(web)
    web.assert_node_swapped(web.finish())


def test_without_the_right_to_look_nothing_is_launched(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.fault("DescribeScheduledActions", code="AccessDenied", status=403)
    report = web.swap()
    assert web.newcomers == []
    assert report["ended_by"]["reason"] == "NOT_AUTHORIZED" and "DescribeScheduledActions" in report["ended_by"]["detail"]
    web.assert_untouched()
