"""Fixtures: a network, and Auto Scaling groups of On-Demand instances as customers have them."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .shapes import Shape

if TYPE_CHECKING:
    from .stack import LocalAws

ZONES = ("us-east-1a", "us-east-1b")


class Network:
    def __init__(self, aws: LocalAws) -> None:
        self.aws, self.ec2 = aws, aws.client("ec2")

    @functools.cached_property
    def vpc(self) -> str:
        return self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    @functools.cached_property
    def subnets(self) -> dict[str, str]:
        return {
            zone: self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{n}.0/20", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for n, zone in zip((0, 16), ZONES)
        }

    @functools.cached_property
    def security_group(self) -> str:
        name = f"web-{uuid.uuid4().hex[:8]}"
        return self.ec2.create_security_group(GroupName=name, Description="web", VpcId=self.vpc)["GroupId"]

    @functools.cached_property
    def image(self) -> str:
        """Returns one of Amazon's images for Linux on x86_64."""
        return self._image("x86_64")

    @functools.cached_property
    def arm_image(self) -> str:
        return self._image("arm64")

    def _image(self, architecture: str):
        found = self.ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "architecture", "Values": [architecture]}])
        return next(i["ImageId"] for i in found["Images"] if i.get("Platform") != "windows")

    def subnet(self, zone: str, prefix: int = 28) -> str:
        """Creates another subnet of the zone. AWS keeps five addresses of 16 for itself."""
        self._more = getattr(self, "_more", 0) + 1
        block = f"10.0.{128 + self._more // 16}.{self._more % 16 * 16}/{prefix}"
        return self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"]["SubnetId"]

    def target_group(self) -> str:
        """Creates a target group behind an Application Load Balancer; returns its ARN."""
        name = f"web-{uuid.uuid4().hex[:8]}"
        group = self.aws.client("elbv2").create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=self.vpc)
        arn = group["TargetGroups"][0]["TargetGroupArn"]
        self.listen(arn)
        return arn

    def listen(self, target_group: str) -> str:
        """Puts a load balancer of its own before the target group, so that targets are checked; returns its ARN."""
        elb, name = self.aws.client("elbv2"), f"web-{uuid.uuid4().hex[:8]}"
        balancer = elb.create_load_balancer(Name=name, Subnets=list(self.subnets.values()))["LoadBalancers"][0]
        elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": target_group}],
        )  # fmt: skip
        return balancer["LoadBalancerArn"]


class Group:
    """A created group: its name, and its present state."""

    def __init__(self, aws: LocalAws, name: str, template_id: str | None, target_group: str | None) -> None:
        self.aws, self.name, self.template_id, self.target_group = aws, name, template_id, target_group

    def describe(self) -> Shape:
        found = self.aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return found["AutoScalingGroups"][0]

    @property
    def instance_ids(self) -> list[str]:
        return [i["InstanceId"] for i in self.describe()["Instances"]]

    @property
    def instances(self) -> list[Shape]:
        return [self.aws.instance(i) for i in self.instance_ids]

    @property
    def on_demand(self) -> list[str]:
        return [i["InstanceId"] for i in self.instances if i.get("InstanceLifecycle") != "spot"]

    @property
    def spot(self) -> list[str]:
        return [i["InstanceId"] for i in self.instances if i.get("InstanceLifecycle") == "spot"]

    def update(self, **fields: Any) -> None:
        self.aws.client("autoscaling").update_auto_scaling_group(AutoScalingGroupName=self.name, **fields)

    def suspend(self, *processes: str) -> None:
        self.aws.client("autoscaling").suspend_processes(AutoScalingGroupName=self.name, ScalingProcesses=list(processes))

    def delete(self) -> None:
        self.aws.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=self.name, ForceDelete=True)


def create_group(
    aws: LocalAws,
    size: int = 2,
    minimum: int | None = None,
    maximum: int | None = None,
    name: str | None = None,
    instance_type: str = "m5.large",
    overrides: list[Shape] | None = None,
    distribution: Shape | None = None,
    zones: Sequence[str] = ZONES,
    tags: dict[str, str] | None = None,
    instance_tags: dict[str, str] | None = None,
    with_target_group: bool = False,
    template_data: Shape | None = None,
    launch_configuration: bool = False,
    subnets: Sequence[str] | None = None,
    **options: Any,
) -> Group:
    """Creates a group. `overrides` (types of a MixedInstancesPolicy, the first being the members' own), `template_data`
    (merged into the launch template; None removes a field), `launch_configuration` (True, or more fields of it) and
    `options` (of CreateAutoScalingGroup) make the variants. Instances spread evenly over `zones`, or over `subnets`."""
    name = name or f"web-{uuid.uuid4().hex[:8]}"
    template_id = None
    if launch_configuration:
        more = launch_configuration if isinstance(launch_configuration, dict) else {}
        options["LaunchConfigurationName"] = _launch_configuration(aws, name, instance_type, more)
    else:
        template_id = _launch_template(aws, name, instance_type, instance_tags, template_data)
        options.update(_launch_options(template_id, overrides, distribution))
    target_group = aws.network.target_group() if with_target_group else None
    if target_group:
        options["TargetGroupARNs"] = [target_group]
    aws.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=size if minimum is None else minimum,
        MaxSize=size + 1 if maximum is None else maximum,
        DesiredCapacity=size,
        VPCZoneIdentifier=",".join(subnets or [aws.network.subnets[z] for z in zones]),
        Tags=[
            {"Key": k, "Value": v, "PropagateAtLaunch": True, "ResourceId": name, "ResourceType": "auto-scaling-group"}
            for k, v in (tags or {}).items()
        ],
        **options,
    )
    return Group(aws, name, template_id, target_group)


def _launch_template(aws: LocalAws, name: str, instance_type: str, instance_tags: dict[str, str] | None, more: Shape | None):
    tags = {"Name": name, "team": "web", **(instance_tags or {})}
    return create_template(aws, name, {
        "InstanceType": instance_type,
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        ],
        **(more or {}),
    })  # fmt: skip


def create_template(aws: LocalAws, name: str | None = None, more: Shape | None = None) -> str:
    """Creates a launch template of a small web server, changed by `more`; returns its id."""
    data = {
        "ImageId": aws.network.image,
        "InstanceType": "m5.large",
        "SecurityGroupIds": [aws.network.security_group],
        "MetadataOptions": {"HttpTokens": "required"},
        **(more or {}),
    }
    created = aws.client("ec2").create_launch_template(
        LaunchTemplateName=name or f"web-{uuid.uuid4().hex[:8]}",
        LaunchTemplateData={k: v for k, v in data.items() if v is not None},
    )
    return created["LaunchTemplate"]["LaunchTemplateId"]


def _launch_configuration(aws: LocalAws, name: str, instance_type: str, more: Shape | None):
    aws.client("autoscaling").create_launch_configuration(
        LaunchConfigurationName=name,
        ImageId=aws.network.image,
        InstanceType=instance_type,
        SecurityGroups=[aws.network.security_group],
        **more,
    )
    return name


def _launch_options(template_id: str, overrides: list[Shape] | None, distribution: Shape):
    template = {"LaunchTemplateId": template_id, "Version": "$Latest"}
    if not overrides and not distribution:
        return {"LaunchTemplate": template}
    mixed = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": template,
            "Overrides": [{"InstanceType": o} if isinstance(o, str) else o for o in overrides or []],
        },
        "InstancesDistribution": {
            "OnDemandBaseCapacity": 0,
            "OnDemandPercentageAboveBaseCapacity": 100,
            "OnDemandAllocationStrategy": "prioritized",
            "SpotAllocationStrategy": "price-capacity-optimized",
            **(distribution or {}),
        },
    }
    return {"MixedInstancesPolicy": mixed}
