"""Lab swaps that are refused, and the gate that each is asked at."""

import pytest

from lab_scene import MACHINE, Lab

REFUSALS = {
    "KUBERNETES_NODE": lambda w: w.old.tag("kubernetes.io/cluster/lab", "owned"),
    "OPTED_OUT": lambda w: w.old.tag("spot-optimizer:opt-out", "true"),
    "TERMINATION_PROTECTED": lambda w: w.old.modify(DisableApiTermination={"Value": True}),
    "STOP_PROTECTED": lambda w: w.old.modify(DisableApiStop={"Value": True}),
    "NOT_SPOT_CAPABLE": lambda w: w.aws.control.instance(w.old.id, set={"Placement.Tenancy": "host"}),
    "MANAGED_ELSEWHERE": lambda w: w.aws.control.instance(w.old.id, set={"Operator": {"Managed": True, "Principal": "service"}}),
    "INSTANCE_STORE": lambda w: w.aws.control.instance(w.old.id, set={"RootDeviceType": "instance-store"}),
    "NOT_REPRODUCIBLE": lambda w: w.old.modify(SourceDestCheck={"Value": False}),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refused(lab, reason):
    web = lab()
    REFUSALS[reason](web)
    web.aws.control.clear_calls()
    report = web.swap(capture_image=True)
    assert (report["outcome"], report["reason"]) == ("REFUSED", reason), report
    assert "new_instance_id" not in report
    web.assert_nothing_changed()


def test_a_member_of_a_group_is_refused(lab_account, scene):
    group = scene(size=1)
    lab_account.control.clear_calls()
    arn = lab_account.start_execution({"instance_id": group.old[0]}, machine=MACHINE)
    report = lab_account.wait_execution(arn)["output"]
    assert (report["outcome"], report["reason"]) == ("REFUSED", "GROUP_MEMBER"), report
    group.assert_nothing_changed()


def test_an_instance_store_is_refused_without_consent(lab):
    web = lab(instance_type="m5d.large")
    web.aws.control.clear_calls()
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("REFUSED", "INSTANCE_STORE")
    assert "an image holds EBS volumes only" in report["detail"]
    web.assert_nothing_changed()


def test_a_prod_account_is_refused(aws):
    web = Lab(aws)
    with aws.function_environment("LabOptimizerFunctionName", ENVIRONMENT_TYPE="PROD"):
        aws.control.clear_calls()
        report = web.swap()
    assert (report["outcome"], report["reason"]) == ("REFUSED", "PROD_ACCOUNT")
    web.assert_nothing_changed()
    web.delete()


def test_spot_and_unknown_instances_are_refused(lab_account):
    for instance_id, reason in ((lab_account.launch_spot(), "ALREADY_SPOT"), ("i-0123456789abcdef0", "INSTANCE_GONE")):
        arn = lab_account.start_execution({"instance_id": instance_id}, machine=MACHINE)
        report = lab_account.wait_execution(arn)["output"]
        assert (report["outcome"], report["reason"]) == ("REFUSED", reason)


def test_a_misspelt_field_is_refused(lab):
    execution = lab().start(dryrun=True)
    ended = execution.aws.wait_execution(execution.arn)
    assert (ended["status"], ended["error"]) == ("FAILED", "InvalidInput") and "dryrun" in ended["cause"]


@pytest.mark.parametrize("capture", [False, True], ids=["from its AMI", "from an image"])
def test_the_gate_is_asked(lab, capture):
    web = lab()
    web.aws.poison(web.aws.pool_of(web.old.id))
    web.aws.control.clear_calls()
    report = web.swap(capture_image=capture)
    assert (report["outcome"], report["reason"]) == ("REFUSED", "POOL_POISONED")
    web.assert_nothing_changed(but=["UpdateItem"])


def test_a_gate_that_does_not_answer_is_closed(lab):
    web = lab()
    web.aws.control.fault("BatchGetItem", kind="delay", delay_seconds=2, skip=1)  # the settings are read first
    report = web.swap()
    assert (report["outcome"], report["reason"]) == ("REFUSED", "GATE_UNREACHABLE")
    web.assert_untouched()
