"""Fixture: a stand-alone On-Demand instance, as a person in a LAB account made it by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .shapes import Shape

if TYPE_CHECKING:
    from .stack import LocalAws

USER_DATA = "#!/bin/sh\necho hello > /etc/motd\n"


def create_instance(
    aws: LocalAws,
    instance_type: str = "m5.large",
    tags: dict[str, str] | None = None,
    address: bool = False,
    target_groups: int = 0,
    port: int = 80,
    **options: Any,
) -> Standalone:
    """Creates the instance; `options` go to RunInstances. Returns a `Standalone`."""
    ec2 = aws.client("ec2")
    given = {"Name": f"lab-{uuid.uuid4().hex[:8]}", "team": "lab", **(tags or {})}
    launched = ec2.run_instances(
        ImageId=aws.network.image, InstanceType=instance_type, MinCount=1, MaxCount=1, UserData=USER_DATA,
        SubnetId=aws.network.subnets["us-east-1a"], SecurityGroupIds=[aws.network.security_group],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in given.items()]}
        ],
        **options,
    )  # fmt: skip
    instance_id = launched["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    return Standalone(aws, instance_id, address, [aws.network.target_group() for _ in range(target_groups)], port)


class Standalone:
    """The instance, its address and target groups, and the instances that have them now."""

    def __init__(self, aws: LocalAws, instance_id: str, with_address: bool, target_groups: list[str], port: int) -> None:
        self.aws, self.id, self.port = aws, instance_id, port
        self.ec2, self.elb = aws.client("ec2"), aws.client("elbv2")
        self.allocation_id, self.target_groups = None, []
        if with_address:
            self.give_address()
        for arn in target_groups:
            self.register(arn)

    def give_address(self) -> None:
        self.allocation_id = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        self.ec2.associate_address(AllocationId=self.allocation_id, InstanceId=self.id)

    def register(self, target_group_arn: str) -> None:
        self.target_groups.append(target_group_arn)
        self.elb.register_targets(TargetGroupArn=target_group_arn, Targets=[{"Id": self.id, "Port": self.port}])

    def describe(self, instance_id: str | None = None) -> Shape:
        return self.aws.instance(instance_id or self.id)

    def state(self, instance_id: str | None = None) -> str:
        return self.describe(instance_id)["State"]["Name"]

    def address_at(self) -> str | None:
        return self.ec2.describe_addresses(AllocationIds=[self.allocation_id])["Addresses"][0].get("InstanceId")

    def health(self, instance_id: str | None = None) -> list[str]:
        """Returns the health by target group: `healthy`, `draining`, …; `unused` if the instance is not registered
        there."""
        target = {"Id": instance_id or self.id, "Port": self.port}
        return [
            self.elb.describe_target_health(TargetGroupArn=arn, Targets=[target])["TargetHealthDescriptions"][0]["TargetHealth"]["State"]
            for arn in self.target_groups
        ]

    def modify(self, **attribute: Any) -> None:
        self.ec2.modify_instance_attribute(InstanceId=self.id, **attribute)

    def tag(self, key: str, value: str = "") -> None:
        self.ec2.create_tags(Resources=[self.id], Tags=[{"Key": key, "Value": value}])

    def row(self) -> Shape:
        key = {"target": f"123456789012#us-east-1#{self.id}"}
        return self.aws.table("SwapsTableName").get_item(Key=key, ConsistentRead=True).get("Item", {})

    def journal(self) -> Any:
        return json.loads(self.row().get("journal", "null"))

    def leased(self) -> bool:
        return "lease_owner" in self.row()

    def newcomers(self) -> list[Shape]:
        """Returns every instance that swaps of this one launched, whatever became of it."""
        return list(_tagged(self.ec2.describe_instances, "Reservations", self.id))

    def newcomer(self) -> str | None:
        alive = [i["InstanceId"] for i in self.newcomers() if i["State"]["Name"] in ("pending", "running")]
        return alive[0] if alive else None

    def delete_belongings(self) -> None:
        for arn in self.target_groups:
            group = self.elb.describe_target_groups(TargetGroupArns=[arn])["TargetGroups"][0]
            for balancer in group["LoadBalancerArns"]:
                self.elb.delete_load_balancer(LoadBalancerArn=balancer)
            self.elb.delete_target_group(TargetGroupArn=arn)
        if self.allocation_id:
            self.ec2.release_address(AllocationId=self.allocation_id)

    def images(self) -> list[Shape]:
        return _tagged(self.ec2.describe_images, "Images", self.id, Owners=["self"])

    def snapshots(self) -> list[Shape]:
        return _tagged(self.ec2.describe_snapshots, "Snapshots", self.id)


def _tagged(describe: Callable[..., Any], kind: str, instance_id: str, **options):
    found = describe(Filters=[{"Name": "tag-key", "Values": ["spot-optimizer:swap"]}], **options)[kind]
    things = [i for r in found for i in r["Instances"]] if kind == "Reservations" else found
    swap_of = lambda thing: {t["Key"]: t["Value"] for t in thing.get("Tags", [])}["spot-optimizer:swap"]  # noqa: E731
    return [thing for thing in things if swap_of(thing).startswith(f"{instance_id}-")]
