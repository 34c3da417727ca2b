"""Lab swaps: a stand-alone instance becomes Spot, and its twin takes over or the old instance keeps serving."""

import base64
import json

import pytest
import yaml

from lab_scene import MACHINE, held_up
from local_aws.lab import USER_DATA
from local_aws.paths import ROOT

SOURCE = ROOT / "functions/lab-optimizer/swap.asl.yaml"


# -- what a swap does ------------------------------------------------------------------------------------------------


def test_the_twin_takes_over_address_and_target_groups(lab):
    web = lab(address=True, target_groups=2)
    old = web.old.describe()
    report = web.swap()
    web.assert_swapped(report)
    assert "its volumes are kept" in report["detail"]
    new = web.old.describe(report["new_instance_id"])
    for field in ("ImageId", "InstanceType", "SubnetId", "Placement", "SecurityGroups"):
        assert new[field] == old[field], field
    for option in ("HttpTokens", "HttpPutResponseHopLimit"):
        assert new["MetadataOptions"][option] == old["MetadataOptions"][option]
    tags = {t["Key"]: t["Value"] for t in new["Tags"]}
    assert {t["Key"]: t["Value"] for t in old["Tags"]}.items() <= tags.items()
    assert (tags["ManagedBy"], tags["spot-optimizer:swap"].startswith(web.old.id)) == ("SpotOptimizer", True)
    attribute = web.old.ec2.describe_instance_attribute(InstanceId=new["InstanceId"], Attribute="userData")
    assert base64.b64decode(attribute["UserData"]["Value"]).decode() == USER_DATA


def test_user_data_never_enters_the_history(lab):
    web = lab()
    web.swap()
    assert "hello" not in str(web.aws.history(web.arn)) and "UserData" not in str(web.aws.history(web.arn))


def test_the_old_one_is_terminated_if_the_setting_says_so(lab, settings):
    settings(lab_old_instance="terminate")
    web = lab(address=True)
    report = web.swap(capture_image=True)
    web.assert_swapped(report, old_state="terminated")


def test_a_snapshot_that_ec2_still_holds_to_be_in_use_is_deleted_all_the_same(lab):
    """EC2 refuses the deletion for a moment after the image is deregistered."""
    web = lab()
    web.aws.control.images(snapshots_linger=True)
    web.assert_swapped(web.swap(capture_image=True))
    deleted = web.aws.control.calls(action="DeleteSnapshot")
    assert [c.get("error") for c in deleted[:2]] == ["InvalidSnapshot.InUse", None]


def test_without_an_image_the_old_disks_are_kept_whatever_the_setting_says(lab, settings):
    settings(lab_old_instance="terminate")
    web = lab()
    web.assert_swapped(web.swap(), old_state="stopped")


def test_an_image_of_the_disks_is_only_a_means(lab):
    web = lab(target_groups=1)
    web.aws.control.clear_calls()
    report = web.swap(capture_image=True)
    web.assert_swapped(report)
    assert "an image holds EBS volumes only" in report["detail"]
    created = web.aws.control.calls(action="CreateImage")
    assert [c["params"]["NoReboot"] for c in created] == ["true"]
    assert web.old.describe(report["new_instance_id"])["ImageId"] != web.old.describe()["ImageId"]


def test_a_burstable_twin_keeps_the_choice_of_credits(lab):
    web = lab(instance_type="t3.micro")
    asked = web.aws.control
    web.assert_swapped(web.swap())
    chosen = web.old.ec2.describe_instance_credit_specifications(InstanceIds=[web.old.id])
    credits = chosen["InstanceCreditSpecifications"][0]["CpuCredits"]
    assert [c["params"]["CreditSpecification.CpuCredits"] for c in asked.calls(action="RunInstances")] == [credits]


def test_the_old_one_serves_until_the_newcomer_does(lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.newcomers(target_health={"state": "initial"})
    web.start().reach("PauseForTakeOver")
    assert (web.old.state(), web.old.address_at(), web.old.health()) == ("running", web.old.id, ["healthy"])
    web.stop()
    web.aws.settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile()
    web.assert_untouched()


def test_a_dry_run_changes_nothing(lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.clear_calls()
    report = web.swap(dry_run=True)
    assert (report["outcome"], report["detail"]) == ("PLANNED", f"from pool {web.aws.pool_of(web.old.id)}")
    web.assert_nothing_changed()


def test_two_executions_do_not_meet(lab):
    web = lab()
    web.aws.control.newcomers(status="initializing")
    web.start().reach("PauseForHealth")
    first = web.arn
    second = web.aws.wait_execution(web.start().arn)
    assert (second["status"], second["error"]) == ("FAILED", "InstanceBusy")
    web.arn = first
    web.aws.control.instance(web.old.newcomer(), status="ok")
    web.assert_swapped(web.end())


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_image_that_only_bears_the_tag_of_a_swap_is_neither_booted_nor_deleted(lab):
    """Backup policies copy tags. The name and the source of an image prove that it is the swap's."""
    web = lab()
    ec2, control = web.old.ec2, web.aws.control
    control.timing(image=600)
    web.start(capture_image=True).reach("PauseForImage")
    backup = ec2.create_image(InstanceId=web.old.id, Name=f"backup-of-{web.old.id}", NoReboot=True)["ImageId"]
    described = ec2.describe_images(ImageIds=[backup])["Images"][0]
    snapshot = described["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    tags = [("ManagedBy", "SpotOptimizer"), ("spot-optimizer:swap", web.old.journal()["swap_id"])]
    ec2.create_tags(Resources=[backup, snapshot], Tags=[{"Key": k, "Value": v} for k, v in tags])
    control.timing(image=0.3)
    report = web.end()
    assert report["outcome"] == "SWAPPED" and web.old.describe(report["new_instance_id"])["ImageId"] != backup, report
    assert [i["ImageId"] for i in web.old.images()] == [backup]
    assert [s["SnapshotId"] for s in web.old.snapshots()] == [snapshot]
    assert backup in report["detail"] and snapshot in report["detail"], report
    ec2.deregister_image(ImageId=backup)
    ec2.delete_snapshot(SnapshotId=snapshot)
    web.assert_swapped(report)


@pytest.mark.parametrize("capture, outcome", [(False, "REFUSED"), (True, "ROLLED_BACK")])
def test_no_capacity(lab, capture, outcome):
    web = lab()
    web.aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500)
    report = web.swap(capture_image=capture)
    assert (report["outcome"], report["reason"]) == (outcome, "NO_CAPACITY")
    web.assert_untouched()


def test_an_image_that_fails_ends_the_swap(lab):
    web = lab()
    web.aws.control.images("failed")
    report = web.swap(capture_image=True)
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "IMAGE_FAILED")
    web.assert_untouched()


def test_a_newcomer_that_dies_while_starting(lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.newcomers(kill={"after_seconds": 0.1, "code": "Server.InternalError", "message": "KMS"})
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "NEWCOMER_UNHEALTHY")
    web.assert_untouched()


def test_a_newcomer_that_never_gets_healthy_in_the_target_group(lab, settings):
    settings(in_service_timeout_seconds=1)
    web = lab(address=True, target_groups=1)
    web.aws.control.newcomers(target_health={"state": "unhealthy"})
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "NEWCOMER_NOT_SERVING")
    web.assert_untouched()


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForTakeOver"])
def test_a_pool_that_is_poisoned_meanwhile(lab, state):
    web, _, let_go = held_up(lab, state)
    web.aws.poison(web.aws.pool_of(web.old.id))
    report = let_go()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "NEWCOMER_AT_RISK")
    web.assert_untouched()


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForTakeOver"])
def test_a_newcomer_that_is_to_be_interrupted_poisons_nothing_and_goes(lab, state):
    """A LAB account's notice poisons nothing, so the gate does not show it; the newcomer's Spot request does."""
    web, newcomer, let_go = held_up(lab, state)
    web.aws.control.instance(newcomer, spot_request="marked-for-termination")
    report = let_go()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "NEWCOMER_AT_RISK")
    assert "marked-for-termination" in report["detail"] and web.aws.pools() == {}
    web.assert_untouched()


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForTakeOver"])
def test_an_instance_whose_owner_opts_out_meanwhile(lab, state):
    web, _, let_go = held_up(lab, state)
    web.old.tag("spot-optimizer:opt-out", "true")
    web.aws.control.clear_calls()
    report = let_go()
    assert web.aws.control.calls(action="AssociateAddress") == []
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    assert "OPTED_OUT" in report["detail"]
    web.assert_untouched()


def test_an_instance_whose_owner_opts_out_while_it_drains(lab):
    web = lab(address=True, target_groups=1)
    web.drains().old.tag("spot-optimizer:opt-out", "true")
    report = web.drained().end()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    assert "OPTED_OUT" in report["detail"] and web.old.row()["last_summary"] == "RolledBack"
    web.assert_untouched()


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForTakeOver"])
def test_an_instance_that_gets_an_address_meanwhile(lab, state):
    web, _, let_go = held_up(lab, state, address=False)
    web.old.give_address()
    report = let_go()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    assert f"it has the Elastic IP {web.old.allocation_id}" in report["detail"]
    web.assert_untouched()


@pytest.mark.parametrize("state", ["PauseForHealth", "PauseForTakeOver"])
def test_an_instance_that_is_registered_elsewhere_meanwhile(lab, state):
    web, _, let_go = held_up(lab, state)
    web.old.register(web.aws.network.target_group())
    report = let_go()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    assert f"target group {web.old.target_groups[1]} has it" in report["detail"]
    web.assert_untouched()


def test_an_instance_that_is_registered_elsewhere_while_it_drains(lab):
    web = lab(address=True, target_groups=1)
    web.drains().old.register(web.aws.network.target_group())
    report = web.drained().end()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    web.assert_untouched()


def test_an_address_that_its_owner_gave_it_meanwhile_stays(lab):
    """Our address, which went to the newcomer, would replace the one that the owner has given the instance since."""
    web = lab(address=True, target_groups=1)
    web.drains()
    ours = web.old.allocation_id
    assert web.old.address_at() == web.old.newcomer()
    web.old.give_address()
    report = web.drained().end()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "INSTANCE_CHANGED")
    web.assert_untouched()
    assert not web.old.ec2.describe_addresses(AllocationIds=[ours])["Addresses"][0].get("InstanceId")
    web.old.ec2.release_address(AllocationId=ours)


def test_a_newcomer_that_dies_while_the_old_one_leaves(lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.kill(web.drains().old.newcomer())
    report = web.reach("Rollback").drained().end()
    assert report["outcome"] == "ROLLED_BACK" and report["reason"] in ("NEWCOMER_AT_RISK", "NEWCOMER_NOT_SERVING"), report
    web.assert_untouched()


def test_an_address_that_cannot_be_moved(lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.fault("AssociateAddress", code="OperationNotPermitted", status=400)
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("ROLLED_BACK", "ATTACH_REJECTED")
    web.assert_untouched()


# -- what is deployed ------------------------------------------------------------------------------------------------


def test_the_deployed_state_machine_is_the_one_in_the_repository(lab_account):
    arn = lab_account.outputs[MACHINE]
    described = lab_account.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    name = lab_account.outputs["LabOptimizerFunctionName"]
    function = lab_account.client("lambda").get_function_configuration(FunctionName=name)
    source = SOURCE.read_text().replace("${LabOptimizerFunctionArn}", function["FunctionArn"])
    assert json.loads(described["definition"]) == yaml.safe_load(source)


def test_every_task_has_a_retry_a_way_out_and_a_file_named_after_it():
    states = yaml.safe_load(SOURCE.read_text())["States"]
    tasks = {name: state for name, state in states.items() if state["Type"] == "Task"}
    for name, task in tasks.items():
        caught = task["Catch"][-1]
        assert caught["ErrorEquals"] == ["States.ALL"], name
        assert caught["Next"] == {"Discover": "Refused", "Rollback": "Stuck", "Report": "Stuck"}.get(name, "Rollback")
        assert "Transient" in task["Retry"][0]["ErrorEquals"], name
    phases = [ROOT / "functions/lab-optimizer/src/phases", ROOT / "shared/swap/src/phases"]
    files = {p.stem.replace("_", "") for folder in phases for p in folder.glob("*.rs")}
    assert {name.lower() for name in tasks} <= files


# -- what the role may do --------------------------------------------------------------------------------------------


def test_the_role_can_launch_nothing_but_spot_and_stop_no_member_of_a_group(lab, scene):
    aws = lab().aws
    ec2 = aws.client_of("LabOptimizerFunctionName", "ec2")
    with pytest.raises(Exception, match="UnauthorizedOperation"):
        ec2.run_instances(ImageId=aws.network.image, InstanceType="m5.large", MinCount=1, MaxCount=1)
    group = scene(size=1, minimum=0)
    for call in (ec2.stop_instances, ec2.terminate_instances):
        with pytest.raises(Exception, match="UnauthorizedOperation"):
            call(InstanceIds=group.old)
