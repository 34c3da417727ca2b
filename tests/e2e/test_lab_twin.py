"""The twin of an instance: each choice of the owner is repeated, refused, or named as lost before any launch."""

import json

import pytest

from lab_scene import held_up
from scene import wait_for

OPTIONS = {
    "CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 1},
    "PrivateDnsNameOptions": {"HostnameType": "resource-name", "EnableResourceNameDnsARecord": True},
}


def root_volume(web, instance_id=None):
    return web.old.describe(instance_id)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]


def tags_of_volume(web, volume):
    described = web.old.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", [])}


def test_what_its_owner_chose_is_launched_again_and_its_volume_is_backed_up_on(lab):
    web = lab()
    web.aws.control.instance(web.old.id, set=OPTIONS)
    web.old.ec2.create_tags(Resources=[root_volume(web)], Tags=[{"Key": "backup", "Value": "daily"}])
    web.aws.control.clear_calls()
    report = web.swap(capture_image=True)
    web.assert_swapped(report)
    asked = web.aws.control.calls(action="RunInstances")[0]["params"]
    assert (asked["CpuOptions.CoreCount"], asked["CpuOptions.ThreadsPerCore"]) == ("1", "1")
    assert asked["PrivateDnsNameOptions.HostnameType"] == "resource-name"
    tags = tags_of_volume(web, root_volume(web, report["new_instance_id"]))
    assert (tags["backup"], tags["ManagedBy"]) == ("daily", "SpotOptimizer")
    for told in ("can't be stopped", "user data runs again", "stays on its own volumes"):
        assert told in report["detail"], told


def many_tags(web):
    tags = [{"Key": f"key-{n:02}", "Value": "x"} for n in range(48)]
    web.old.ec2.create_tags(Resources=[web.old.id], Tags=tags)


REFUSALS = {
    "license configuration": lambda w: w.aws.control.instance(
        w.old.id, set={"Licenses": [{"LicenseConfigurationArn": "arn:aws:license-manager:us-east-1:1:license-configuration:lic-1"}]}
    ),
    "52 tags": many_tags,
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSALS)
def test_what_a_twin_could_not_have_is_refused(lab, said):
    web = lab()
    REFUSALS[said](web)
    web.aws.control.clear_calls()
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("REFUSED", "NOT_REPRODUCIBLE"), report
    assert said in report["detail"]
    web.assert_nothing_changed()


def test_a_plan_names_what_would_be_lost_and_what_is_not_looked_at(lab):
    web = lab(tags={"team": "lab"})
    report = web.swap(dry_run=True, capture_image=True)
    assert report["outcome"] == "PLANNED"
    losses, unseen = " ".join(report["losses"]), " ".join(report["not_looked_at"])
    assert "can't be stopped" in losses and "user data runs again" in losses
    for named in ("DNS", "CloudWatch alarms", "Global Accelerator", "VPC Lattice", "side by side"):
        assert named in unseen, named
    web.assert_untouched()


@pytest.mark.parametrize("dies", [False, True], ids=["taken back", "dies"])
def test_a_swap_that_is_undone_leaves_no_volume(lab, dies):
    """An image may keep its volume beyond the instance. A volume that only bears the swap's tag is another owner's."""
    web, newcomer, let_go = held_up(lab, "PauseForHealth", target_groups=0)
    mapping = web.old.describe(newcomer)["BlockDeviceMappings"][0]
    web.old.ec2.modify_instance_attribute(
        InstanceId=newcomer,
        BlockDeviceMappings=[{"DeviceName": mapping["DeviceName"], "Ebs": {"DeleteOnTermination": False}}],
    )
    tags = [("ManagedBy", "SpotOptimizer"), ("spot-optimizer:swap", web.old.journal()["swap_id"])]
    other = web.old.ec2.create_volume(
        Size=1, AvailabilityZone="us-east-1a",
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": k, "Value": v} for k, v in tags]}],
    )["VolumeId"]  # fmt: skip
    if dies:
        web.reach_again("PauseForHealth")  # A look has seen the newcomer alive.
        web.aws.control.kill(newcomer)
    else:
        web.old.tag("spot-optimizer:opt-out", "true")
    report = let_go()
    assert report["outcome"] == "ROLLED_BACK", report
    ids = [mapping["Ebs"]["VolumeId"]]
    found = web.old.ec2.describe_volumes(Filters=[{"Name": "volume-id", "Values": [*ids, other]}])["Volumes"]
    assert [volume["VolumeId"] for volume in found] == [other] and other in report["detail"], report
    web.old.ec2.delete_volume(VolumeId=other)
    web.assert_untouched()


def test_what_was_written_since_the_image_is_told_when_the_old_one_is_terminated(lab, settings):
    settings(lab_old_instance="terminate")
    web = lab()
    report = web.swap(capture_image=True)
    web.assert_swapped(report, old_state="terminated")
    assert "what was written to its volumes since 20" in report["detail"]


def notice(web, newcomer):
    """Returns EC2's interruption notice of a LAB account, as the risk manager gets it."""
    with web.aws.function_environment("RiskManagerFunctionName", ENVIRONMENT_TYPE="LAB"):
        return web.aws.invoke("RiskManagerFunctionName", web.aws.drill_event(newcomer))


def test_an_interrupted_newcomer_is_told_and_one_execution_brings_the_old_one_back(lab, inbox):
    web = lab(address=True, target_groups=1)
    report = web.swap()
    web.assert_swapped(report)
    newcomer = report["new_instance_id"]
    assert notice(web, newcomer) == ({"outcome": "IGNORED_LAB"}, None)
    wait_for(lambda: any("bring_back" in str(message) and web.old.id in str(message) for message in inbox()))
    web.aws.control.kill(newcomer)
    back = web.swap(bring_back=True)
    assert (back["outcome"], back["instance_id"]) == ("BROUGHT_BACK", web.old.id), back
    web.assert_untouched()


def test_a_newcomer_that_runs_serves_until_the_old_one_is_back(lab):
    web = lab(address=True)
    report = web.swap()
    web.assert_swapped(report)
    newcomer, control = report["new_instance_id"], web.aws.control
    control.instance(web.old.id, status="initializing")
    web.start(bring_back=True)
    wait_for(lambda: web.old.state() == "running")
    web.reach_again("PauseForRollback")
    assert (web.old.state(newcomer), web.old.address_at()) == ("running", newcomer), "it has not booted yet"
    control.instance(web.old.id, status="ok")
    back = web.end()
    assert back["outcome"] == "BROUGHT_BACK", back
    web.assert_untouched()
    again = web.swap(bring_back=True)
    assert (again["outcome"], again["reason"]) == ("REFUSED", "INSTANCE_CHANGED"), "once is enough"


def test_a_way_back_whose_execution_dies_while_both_run_is_ended_by_the_reconciler(lab, settings):
    web = lab(address=True)
    web.swap()
    settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.aws.control.instance(web.old.id, status="initializing")
    web.start(bring_back=True)
    wait_for(lambda: web.old.state() == "running")
    web.stop()
    web.aws.control.instance(web.old.id, status="ok")
    web.reconcile()
    web.assert_untouched()


def test_a_newcomer_on_which_its_owner_has_settled_stays(lab):
    web = lab(address=True)
    newcomer = web.swap()["new_instance_id"]
    ec2, protect = web.old.ec2, "DisableApiTermination"
    ec2.modify_instance_attribute(InstanceId=newcomer, **{protect: {"Value": True}})
    refused = web.swap(bring_back=True)
    assert (refused["outcome"], refused["reason"]) == ("REFUSED", "INSTANCE_CHANGED") and protect in refused["detail"]
    ec2.modify_instance_attribute(InstanceId=newcomer, **{protect: {"Value": False}})
    arn = web.aws.network.target_group()
    elb = web.aws.client("elbv2")
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": newcomer, "Port": 80}])
    refused = web.swap(bring_back=True)
    assert refused["outcome"] == "REFUSED" and arn in refused["detail"], refused
    assert (web.old.state(), web.old.state(newcomer)) == ("stopped", "running")
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": newcomer, "Port": 80}])


def test_what_nothing_replaced_is_not_brought_back(lab):
    web = lab()
    web.aws.control.clear_calls()
    report = web.swap(bring_back=True)
    assert (report["outcome"], report["reason"]) == ("REFUSED", "INSTANCE_CHANGED")
    web.assert_nothing_changed()


def test_a_row_that_names_anothers_instance_as_the_newcomer_brings_nothing_back(lab):
    web, other = lab(), lab()
    lab_swap = {"old_instance": "stop", "address": None, "registrations": [], "capture": False, "leaving": True, "stopping": True}
    journal = {
        "swap_id": f"{web.old.id}-1700000000000", "stage": "Retiring", "old": web.old.id, "newcomer": other.old.id,
        "launching_since": "2026-01-01T00:00:00Z", "attempt": 0, "original": None, "max_raised_to": None,
        "retirement": "Detach", "desired_settled": False, "undo": None, "lab": lab_swap,
    }  # fmt: skip
    target = f"123456789012#us-east-1#{web.old.id}"
    web.aws.table("SwapsTableName").put_item(Item={"target": target, "replaced": json.dumps(journal)})
    web.aws.control.clear_calls()
    report = web.swap(bring_back=True)
    assert (report["outcome"], report["reason"]) == ("REFUSED", "INSTANCE_CHANGED") and other.old.id in report["detail"]
    web.assert_nothing_changed()
    other.assert_untouched()
