"""The deployed waste scanner: its findings, the resources it leaves alone, and its report if a call fails."""

import contextlib
import time
import uuid
from datetime import datetime
from decimal import Decimal

import pytest

from local_aws.paths import ACCOUNT, REGION

SCOPE = f"{ACCOUNT}#{REGION}"


class Estate:
    """An account's storage with waste in it; `scan` is one run of the scanner."""

    def __init__(self, aws):
        self.aws, self.ec2, self.control = aws, aws.client("ec2"), aws.control
        self.table = aws.table("WasteResourceTableName")

    def clear(self):
        for address in self.ec2.describe_addresses()["Addresses"]:
            with contextlib.suppress(Exception):
                self.ec2.release_address(AllocationId=address["AllocationId"])
        for image in self.ec2.describe_images(Owners=["self"])["Images"]:
            self.ec2.deregister_image(ImageId=image["ImageId"])
        for snapshot in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]:
            if snapshot["OwnerId"] == ACCOUNT:
                self.ec2.delete_snapshot(SnapshotId=snapshot["SnapshotId"])
        for volume in self.ec2.describe_volumes(Filters=[{"Name": "status", "Values": ["available"]}])["Volumes"]:
            self.ec2.delete_volume(VolumeId=volume["VolumeId"])
        for row in self.table.scan()["Items"]:
            self.table.delete_item(Key={"account_region": row["account_region"], "resource": row["resource"]})

    def address(self):
        return self.ec2.allocate_address(Domain="vpc")["AllocationId"]

    def volume(self, days_old=8, size=100, kind="gp3", tags=None, **more):
        tagging = [{"ResourceType": "volume", "Tags": tags}] if tags else []
        volume = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=size, VolumeType=kind, TagSpecifications=tagging, **more)[
            "VolumeId"
        ]
        self.control.storage(volume, days_old=days_old)
        return volume

    def snapshot(self, volume, days_old=31, tags=()):
        snapshot = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        if tags:
            self.ec2.create_tags(Resources=[snapshot], Tags=list(tags))
        self.control.storage(snapshot, days_old=days_old)
        return snapshot

    def scan(self, **input):
        summary, error = self.aws.invoke("WasteScannerFunctionName", input)
        assert error is None, error
        return summary

    def rows(self, status=None):
        found = [r for r in self.table.scan(ConsistentRead=True)["Items"] if r["account_region"] == SCOPE]
        return {r["resource"]: r for r in found if status in (None, r["status"])}

    def looks(self):
        return [c["action"] for c in self.control.calls() if c["service"] == "ec2"]

    def stored(self):
        return self.table.get_item(Key={"account_region": "summary", "resource": SCOPE})["Item"]


@pytest.fixture
def estate(aws):
    estate = Estate(aws)
    estate.clear()
    yield estate
    estate.clear()


def total(rows):
    return sum(r.get("monthly_cost_usd", Decimal(0)) for r in rows.values())


def test_waste_is_found_and_priced(estate):
    address, volume = estate.address(), estate.volume(Throughput=225, Iops=4000)
    snapshot = estate.snapshot(volume)
    estate.volume(days_old=6)
    estate.snapshot(volume, days_old=29)
    summary = estate.scan()
    rows = estate.rows("OPEN")
    assert {k: r["monthly_cost_usd"] for k, r in rows.items()} == {
        f"elastic-ip#{address}": Decimal("3.6"),
        f"volume#{volume}": Decimal("17"),
        f"snapshot#{snapshot}": Decimal("5"),
    }
    assert all(r["price_source"] == "shipped-table" and r["price_as_of"] for r in rows.values())
    assert rows[f"snapshot#{snapshot}"]["upper_bound"] is True
    assert summary["total_monthly_waste_usd"] == 25.6 == float(total(rows))
    assert {k: t["count"] for k, t in summary["types"].items()} == {"elastic-ip": 1, "volume": 1, "snapshot": 1}
    assert summary["partial"] is False and summary["failed"] == []
    assert estate.stored()["status"] == "COMPLETE"
    assert estate.stored()["total_monthly_waste_usd"] == Decimal("25.6")


def test_a_second_run_changes_no_total(estate):
    estate.address(), estate.snapshot(estate.volume())
    first, before = estate.scan(), estate.rows()
    time.sleep(1.1)
    second, after = estate.scan(), estate.rows()
    assert first["total_monthly_waste_usd"] == second["total_monthly_waste_usd"]
    assert before.keys() == after.keys() and total(before) == total(after)
    assert {k: r["first_seen"] for k, r in before.items()} == {k: r["first_seen"] for k, r in after.items()}
    assert all(after[k]["last_seen"] > r["last_seen"] for k, r in before.items())
    assert second["resolved"]["count"] == 0


def test_thirty_daily_snapshots_of_a_volume_read_as_one(estate):
    volume = estate.volume(days_old=1)
    for day in range(31, 61):
        estate.snapshot(volume, days_old=day)
    snapshots = estate.scan()["types"]["snapshot"]
    assert (snapshots["count"], snapshots["lineages"]) == (30, 1)
    assert (snapshots["monthly_cost_usd"], snapshots["upper_bound_usd"]) == (5, 150)
    assert total(estate.rows("OPEN")) == 5


def test_what_is_gone_is_resolved_with_what_it_saved(estate):
    deleted, kept = estate.volume(), estate.volume(size=10)
    estate.scan()
    time.sleep(1.1)
    estate.ec2.delete_volume(VolumeId=deleted)
    estate.ec2.create_tags(Resources=[kept], Tags=[{"Key": "spot-optimizer:opt-out", "Value": "true"}])
    summary = estate.scan()
    assert summary["resolved"] == {"count": 2, "saved_monthly_usd": 8}
    assert summary["types"]["volume"]["left_alone"] == {"OPTED_OUT": left_alone(1, 0.8)}
    rows = estate.rows("RESOLVED")
    assert (rows[f"volume#{deleted}"]["resolution"], rows[f"volume#{deleted}"]["saved_monthly_usd"]) == ("DELETED", 8)
    assert (rows[f"volume#{kept}"]["resolution"], rows[f"volume#{kept}"]["saved_monthly_usd"]) == ("KEPT", 0)
    estate.ec2.delete_tags(Resources=[kept], Tags=[{"Key": "spot-optimizer:opt-out"}])
    estate.scan()
    reopened = estate.rows("OPEN")[f"volume#{kept}"]
    assert reopened["first_seen"] > rows[f"volume#{kept}"]["first_seen"]
    assert "saved_monthly_usd" not in reopened


def test_a_deleted_snapshot_saves_nothing_for_certain_while_its_volume_has_younger_ones(estate):
    kept, left = estate.volume(days_old=1), estate.volume(days_old=1)
    shared, alone = estate.snapshot(kept), estate.snapshot(left)
    estate.snapshot(kept, days_old=1)
    estate.scan()
    time.sleep(1.1)
    for snapshot in (shared, alone):
        estate.ec2.delete_snapshot(SnapshotId=snapshot)
    resolved = estate.scan()["resolved"]
    assert resolved == {"count": 2, "saved_monthly_usd": 5, "shared_blocks": {"count": 1, "upper_bound_usd": 5}}
    rows = estate.rows("RESOLVED")
    saved = {snapshot: rows[f"snapshot#{snapshot}"]["saved_monthly_usd"] for snapshot in (shared, alone)}
    assert saved == {shared: 0, alone: 5}
    assert rows[f"snapshot#{shared}"]["upper_bound_usd"] == 5


def test_what_lies_in_the_recycle_bin_saves_from_its_exit_on(estate):
    binned = estate.volume()
    key = f"volume#{binned}"
    estate.scan()
    time.sleep(1.1)  # A scan resolves what was last seen before its own second.
    estate.ec2.delete_volume(VolumeId=binned)
    estate.control.recycle_bin(binned, leaves="2030-01-01T00:00:00Z")
    for _ in range(2):  # It is looked at again at every scan.
        resolved = estate.scan()["resolved"]
        assert resolved == {"count": 0, "saved_monthly_usd": 0, "recycle_bin": {"count": 1, "monthly_cost_usd": 8}}
        row = estate.rows("RESOLVED")[key]
        assert (row["resolution"], row["saved_monthly_usd"], row["recycle_bin_exit_at"]) == ("RECYCLE_BIN", 0, 1893456000)
    estate.control.recycle_bin(binned, leaves=None)
    assert estate.scan()["resolved"] == {"count": 1, "saved_monthly_usd": 8}
    row = estate.rows("RESOLVED")[key]
    assert (row["resolution"], row["saved_monthly_usd"]) == ("DELETED", 8) and "recycle_bin_exit_at" not in row
    assert estate.scan()["resolved"]["count"] == 0


def left_alone(count, upper_bound_usd, unknown_price=0):
    return {"count": count, "upper_bound_usd": upper_bound_usd, "unknown_price": unknown_price}


def test_what_others_manage_is_left_alone_and_counted_with_its_dollars(estate):
    managed = estate.volume()
    estate.control.storage(managed, Operator={"Managed": True, "Principal": "workspaces.amazonaws.com"})
    source = estate.volume(days_old=1)
    estate.snapshot(source, tags=[{"Key": "aws:backup:source-resource", "Value": "x"}])
    estate.snapshot(source, tags=[{"Key": "aws:dlm:lifecycle-policy-id", "Value": "x"}])
    estate.snapshot(source, days_old=90, tags=[{"Key": "AWSElasticDisasterRecoveryManaged", "Value": "drs.amazonaws.com"}])
    estate.snapshot(source, days_old=90, tags=[{"Key": "velero.io/backup", "Value": "nightly"}])
    estate.volume(tags=[{"Key": "kubernetes.io/created-for/pvc/name", "Value": "data-db-0"}])
    address = estate.address()
    estate.control.storage(address, ServiceManaged="nlb")
    summary = estate.scan()
    assert summary["types"]["elastic-ip"]["left_alone"] == {"SERVICE_MANAGED": left_alone(1, 3.6)}
    assert summary["types"]["volume"]["left_alone"] == {"SERVICE_MANAGED": left_alone(1, 8), "KUBERNETES": left_alone(1, 8)}
    kept = ("AWS_BACKUP", "LIFECYCLE_MANAGER", "DISASTER_RECOVERY", "VELERO")
    assert summary["types"]["snapshot"]["left_alone"] == dict.fromkeys(kept, left_alone(1, 5))
    assert estate.rows("OPEN") == {} and summary["total_monthly_waste_usd"] == 0


def test_without_the_images_no_snapshot_is_called_unused_or_resolved(estate, inbox):
    snapshot = estate.snapshot(estate.volume(days_old=1))
    estate.scan()
    estate.control.fault("DescribeImages", code="UnauthorizedOperation", status=403)
    estate.ec2.delete_snapshot(SnapshotId=snapshot)
    summary = estate.scan()
    assert summary["partial"] is True
    assert [f["listing"] for f in summary["failed"]] == ["snapshot"]
    assert "ec2:DescribeImages" in summary["failed"][0]["error"]
    assert summary["types"]["snapshot"]["complete"] is False
    assert estate.rows()[f"snapshot#{snapshot}"]["status"] == "OPEN"
    assert estate.stored()["status"] == "PARTIAL"
    assert any("Waste scan incomplete" in m.get("Subject", "") for m in inbox())


def test_an_images_snapshot_is_no_waste(estate, aws):
    group = aws.create_group(size=1)
    image = estate.ec2.create_image(InstanceId=group.instance_ids[0], Name=f"img-{uuid.uuid4()}")["ImageId"]
    for device in estate.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]:
        if snapshot := device.get("Ebs", {}).get("SnapshotId"):
            estate.control.storage(snapshot, days_old=400)
    assert estate.scan()["types"]["snapshot"]["count"] == 0


def test_a_snapshot_that_launches_make_volumes_of_is_left_alone(estate, aws):
    source, name = estate.volume(days_old=1), f"cache-{uuid.uuid4()}"
    by_default, by_latest, configured, unused = (estate.snapshot(source) for _ in range(4))
    of_template, autoscaling = {"LaunchTemplateName": name}, aws.client("autoscaling")
    estate.ec2.create_launch_template(**of_template, LaunchTemplateData={"BlockDeviceMappings": devices(by_default)})
    estate.ec2.create_launch_template_version(**of_template, LaunchTemplateData={"BlockDeviceMappings": devices(by_latest)})
    autoscaling.create_launch_configuration(
        LaunchConfigurationName=name, ImageId=aws.network.image, InstanceType="m5.large", BlockDeviceMappings=devices(configured)
    )
    try:
        snapshots = estate.scan()["types"]["snapshot"]
    finally:
        estate.ec2.delete_launch_template(**of_template)
        autoscaling.delete_launch_configuration(LaunchConfigurationName=name)
    assert snapshots["left_alone"] == {"LAUNCH_SOURCE": left_alone(3, 15)}
    assert list(estate.rows("OPEN")) == [f"snapshot#{unused}"]


def test_what_is_locked_or_shared_with_others_is_left_alone(estate):
    source = estate.volume(days_old=1)
    locked, expired, shared, public, unused = (estate.snapshot(source) for _ in range(5))
    estate.control.snapshot_lock(locked, "governance")
    estate.control.snapshot_lock(expired, "expired")
    add = {"Attribute": "createVolumePermission", "OperationType": "add"}
    estate.ec2.modify_snapshot_attribute(SnapshotId=shared, UserIds=["210987654321"], **add)
    estate.ec2.modify_snapshot_attribute(SnapshotId=public, GroupNames=["all"], **add)
    summary = estate.scan()
    assert summary["types"]["snapshot"]["left_alone"] == {"LOCKED": left_alone(1, 5), "SHARED": left_alone(2, 10)}
    assert set(estate.rows("OPEN")) == {f"snapshot#{expired}", f"snapshot#{unused}"}
    assert summary["partial"] is False


def test_a_role_without_the_new_rights_fails_no_scan(estate):
    snapshot = estate.snapshot(estate.volume(days_old=1))
    for call in ("DescribeLockedSnapshots", "DescribeSnapshotAttribute"):
        estate.control.fault(call, code="UnauthorizedOperation", status=403)
    summary = estate.scan()
    assert [f["listing"] for f in summary["failed"]] == ["snapshot-locks", "snapshot-sharing"]
    assert summary["partial"] is True and summary["types"]["snapshot"]["complete"] is True
    details = estate.rows("OPEN")[f"snapshot#{snapshot}"]["details"]
    assert (details["lock"], details["sharing"]) == ("unknown", "unknown")


def devices(snapshot):
    return [{"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": snapshot}}]


def test_a_denied_listing_is_not_none(estate):
    volume = estate.volume()
    estate.scan()
    estate.control.fault("DescribeVolumes", code="UnauthorizedOperation", status=403)
    summary = estate.scan()
    assert summary["partial"] is True and summary["types"]["volume"]["complete"] is False
    assert estate.rows()[f"volume#{volume}"]["status"] == "OPEN"
    assert summary["types"]["elastic-ip"]["complete"] is True


def test_throttling_is_waited_out(estate):
    estate.volume()
    estate.control.fault("DescribeVolumes", code="RequestLimitExceeded", status=503, times=4)
    summary = estate.scan()
    assert summary["partial"] is False and summary["types"]["volume"]["count"] == 1


def test_an_account_that_cannot_be_read_does_not_hide_the_others(estate, aws):
    aws.table("AccountsTableName").put_item(Item={"account_id": "111111111111", "environment_type": "PROD"})
    try:
        estate.address()
        summary = estate.scan()
    finally:
        aws.table("AccountsTableName").delete_item(Key={"account_id": "111111111111"})
    assert summary["partial"] is True and summary["total_monthly_waste_usd"] == 3.6
    assert [(f["account_id"], f["listing"]) for f in summary["failed"]] == [("111111111111", "account")]


def test_regions_are_scanned_side_by_side_and_the_input_narrows_them(estate, aws):
    aws.table("AccountsTableName").put_item(Item={"account_id": ACCOUNT, "regions": {REGION, "eu-west-1"}})
    try:
        everything, one = estate.scan(), estate.scan(account_id=ACCOUNT, region=REGION)
    finally:
        aws.table("AccountsTableName").delete_item(Key={"account_id": ACCOUNT})
    assert sorted(s["region"] for s in everything["scopes"]) == ["eu-west-1", REGION]
    assert [s["region"] for s in one["scopes"]] == [REGION]


def test_settings_move_the_ages_and_a_bad_one_stops_the_run(estate, aws):
    estate.volume(days_old=3)
    try:
        aws.settings(volume_min_age_days=2)
        assert estate.scan()["types"]["volume"]["count"] == 1
        before = estate.rows()
        aws.settings(scope=f"account#{ACCOUNT}#{REGION}", snapshot_min_age_days="soon")
        estate.control.clear_calls()
        _, error = aws.invoke("WasteScannerFunctionName", {})
        assert error["errorType"] == "InvalidSettings"
        assert "snapshot_min_age_days" in error["errorMessage"] and SCOPE in error["errorMessage"]
        assert estate.looks() == [] and estate.rows() == before
    finally:
        aws.settings()
        aws.settings(scope=f"account#{ACCOUNT}#{REGION}")


def test_a_misspelt_input_scans_nothing(estate, aws):
    for input in ({"regoin": REGION}, {"account_id": "12"}):
        _, error = aws.invoke("WasteScannerFunctionName", input)
        assert error["errorType"] == "InvalidInput"
    _, error = aws.invoke("WasteScannerFunctionName", {"account_id": "999999999999"})
    assert error["errorType"] == "AccountUnknown"
    assert estate.looks() == []


def test_the_summary_is_an_event(estate, inbox):
    estate.address()
    estate.scan()
    told = next(m for m in inbox() if m.get("detail-type") == "Waste Scan Completed")
    assert told["source"] == "spot-optimizer"
    assert told["detail"]["total_monthly_waste_usd"] == 3.6 and told["detail"]["partial"] is False


def test_of_two_runs_that_both_go_on_the_newer_one_reports(estate, aws, inbox):
    """Each run keeps its place in the same row. The older run must neither take the newer one's place nor reset it."""
    estate.address(), estate.snapshot(estate.volume())
    function = aws.outputs["WasteScannerFunctionName"]
    rules = aws.client("events").list_rules()["Rules"]
    rule = next(r["Name"] for r in rules if "Waste Scan To Be Continued" in r.get("EventPattern", ""))
    aws.client("events").disable_rule(Name=rule)  # The test hands the continuations over itself.
    aws.client("lambda").update_function_configuration(FunctionName=function, Timeout=50)  # Less than the reserve.

    def go_on(run_started, continuation):
        detail = {"run_started": run_started, "continuation": continuation}
        return estate.scan(**{"source": "spot-optimizer", "detail-type": "Waste Scan To Be Continued", "detail": detail})

    def began(summary):
        return int(datetime.fromisoformat(summary["run_started"]).timestamp())

    try:
        older = began(estate.scan())
        time.sleep(1.1)
        newer = began(estate.scan())
        overtaken = go_on(older, 1)
        assert overtaken["partial"] is True and overtaken["continues"] is False
        assert [scope["overtaken"] for scope in overtaken["scopes"]] == [True]
        assert int(estate.stored()["run_started"]) == newer
        summaries = [go_on(newer, continuation) for continuation in (1, 2)]
    finally:
        aws.client("lambda").update_function_configuration(FunctionName=function, Timeout=900)
        aws.client("events").enable_rule(Name=rule)
    assert [s["continues"] for s in summaries] == [True, False]
    assert summaries[-1]["partial"] is False and summaries[-1]["total_monthly_waste_usd"] == 16.6
    assert estate.stored()["status"] == "COMPLETE" and len(estate.rows("OPEN")) == 3


def test_a_run_without_time_goes_on_until_it_is_done(estate, aws, inbox):
    estate.address(), estate.snapshot(estate.volume())
    function = aws.outputs["WasteScannerFunctionName"]
    aws.client("lambda").update_function_configuration(FunctionName=function, Timeout=50)  # Less than the reserve.
    try:
        first = estate.scan()
        assert first["continues"] is True and first["partial"] is True
        deadline = time.monotonic() + 30
        while not any(m.get("detail-type") == "Waste Scan Completed" for m in inbox()):
            assert time.monotonic() < deadline, "it was not continued to its end"
            time.sleep(0.2)
    finally:
        aws.client("lambda").update_function_configuration(FunctionName=function, Timeout=900)
    assert estate.stored()["status"] == "COMPLETE"
    assert len(estate.rows("OPEN")) == 3
    told = next(m for m in inbox() if m.get("detail-type") == "Waste Scan Completed")
    assert told["detail"]["total_monthly_waste_usd"] == 16.6
