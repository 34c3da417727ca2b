"""Swaps that fail: each phase can be rolled back to the owner's group, and capacity holds all the while."""

import pytest

from scene import wait_for

INTERNAL = {"code": "Client.InternalError", "message": "Client.InternalError: Client error on launch"}

# What stands against the whole account.
LAUNCH_REFUSALS = {
    "MaxSpotInstanceCountExceeded": (400, "QUOTA_EXCEEDED"),
    "VcpuLimitExceeded": (400, "QUOTA_EXCEEDED"),
    "UnauthorizedOperation": (403, "NOT_AUTHORIZED"),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (400, "NOT_AUTHORIZED"),
}
# What stands against one subnet, or one template.
OWN_REFUSALS = {
    "InsufficientFreeAddressesInSubnet": "SUBNET_FULL",
    "InvalidParameterValue": "LAUNCH_REJECTED",
    "InvalidAMIID.NotFound": "LAUNCH_REJECTED",
}


@pytest.mark.parametrize("code", LAUNCH_REFUSALS)
def test_a_launch_that_nothing_will_let_through_ends_the_run(aws, scene, code):
    status, reason = LAUNCH_REFUSALS[code]
    web = scene(size=2)
    aws.control.fault("RunInstances", code=code, status=status, message="says AWS")
    report = web.swap()
    (skipped,) = report["skipped"]
    assert skipped["reason"] == report["ended_by"]["reason"] == reason
    assert code in skipped["detail"] and "says AWS" in skipped["detail"]
    assert (report["remaining"], report["executions_needed"]) == (1, 1)  # the second would meet the same fate
    assert len(aws.control.calls(action="RunInstances")) == 1
    web.assert_untouched()


@pytest.mark.parametrize("code", OWN_REFUSALS)
def test_a_launch_that_only_this_member_is_refused_leaves_the_others_their_turn(aws, scene, code):
    web = scene(size=2)
    subnet = aws.network.subnets["us-east-1a"]
    aws.control.fault("RunInstances", code=code, status=400, message="says AWS", match={"SubnetId": subnet})
    report = web.swap()
    (skipped,) = report["skipped"]
    assert (skipped["instance_id"], skipped["reason"]) == (web.old[0], OWN_REFUSALS[code])
    assert (subnet if code.startswith("Insufficient") else f"{code}: says AWS") in skipped["detail"]
    assert report["remaining"] == 0 and "ended_by" not in report
    web.assert_swapped(report, web.old[1])


def test_a_newcomer_that_dies_while_pending_is_given_up_at_once(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(kill=INTERNAL)
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_UNHEALTHY")
    assert "Client.InternalError" in report["rolled_back"][0]["detail"]


def test_a_newcomer_that_is_interrupted_while_starting_was_at_risk(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(kill={"code": "Server.SpotInstanceTermination", "message": "Spot instance termination"})
    web.assert_rolled_back(web.swap(), "NEWCOMER_AT_RISK")


@pytest.mark.parametrize("status", ["initializing", "impaired", "absent"])
def test_a_newcomer_whose_status_checks_do_not_pass_is_given_up(aws, scene, settings, status):
    web = scene(size=1, minimum=0)
    settings(health_timeout_seconds=1)
    aws.control.newcomers(status=status)
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_UNHEALTHY")
    assert "1 s after launch: its status checks have not both passed" in report["rolled_back"][0]["detail"]


def test_a_newcomer_that_stays_pending_is_given_up(aws, scene, settings):
    web = scene(size=1, minimum=0)
    settings(health_timeout_seconds=1)
    aws.control.newcomers(stay_pending=True)
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_UNHEALTHY")
    assert "it is still pending" in report["rolled_back"][0]["detail"]


def test_a_pool_poisoned_while_its_newcomer_starts_sends_it_back(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(status="initializing")
    newcomer = web.start().newcomer()
    aws.put_drill(newcomer)
    aws.wait_pool(aws.pool_of(newcomer))
    aws.control.instance(newcomer, status="ok")
    web.assert_rolled_back(web.end()["output"], "NEWCOMER_AT_RISK")


def test_a_pool_poisoned_before_the_old_one_leaves_keeps_the_old_one(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(lifecycle_state="Pending")
    newcomer = web.start().reach("PauseForInService").newcomer()
    aws.poison(aws.pool_of(newcomer))
    aws.control.instance(newcomer, lifecycle_state="InService")
    web.assert_rolled_back(web.end()["output"], "NEWCOMER_AT_RISK")


def test_a_newcomer_that_ec2_takes_back_is_seen_even_where_its_notice_poisons_nothing(aws, scene):
    """Only one of the two accounts that poison a pool is interrupted: the gate stays open, the Spot request shows it."""
    web = scene(size=1, minimum=0)
    aws.settings(poison_threshold_accounts=2, poll_seconds=1, launch_visible_after_seconds=1)
    aws.control.newcomers(lifecycle_state="Pending")
    newcomer = web.start().reach("PauseForInService").newcomer()
    aws.control.instance(newcomer, lifecycle_state="InService", spot_request="marked-for-termination")
    report = web.end()["output"]
    web.assert_rolled_back(report, "NEWCOMER_AT_RISK")
    assert "marked-for-termination" in report["rolled_back"][0]["detail"] and aws.pools() == {}


def test_an_attach_that_is_refused_sends_the_newcomer_back(aws, scene):
    web = scene(size=2, maximum=2)
    refusal = "Instance i-1 does not exist in the AMI catalogue"
    aws.control.fault("AttachInstances", code="ValidationError", status=400, message=refusal)
    report = web.swap()
    web.assert_rolled_back(report, "ATTACH_REJECTED", count=2)
    assert refusal in report["rolled_back"][0]["detail"] and report["remaining"] == 0


def test_an_attach_that_is_not_permitted_sends_the_newcomer_back(aws, scene):
    web = scene(size=1, minimum=1, maximum=1)
    aws.control.fault("AttachInstances", code="AccessDenied", status=403, message="not you")
    report = web.swap()
    web.assert_rolled_back(report, "NOT_AUTHORIZED")
    assert "autoscaling:AttachInstances" in report["rolled_back"][0]["detail"]


def test_a_newcomer_that_never_gets_into_service_is_taken_out_again(aws, scene, settings):
    web = scene(size=1, minimum=0)
    settings(in_service_timeout_seconds=1)
    aws.control.newcomers(lifecycle_state="Pending")
    web.assert_rolled_back(web.swap(), "NEWCOMER_NOT_SERVING")


def test_a_newcomer_that_its_target_group_never_finds_healthy_is_taken_out_again(aws, scene, settings):
    web = scene(size=2, with_target_group=True)
    settings(in_service_timeout_seconds=1, max_swaps=1)
    aws.control.newcomers(target_health={"state": "unhealthy"})
    report = web.swap()
    web.assert_rolled_back(report, "NEWCOMER_NOT_SERVING")
    assert "1 s after attach: its target groups say" in report["rolled_back"][0]["detail"]


def test_a_newcomer_that_dies_once_in_service_keeps_the_old_one(aws, scene):
    """The group has not noticed yet; only EC2 shows it."""
    web = scene(size=1, minimum=0)
    aws.control.timing(replace=60)
    aws.control.newcomers(lifecycle_state="Pending")
    newcomer = web.start().reach("PauseForInService").newcomer()
    aws.control.kill(newcomer)
    aws.control.instance(newcomer, lifecycle_state="InService")
    report = web.end()["output"]
    assert len(report["rolled_back"]) == 1, report
    web.assert_untouched()


def protect_old(web):
    web.aws.client("autoscaling").set_instance_protection(AutoScalingGroupName=web.name, InstanceIds=web.old, ProtectedFromScaleIn=True)


def resume_az_rebalance(web):
    web.aws.client("autoscaling").resume_processes(AutoScalingGroupName=web.name, ScalingProcesses=["AZRebalance"])


CHANGES = {
    "protects the old one": (protect_old, {"SCALE_IN_PROTECTED", "GROUP_CHANGED"}),
    "resumes AZRebalance": (resume_az_rebalance, {"GROUP_CHANGED"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_before_the_old_one_leaves_the_owner(aws, scene, change):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(lifecycle_state="Pending")
    newcomer = web.start().reach("PauseForInService").newcomer()
    act, reasons = CHANGES[change]
    act(web)
    aws.control.instance(newcomer, lifecycle_state="InService")
    report = web.end()["output"]
    assert report["rolled_back"][0]["reason"] in reasons
    web.assert_rolled_back(report, report["rolled_back"][0]["reason"])


def test_a_desired_capacity_that_the_owner_set_meanwhile_is_kept(aws, scene):
    web = scene(size=1, minimum=0, maximum=4)
    aws.control.newcomers(lifecycle_state="Pending")
    newcomer = web.start().reach("PauseForInService").newcomer()
    aws.control.newcomers(lifecycle_state=None)
    web.group.update(DesiredCapacity=3)
    aws.control.instance(newcomer, lifecycle_state="InService")
    report = web.end()["output"]
    assert [r["reason"] for r in report["rolled_back"]] == ["GROUP_CHANGED"]
    after = web.group.describe()
    assert (after["DesiredCapacity"], len(after["Instances"]), after["SuspendedProcesses"]) == (3, 3, [])
    assert web.old[0] in web.group.instance_ids and web.capacity.lowest >= 1 and not web.leased()
    web.assert_no_stray()


def test_a_group_deleted_in_the_middle_leaves_nothing_behind(aws, scene):
    web = scene(size=1, minimum=0)
    aws.control.newcomers(status="initializing")
    newcomer = web.start().reach("PauseForHealth").newcomer()
    web.group.delete()
    aws.control.instance(newcomer, status="ok")
    assert [r["reason"] for r in web.end()["output"]["rolled_back"]] == ["GROUP_CHANGED"]
    web.assert_no_stray()
    assert not web.leased()


def test_a_retirement_that_is_refused_sends_the_newcomer_back(aws, scene):
    web = scene(size=2, maximum=2)
    aws.control.fault("DetachInstances", code="ValidationError", status=400, match={"InstanceIds.member.1": web.old[0]})
    report = web.swap()
    assert [(r["instance_id"], r["reason"]) for r in report["rolled_back"]] == [(web.old[0], "RETIRE_REJECTED")]
    assert report["remaining"] == 0 and "ended_by" not in report
    web.assert_swapped(report, web.old[1])


@pytest.mark.parametrize("replace", [pytest.param(0.2, id="noticed by the group"), pytest.param(60, id="not noticed")])
def test_a_newcomer_that_dies_while_the_old_one_leaves_costs_no_capacity(aws, scene, replace):
    web = scene(size=2, minimum=0)
    aws.control.timing(detach=600, replace=replace, group_launch=1.0)
    newcomer = web.start(max_swaps=1).reach("PauseForRetirement").newcomer()
    dip = len(web.capacity.samples)
    aws.control.kill(newcomer)
    web.reach_again("PauseForRetirement")
    aws.control.timing(detach=0.3)
    execution = web.end()
    assert execution["status"] == "SUCCEEDED", execution
    after = web.capacity.samples[-1]
    assert (after["in_service"], after["desired"]) == (2, 2), execution["output"]
    assert web.aws.instance(web.old[1])["State"]["Name"] == "running"
    assert min(s["in_service"] for s in web.capacity.samples[dip:]) >= 1  # the death itself is nobody's to prevent
    web.assert_no_stray()
    assert not web.leased() and web.group.describe()["SuspendedProcesses"] == []


def test_what_only_bears_the_tag_of_a_swap_is_left_alone_and_named(aws, scene):
    """Any caller can write or delete a tag. The ClientToken of its launch proves the newcomer."""
    web, ec2 = scene(size=1, minimum=0), aws.client("ec2")
    aws.control.newcomers(status="initializing")
    newcomer = web.start().reach("PauseForHealth").newcomer()
    swap = web.tags(newcomer)["spot-optimizer:swap"]
    on_demand = ec2.run_instances(
        ImageId=aws.network.image, InstanceType="m5.large", MinCount=1, MaxCount=1,
        SubnetId=aws.network.subnets["us-east-1a"],
    )["Instances"][0]["InstanceId"]  # fmt: skip
    bystanders = [on_demand, aws.launch_spot()]
    ec2.create_tags(Resources=bystanders, Tags=[{"Key": "spot-optimizer:swap", "Value": swap}])
    ec2.delete_tags(Resources=[newcomer], Tags=[{"Key": "spot-optimizer:swap"}])
    web.stop()
    aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    assert [aws.instance(i)["State"]["Name"] for i in bystanders] == ["running", "running"]
    wait_for(lambda: aws.instance(newcomer)["State"]["Name"] == "terminated")
    assert all(bystander in web.row()["last_summary"] for bystander in bystanders), web.row()
    ec2.terminate_instances(InstanceIds=bystanders)
    web.assert_untouched()
