"""Swaps that succeed: the group, its settings and its instances afterwards."""

import pytest
from botocore.exceptions import ClientError

from scene import REPORT, wait_for

POOL_A, POOL_B = "us-east-1#use1-az6#m5.large", "us-east-1#use1-az1#m5.large"


def tags(instance):
    return {t["Key"]: t["Value"] for t in instance["Tags"]}


def test_a_group_of_two_moves_to_spot_without_a_dip(scene):
    web = scene(size=2)
    report = web.swap()
    web.assert_swapped(report)
    assert (web.capacity.lowest, web.capacity.highest_desired) == (2, 3)
    assert set(report) == REPORT and (report["skipped"], report["rolled_back"], report["remaining"]) == ([], [], 0)
    for swapped in report["swapped"]:
        assert set(swapped) == {"old_instance_id", "new_instance_id", "pool", "monthly_saving_usd"}
        assert 40 < float(swapped["monthly_saving_usd"]) < 50  # 65 % of $0.096 an hour
    assert [s["pool"] for s in report["swapped"]] == [POOL_A, POOL_B]


def test_a_newcomer_is_what_the_owner_would_have_launched_but_spot(aws, scene):
    web = scene(size=1, minimum=0, instance_tags={"cost-center": "42"})
    before = aws.instance(web.old[0])
    swapped = web.swap()["swapped"][0]
    after = aws.instance(swapped["new_instance_id"])
    same = ("SubnetId", "ImageId", "InstanceType", "Placement", "SecurityGroups", "VpcId")
    assert {k: after[k] for k in same} == {k: before[k] for k in same}
    inherited = {k: v for k, v in tags(before).items() if not k.startswith("aws:")}
    assert inherited.items() <= tags(after).items() and inherited["cost-center"] == "42"
    assert tags(after)["ManagedBy"] == "SpotOptimizer"
    run = aws.control.calls(action="RunInstances")[0]["params"]
    assert run["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"


def test_a_poisoned_pool_is_skipped_and_the_rest_is_swapped(aws, scene):
    web = scene(size=2)
    aws.poison(POOL_B)
    report = web.swap()
    web.assert_swapped(report, web.old[0])
    (skipped,) = report["skipped"]
    assert (skipped["instance_id"], skipped["reason"]) == (web.old[1], "POOL_POISONED")
    assert POOL_B in skipped["detail"] and "poisoned until" in skipped["detail"]


def test_a_poisoned_type_gives_way_to_the_next_override_in_the_same_zone(aws, scene):
    web = scene(size=1, minimum=0, overrides=["m5.large", "m5a.large"], zones=["us-east-1a"])
    aws.poison(POOL_A)
    report = web.swap()
    web.assert_swapped(report)
    assert report["swapped"][0]["pool"] == "us-east-1#use1-az6#m5a.large"
    assert aws.instance(report["swapped"][0]["new_instance_id"])["InstanceType"] == "m5a.large"


def test_a_pool_without_capacity_gives_way_to_the_next_and_is_not_poisoned(aws, scene):
    web = scene(size=1, minimum=0, overrides=["m5.large", "m5a.large"], zones=["us-east-1a"])
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, match={"InstanceType": "m5.large"})
    report = web.swap()
    web.assert_swapped(report)
    assert report["swapped"][0]["pool"].endswith("#m5a.large")
    assert aws.pools() == {}
    assert len(aws.control.calls(action="RunInstances")) == 2  # one try for each pool: it is no error to repeat


def test_types_of_the_groups_tag_and_of_the_settings_are_allowed_too(aws, scene, settings):
    tagged = scene(size=1, minimum=0, tags={"spot-optimizer:instance-types": "m6i.large"}, zones=["us-east-1a"])
    plain = scene(size=1, minimum=0, zones=["us-east-1a"])
    settings(instance_types="c5.large")
    aws.poison(POOL_A)
    assert tagged.swap()["swapped"][0]["pool"].endswith("#m6i.large")
    assert plain.swap()["swapped"][0]["pool"].endswith("#c5.large")


def test_without_capacity_anywhere_the_group_stays_as_it_is(aws, scene):
    web = scene(size=2, overrides=["m5.large", "m5a.large"])
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500)
    report = web.swap()
    assert [s["reason"] for s in report["skipped"]] == ["NO_CAPACITY"] * 2
    assert "m5a.large: InsufficientInstanceCapacity" in report["skipped"][0]["detail"]
    web.assert_untouched()


def test_a_group_of_one_at_its_max_size_is_swapped(scene):
    web = scene(size=1, minimum=1, maximum=1)
    web.assert_swapped(web.swap())
    assert web.capacity.lowest == 1
    assert {s["max"] for s in web.capacity.samples} == {1, 2}


def test_a_group_at_its_max_size_is_swapped_one_after_another(scene):
    web = scene(size=3, maximum=3)
    web.assert_swapped(web.swap())
    assert (web.capacity.lowest, web.capacity.highest_desired) == (3, 4)


def test_az_rebalance_is_suspended_only_for_the_swap(scene):
    web = scene(size=1, minimum=0)
    web.assert_swapped(web.swap())
    assert {tuple(s["suspended"]) for s in web.capacity.samples} == {(), ("AZRebalance",)}


def test_processes_that_the_owner_suspended_stay_suspended(scene):
    web = scene(size=1, minimum=0)
    web.group.suspend("AZRebalance", "AlarmNotification")
    web.remember()
    web.assert_swapped(web.swap())
    assert {tuple(s["suspended"]) for s in web.capacity.samples} == {("AZRebalance", "AlarmNotification")} or {
        tuple(s["suspended"]) for s in web.capacity.samples
    } == {("AlarmNotification", "AZRebalance")}


def test_a_group_with_a_launch_configuration_is_swapped(scene):
    web = scene(size=1, minimum=0, launch_configuration=True)
    web.assert_swapped(web.swap())


def test_the_template_version_is_resolved_at_the_launch(aws, scene):
    web = scene(size=1, minimum=0)
    aws.client("ec2").create_launch_template_version(
        LaunchTemplateId=web.group.template_id, SourceVersion="1", LaunchTemplateData={"KeyName": "new"}
    )
    web.assert_swapped(web.swap())
    assert aws.control.calls(action="RunInstances")[0]["params"]["LaunchTemplate.Version"] == "2"


def test_a_template_with_network_interfaces_gets_the_subnet_inside_them(aws, scene):
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": False, "DeleteOnTermination": True}
    interface["Groups"] = [aws.network.security_group]
    web = scene(size=1, minimum=0, template_data={"NetworkInterfaces": [interface], "SecurityGroupIds": []}, zones=["us-east-1b"])
    report = web.swap()
    web.assert_swapped(report)
    new = aws.instance(report["swapped"][0]["new_instance_id"])
    assert new["SubnetId"] == aws.network.subnets["us-east-1b"]


def test_with_a_target_group_the_old_one_leaves_after_the_new_is_healthy_and_dies_after_the_drain(aws, scene):
    web = scene(size=1, minimum=0, with_target_group=True)
    aws.control.timing(target_initial=0.6, target_drain=0.8, detach=0.1)
    report = web.swap()
    web.assert_swapped(report)
    calls = aws.control.calls()
    at = {c["action"]: c["t"] for c in calls if c["action"] in ("DetachInstances", "TerminateInstances")}
    served = next(s["t"] for s in web.capacity.samples if s["in_service"] == 2)
    assert at["DetachInstances"] - served >= 0.6  # healthy before the retirement
    assert at["TerminateInstances"] - at["DetachInstances"] >= 0.8  # drained before the end


def test_a_terminating_lifecycle_hook_of_the_owner_runs(aws, scene):
    web = scene(size=1, minimum=0)
    aws.client("autoscaling").put_lifecycle_hook(
        AutoScalingGroupName=web.name, LifecycleHookName="drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
    )  # fmt: skip
    web.assert_swapped(web.swap())
    states = {m["lifecycle_state"] for s in web.capacity.samples for m in s["members"] if m["instance_id"] == web.old[0]}
    assert "Terminating:Wait" in states
    assert aws.control.calls(action="DetachInstances") == []


@pytest.mark.parametrize("name", ["my web group (blue) / 1", "g" * 255], ids=["spaces", "255 characters"])
def test_any_group_name_will_do(scene, name):
    web = scene(size=1, minimum=0, name=name)
    report = web.swap()
    web.assert_swapped(report)
    assert report["asg_name"] == name


def test_max_swaps_leaves_the_rest_for_another_time(scene):
    web = scene(size=3, maximum=4)
    report = web.swap(max_swaps=1)
    web.assert_swapped(report, web.old[0])
    assert (report["remaining"], report["executions_needed"]) == (2, 2)
    rest = web.swap()
    assert [s["old_instance_id"] for s in rest["swapped"]] == web.old[1:]
    assert [s["reason"] for s in rest["skipped"]] == ["ALREADY_SPOT"]


def test_a_dry_run_says_what_it_would_do_and_does_nothing(aws, scene):
    web = scene(size=2)
    aws.poison(POOL_B)
    aws.control.clear_calls()
    report = web.swap(dry_run=True)
    (planned,) = report["planned"]
    assert 40 < float(planned.pop("monthly_saving_usd")) < 50  # 65 % of $0.096 an hour
    assert planned == {"instance_id": web.old[0], "pool": POOL_A}
    assert [s["reason"] for s in report["skipped"]] == ["POOL_POISONED"]
    assert report["swapped"] == [] and set(report) - {"executions_needed"} == REPORT | {"planned"}
    web.assert_nothing_changed()
    assert web.row() == {}


def test_two_groups_are_swapped_at_the_same_time(scene):
    webs = [scene(size=1, minimum=1, maximum=1) for _ in range(2)]
    for web in webs:
        web.start()
    for web in webs:
        web.assert_swapped(web.end()["output"])


def test_a_policy_that_scales_in_the_middle_takes_nothing_of_the_room_we_made(aws, scene, settings):
    """The group is at its MaxSize under load: its own scaling wants the place that the old instance is still leaving."""
    web = scene(size=2, maximum=2)
    settings(max_swaps=1)
    aws.control.timing(detach=600)
    web.start().reach("PauseForRetirement")
    wait_for(lambda: web.group.describe()["MaxSize"] == 2)
    with pytest.raises(ClientError, match="must be between"):
        web.group.update(DesiredCapacity=3)
    aws.control.timing(detach=0.3)
    web.assert_swapped(web.end()["output"], web.old[0])


def test_an_owner_who_makes_room_and_scales_in_the_middle_gets_both(aws, scene, settings):
    web = scene(size=2, maximum=2)
    settings(max_swaps=1)
    aws.control.timing(detach=600)
    web.start().reach("PauseForRetirement")
    web.group.update(MaxSize=4, DesiredCapacity=3)
    aws.control.timing(detach=0.3)
    assert web.end()["status"] == "SUCCEEDED"
    after = web.group.describe()
    assert (after["MaxSize"], after["DesiredCapacity"]) == (4, 3)
    assert web.capacity.lowest >= 2 and not web.leased()
    web.assert_no_stray()
