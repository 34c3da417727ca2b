"""Instances that are left alone, each with its reason, while the rest of the group is swapped."""

import pytest

from scene import reasons


def protect(web):
    web.aws.client("autoscaling").set_instance_protection(AutoScalingGroupName=web.name, InstanceIds=web.old[:1], ProtectedFromScaleIn=True)


def opt_out(web):
    tag = {"Key": "spot-optimizer:opt-out", "Value": "true"}
    web.aws.client("ec2").create_tags(Resources=web.old[:1], Tags=[tag])


def forbid_termination(web):
    web.protect_from_termination(web.old[0])


def told(**fields):
    return lambda web: web.aws.control.instance(web.old[0], set=fields)


LEFT_ALONE = {
    "SCALE_IN_PROTECTED": protect,
    "OPTED_OUT": opt_out,
    "TERMINATION_PROTECTED": forbid_termination,
    "NOT_SPOT_CAPABLE": told(**{"Placement.Tenancy": "host"}),
    "MANAGED_ELSEWHERE": told(Operator={"Managed": True, "Principal": "eks.amazonaws.com"}),
}


@pytest.mark.parametrize("reason", LEFT_ALONE)
def test_an_instance_is_skipped_for(scene, reason):
    web = scene(size=2)
    LEFT_ALONE[reason](web)
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[0]: reason}
    web.assert_swapped(report, web.old[1])


def test_an_instance_in_standby_is_skipped(aws, scene):
    web = scene(size=2, minimum=0)
    aws.control.instance(web.old[0], lifecycle_state="Standby")
    web.group.update(DesiredCapacity=1)
    web.remember()
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[0]: "NOT_IN_SERVICE"}
    web.assert_swapped(report, web.old[1])


def test_an_unhealthy_instance_that_its_owner_keeps_is_skipped_and_holds_up_nothing(aws, scene):
    web = scene(size=2, minimum=0)
    web.group.suspend("ReplaceUnhealthy")
    web.remember()
    aws.control.instance(web.old[0], health_status="Unhealthy")
    report = web.swap()
    assert reasons(report["skipped"])[web.old[0]] == "NOT_IN_SERVICE"
    web.assert_owners()


def test_a_group_that_is_on_spot_already_is_left_alone(aws, scene):
    web = scene(size=2)
    web.swap()
    web.remember()
    aws.control.clear_calls()
    report = web.swap()
    assert reasons(report["skipped"]) == dict.fromkeys(web.old, "ALREADY_SPOT")
    web.assert_untouched()
    assert aws.control.calls(action="RunInstances") == []


def test_a_group_opts_out_as_a_whole(scene):
    web = scene(size=2, tags={"spot-optimizer:opt-out": "true"})
    assert set(reasons(web.swap()["skipped"]).values()) == {"OPTED_OUT"}
    web.assert_untouched()


def test_the_owners_tag_keeps_so_many_on_demand(scene):
    web = scene(size=3, tags={"spot-optimizer:min-on-demand": "2"})
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["ON_DEMAND_FLOOR"] * 2
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


def test_the_owners_policy_keeps_so_many_on_demand(scene):
    distribution = {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 100}
    web = scene(size=2, overrides=["m5.large"], distribution=distribution)
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["ON_DEMAND_FLOOR"]
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


def test_the_owners_share_is_of_what_he_asked_for_also_while_the_group_is_one_more(scene):
    web = scene(size=2, overrides=["m5.large"], distribution={"OnDemandPercentageAboveBaseCapacity": 50})
    report = web.swap()
    assert list(reasons(report["skipped"]).values()) == ["ON_DEMAND_FLOOR"]
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


def test_an_empty_group_has_nothing_to_swap(scene):
    web = scene(size=0)
    report = web.swap()
    assert [report[k] for k in ("swapped", "skipped", "rolled_back", "remaining")] == [[], [], [], 0]
    web.assert_untouched()
