"""RunInstances' behaviour that moto lacks: template and request as one launch, refusals, Spot, time to boot.

A group's own launches pass through here, too. `asking` adds the facts that only the caller of
`EC2Backend.run_instances` knows.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError, TagLimitExceeded
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses import EC2Response
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import convert_tag_spec, random_private_ip

from ..shapes import Shape
from . import ec2, prices
from .world import WORLD

MAX_TAGS = 50
SSM = "resolve:ssm:"
# EC2 User Guide, "AMI billing information fields".
BILLING = {"windows": ("RunInstances:0002", "Windows"), None: ("RunInstances", "Linux/UNIX")}

_asked = {}  # Facts of the launch under way: one at a time, under the world's lock.


def install() -> None:
    _run_instances()
    _tag_limit()
    _root_volume()
    _placement_groups()


@contextlib.contextmanager
def asking(**fields: Any) -> Iterator[None]:
    """Records `placement`, `market`, `hibernation` of a request, by their AWS names; `by_api`: a person or Lambda
    asks."""
    _asked.update(fields)
    try:
        yield
    finally:
        _asked.clear()


def own_tags(keys: Iterable[str]) -> set[str]:
    """EC2 User Guide, "Tag restrictions": tags whose key begins with `aws:` do not count against the limit."""
    return {key for key in keys if not key.startswith("aws:")}


def _run_instances():
    run_instances = EC2Backend.run_instances
    api_run_instances = InstanceResponse.run_instances

    def run(self: Any, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs):
        template = self._get_template_from_args(kwargs["launch_template"]).data if kwargs.get("launch_template") else {}
        # EC2 User Guide, "Launch instances from a launch template": nested parameters are merged.
        placement = {**(template.get("Placement") or {}), **(_asked.get("placement") or {})}
        market = _asked.get("market") or template.get("InstanceMarketOptions") or {}
        if _asked.get("by_api"):
            _refuse(template, kwargs, market)
        _refuse_placement_group(self, placement.get("GroupName"))
        _refuse_tags(template, kwargs)
        _refuse_full_subnet(self, kwargs, count)
        kwargs["instance_market_options"] = kwargs.get("instance_market_options") or market.get("MarketType")
        image_id = image_of_parameter(self, image_id or template.get("ImageId", ""))
        _refuse_image(self, image_id)
        reservation = run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
        for instance in reservation.instances:
            _describe_as_launched(instance, template, placement)
        return reservation

    def run_by_api(self: Any):
        fields = {
            "placement": self._get_param("Placement", {}),
            "market": self._get_param("InstanceMarketOptions", {}),
            "hibernation": self._get_param("HibernationOptions", {}),
        }
        with asking(by_api=True, **fields):
            response = api_run_instances(self)
        for instance in response.result.instances:
            _newcomer(instance)
        return response

    EC2Backend.run_instances = run
    InstanceResponse.run_instances = run_by_api


def _describe_as_launched(instance: Instance, template: Shape, placement: Shape):
    instance.placement.group_name = placement.get("GroupName", "")
    instance.placement.tenancy = placement.get("Tenancy", "default")
    instance.UsageOperation, instance.PlatformDetails = BILLING["windows" if instance.platform == "windows" else None]
    if instance.lifecycle == "spot":
        instance.spot_instance_request_id = f"sir-{instance.id[-8:]}"
    for interface in template.get("NetworkInterfaces") or []:
        nic = instance.nics.get(int(interface.get("DeviceIndex") or 0))
        for _ in range(int(interface.get("SecondaryPrivateIpAddressCount") or 0) if nic else 0):
            address = random_private_ip(nic.subnet.cidr_block)
            nic.private_ip_addresses.append({"Primary": False, "PrivateIpAddress": address})


# -- refusals ------------------------------------------------------------------------------------------------------


def _refuse(template: Shape, kwargs: Shape, market: Shape):
    # A group puts its subnet into the template's interface by itself. A caller of the API has to do so.
    if template.get("NetworkInterfaces") and kwargs.get("subnet_id"):
        raise _combination("Network interfaces and an instance-level subnet ID may not be specified on the same request")
    # CloudFormation reference, LaunchTemplateData: "you can't use InstanceRequirements with RunInstances". No document
    # names the code of the error.
    if template.get("InstanceRequirements"):
        raise _combination("Launch templates with InstanceRequirements can't be used with RunInstances.")
    if market.get("MarketType") == "spot":
        _refuse_spot(template, kwargs, market.get("SpotOptions") or {})


def _refuse_spot(template: Shape, kwargs: Shape, options: Shape):
    hibernation = _asked.get("hibernation") or template.get("HibernationOptions") or {}
    hibernates = str(hibernation.get("Configured")).lower() == "true"
    # EC2 API, SpotMarketOptions: with hibernation configured, `stop` or `terminate` is an error. Its code is not named.
    if hibernates and options.get("InstanceInterruptionBehavior", "hibernate") != "hibernate":
        raise _combination("Hibernation is configured: the interruption behavior must be hibernate.")
    if "MaxPrice" not in options:
        return
    price, kind = float(options["MaxPrice"]), kwargs["instance_type"]
    if kwargs.get("is_instance_type_default"):
        kind = template.get("InstanceType", kind)
    if price < 0.001:  # EC2 API, SpotMarketOptions: "Specifying a value below USD $0.001 will result in" this.
        raise EC2ClientError("InvalidParameterValue", f"The spot max price {price} is invalid.")
    now = prices.spot(kind)
    if now is not None and price < now:  # Its text as AWS gives it: aws-parallelcluster-node, pull request 415.
        raise EC2ClientError(
            "SpotMaxPriceTooLow",
            f"Your Spot request price of {price:g} is lower than the minimum required Spot request fulfillment price of {now:g}.",
        )


def _refuse_image(backend: EC2Backend, image_id: str):
    """EC2 API, "Error codes": deregistered, or not in a state from which an instance can be launched."""
    image = backend.amis.get(image_id)
    if image_id in backend.deleted_amis or (image and image.state != "available"):
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")


def _refuse_placement_group(backend: EC2Backend, name: str):
    if name and name not in placement_groups(backend):  # EC2 API, "Error codes".
        raise EC2ClientError("InvalidPlacementGroup.Unknown", f"The Placement Group '{name}' is unknown.")


def _refuse_tags(template: Shape, kwargs: Shape):
    requested = (kwargs.get("tags") or {}).get("instance", {})
    of_template = convert_tag_spec(template.get("TagSpecifications") or []).get("instance", {})
    if len(own_tags({*of_template, *requested})) > MAX_TAGS:
        raise TagLimitExceeded


def _refuse_full_subnet(backend: EC2Backend, kwargs: Shape, count: int):
    """EC2 API, "Error codes": one subnet has no address left for the launch; another may have."""
    asked = [nic["SubnetId"] for nic in kwargs.get("nics") or [] if "SubnetId" in nic] or [kwargs.get("subnet_id")]
    if asked[0] and backend.get_subnet(asked[0]).available_ip_address_count < count:
        raise EC2ClientError(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{asked[0]}' to satisfy the requested number of instances.",
        )


def _combination(message: str):
    return EC2ClientError("InvalidParameterCombination", message)


def image_of_parameter(backend: EC2Backend, image_id: str) -> str:
    """EC2 User Guide, "Use a Systems Manager parameter instead of an AMI ID": resolved anew at each launch."""
    if not image_id.startswith(SSM):
        return image_id
    name = image_id.removeprefix(SSM)
    if name not in WORLD.image_parameters:
        raise EC2ClientError("InvalidParameterValue", f"The parameter {name} does not exist.")
    return WORLD.image_parameters[name] or next(
        image.id for image in backend.describe_images(owners=["amazon"]) if image.platform != "windows"
    )


# -- tags, volumes, placement groups ---------------------------------------------------------------------------------


def _tag_limit():
    """Exempts the `aws:` tags of a resource from the limit; moto counts them."""
    create_tags = TagBackend.create_tags

    def create(self: Any, resource_ids: list[str], tags: dict[str, str]):
        for resource_id in resource_ids:
            if len(own_tags({*self.tags.get(resource_id, {}), *tags})) > MAX_TAGS:
                raise TagLimitExceeded
        for resource_id in resource_ids:
            reserved = [key for key in self.tags.get(resource_id, {}) if key.startswith("aws:")]
            hidden = {key: self.tags[resource_id].pop(key) for key in reserved}
            create_tags(self, [resource_id], tags)
            self.tags[resource_id] = {**hidden, **self.tags[resource_id]}
        return True

    TagBackend.create_tags = create


def _root_volume():
    """Makes the root volume by the image, unless a mapping of the template for the same device replaces it."""
    add_block_device = Instance.add_block_device

    def setup_defaults(self: Any):
        volume = self.ec2_backend.create_volume(size=8, zone_name=self._placement.zone)
        self.ec2_backend.attach_volume(volume.id, self.id, self.root_device_name or "/dev/sda1", True)

    def add(self: Any, size: int, device_path: str, *args, **kwargs):
        if mapped := self.block_device_mapping.get(device_path):
            self.ec2_backend.detach_volume(mapped.volume_id, self.id, device_path)
            self.ec2_backend.delete_volume(mapped.volume_id)
        add_block_device(self, size, device_path, *args, **kwargs)

    Instance.setup_defaults = setup_defaults
    Instance.add_block_device = add


def placement_groups(backend: EC2Backend) -> dict[str, str]:
    """Returns name → strategy of an account in a region; moto has no placement groups."""
    return backend.__dict__.setdefault("placement_groups", {})


def _placement_groups():
    def create(self: Any):
        placement_groups(self.ec2_backend)[self._get_param("GroupName")] = self._get_param("Strategy", "cluster")
        return EmptyResult()

    def describe(self: Any):
        known = placement_groups(self.ec2_backend).items()
        found = [{"GroupName": name, "Strategy": strategy, "State": "available"} for name, strategy in known]
        return ActionResult({"PlacementGroups": found})

    def delete(self: Any):
        placement_groups(self.ec2_backend).pop(self._get_param("GroupName"), None)
        return EmptyResult()

    EC2Response.create_placement_group = create
    EC2Response.describe_placement_groups = describe
    EC2Response.delete_placement_group = delete


# -- time ------------------------------------------------------------------------------------------------------------


def _newcomer(instance: Instance):
    plan = dict(WORLD.newcomers)
    WORLD.newcomer_ids[instance.id] = plan
    ec2.set_state(instance, ec2.PENDING)
    WORLD.status[instance.id] = "initializing"
    WORLD.launched_at[instance.id] = time.time()

    def run():
        if instance.state == "pending":
            ec2.set_state(instance, ec2.RUNNING)

    def boot():
        if WORLD.status[instance.id] == "initializing":  # A test may have set another status meanwhile.
            WORLD.status[instance.id] = plan["status"]

    if not plan["stay_pending"]:
        WORLD.later("pending", run)
        WORLD.later("boot", boot)
    if death := plan["kill"]:
        code, message = death.get("code", "Server.InternalError"), death.get("message", "")
        WORLD.later(death.get("after_seconds", "pending"), lambda: ec2.kill(instance.id, code, message))
