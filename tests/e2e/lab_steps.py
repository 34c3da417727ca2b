"""Steps that the swap of a LAB instance needs, and steps that read what a swap looks up beside its group."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from local_aws.shapes import Shape
from steps import Step, ec2

# The tag of what a script makes: of its images, snapshots and volumes.
PROBE = {"Key": "probe", "Value": "$group"}
BY_PROBE = [{"Name": "tag:probe", "Values": ["$group"]}]


def tagged(*kinds: str) -> Shape:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": [PROBE]} for kind in kinds]}


def stop(name: str) -> Step:
    return ec2("stop_instances", lambda answer: _previous(answer["StoppingInstances"]), InstanceIds=[name])


def start_again(name: str) -> Step:
    return ec2("start_instances", lambda answer: _previous(answer["StartingInstances"]), InstanceIds=[name])


def _previous(changes: list[Shape]) -> list[str]:
    return [change["PreviousState"]["Name"] for change in changes]


# -- the address -------------------------------------------------------------------------------------------------------


def associate(name: str, **more: Any) -> Step:
    return ec2("associate_address", **{"AllocationId": "$address", "InstanceId": name, **more})


def address(allocation_id: str = "$address") -> Step:
    return ec2("describe_addresses", _holders, AllocationIds=[allocation_id])


def addresses_of(name: str) -> Step:
    return ec2("describe_addresses", _holders, Filters=[{"Name": "instance-id", "Values": [name]}])


def _holders(answer: Shape) -> Any:
    return [[a["AllocationId"], a.get("InstanceId") or None, bool(a.get("AssociationId"))] for a in answer["Addresses"]]


# -- images, snapshots, volumes ----------------------------------------------------------------------------------------


def create_image(name: str, of: str, called: str = "image") -> Step:
    """Makes an image with a snapshot, both tagged; it is `$name` from then on."""
    parameters = {"InstanceId": of, "Name": f"$group-{called}", "NoReboot": True, **tagged("image", "snapshot")}
    image: Callable[[Shape], str] = lambda answer: answer["ImageId"]  # noqa: E731
    return Step("ec2", "create_image", parameters, keep=image, names={f"${name}": image})


def own_images() -> Step:
    def keep(answer: Shape) -> Any:
        return [[i["ImageId"], i["Name"], i["State"], i.get("SourceInstanceId"), i["Tags"]] for i in answer["Images"]]

    return ec2("describe_images", keep, Owners=["self"], Filters=BY_PROBE)


def image_by_id(image_id: str) -> Step:
    keep: Callable[[Shape], Any] = lambda answer: [[i["ImageId"], i["State"]] for i in answer["Images"]]  # noqa: E731
    return ec2("describe_images", keep, Filters=[{"Name": "image-id", "Values": [image_id]}])


def snapshot_of_image(image: str, name: str = "") -> Step:
    """Reads the snapshot in the image's mapping, which is `$name` from then on."""

    def snapshot(answer: Shape) -> Any:
        return answer["Images"][0]["BlockDeviceMappings"][0]["Ebs"].get("SnapshotId")

    parameters = {"Owners": ["self"], "Filters": [{"Name": "image-id", "Values": [image]}]}
    return Step("ec2", "describe_images", parameters, keep=snapshot, names={f"${name}": snapshot} if name else {})


def own_snapshots() -> Step:
    def keep(answer: Shape) -> Any:
        return [[s["SnapshotId"], s["Description"], s["Tags"]] for s in answer["Snapshots"]]

    return ec2("describe_snapshots", keep, OwnerIds=["self"], Filters=BY_PROBE)


def deregister(image: str) -> Step:
    return ec2("deregister_image", ImageId=image)


def delete_snapshot(snapshot: str) -> Step:
    return ec2("delete_snapshot", SnapshotId=snapshot)


def volume_of(instance: str, name: str) -> Step:
    """Reads the instance's mapping, whose volume is `$name` from then on."""

    def mapping(answer: Shape) -> Shape:
        return answer["Reservations"][0]["Instances"][0]["BlockDeviceMappings"][0]["Ebs"]

    volume: Callable[[Shape], str] = lambda answer: mapping(answer)["VolumeId"]  # noqa: E731
    keep: Callable[[Shape], Any] = lambda answer: mapping(answer)["DeleteOnTermination"]  # noqa: E731
    return Step("ec2", "describe_instances", {"InstanceIds": [instance]}, keep=keep, names={f"${name}": volume})


def volumes(filters: list[Shape]) -> Step:
    def keep(answer: Shape) -> Any:
        attached = lambda v: [[a["InstanceId"], a["State"]] for a in v["Attachments"]]  # noqa: E731
        return [[v["VolumeId"], v["State"], attached(v), v.get("Tags", [])] for v in answer["Volumes"]]

    return ec2("describe_volumes", keep, Filters=filters)


# -- what a swap looks up ----------------------------------------------------------------------------------------------


def subnets(*ids: str) -> Step:
    def keep(answer: Shape) -> Any:
        # By zone: the ids are drawn at random.
        found = [[s["SubnetId"], s["AvailabilityZone"], s["AvailableIpAddressCount"] > 0] for s in answer["Subnets"]]
        return sorted(found, key=lambda subnet: subnet[1])

    return ec2("describe_subnets", keep, Filters=[{"Name": "subnet-id", "Values": list(ids)}])


def template_versions(*versions: str, **template: str) -> Step:
    def keep(answer: Shape) -> Any:
        told = ("LaunchTemplateId", "LaunchTemplateName", "VersionNumber", "DefaultVersion")
        data = lambda v: [v["LaunchTemplateData"][key] for key in ("ImageId", "InstanceType")]  # noqa: E731
        return [[*(v[key] for key in told), *data(v)] for v in answer["LaunchTemplateVersions"]]

    which = template or {"LaunchTemplateId": "$template"}
    return ec2("describe_launch_template_versions", keep, Versions=list(versions), **which)


def target_groups(*arns: str) -> Step:
    def keep(answer: Shape) -> Any:
        return [[g[key] for key in ("TargetGroupArn", "Protocol", "Port", "TargetType")] for g in answer["TargetGroups"]]

    return Step("elbv2", "describe_target_groups", {"TargetGroupArns": list(arns)}, keep=keep)


def scheduled_actions(**parameters: str) -> Step:
    def keep(answer: Shape) -> Any:
        found = answer["ScheduledUpdateGroupActions"]
        return [[a["AutoScalingGroupName"], a["ScheduledActionName"], a["DesiredCapacity"]] for a in found]

    return Step("autoscaling", "describe_scheduled_actions", {"AutoScalingGroupName": "$group", **parameters}, keep=keep)


def rule(name: str = "$rule") -> Step:
    def keep(answer: Shape) -> Any:
        return [answer["Name"], answer["State"], answer["EventBusName"], sorted(json.loads(answer["EventPattern"]))]

    return Step("events", "describe_rule", {"Name": name}, keep=keep)


def targets_of_rule(name: str = "$rule") -> Step:
    keep: Callable[[Shape], Any] = lambda answer: [[t["Id"], t["Arn"]] for t in answer["Targets"]]  # noqa: E731
    return Step("events", "list_targets_by_rule", {"Rule": name}, keep=keep)
