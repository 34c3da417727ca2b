"""EC2's behaviour that moto lacks: states set by tests, zones by account, Spot prices and requests.

moto reads each response field from a Python attribute, so a field is added by giving its object the attribute.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import time
from typing import Any

from moto.autoscaling.models import autoscaling_backends
from moto.core.responses import ActionResult
from moto.ec2 import utils
from moto.ec2.exceptions import InvalidInstanceIdError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.instances import Instance, InstancePlacement, InstanceState, StateReason
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.responses.spot_instances import SpotInstances

from . import prices
from .world import ACCOUNT, WORLD

RUNNING, PENDING, TERMINATED = ("running", 16), ("pending", 0), ("terminated", 48)


def install() -> None:
    _describe()
    _filter_by_client_token()
    _terminate()
    InstancePlacement.availability_zone_id = property(lambda placement: zone_ids().get(placement.zone))
    _shift_zones()
    _page_template_versions()
    SpotInstances.describe_spot_price_history = _spot_price_history
    SpotInstances.describe_spot_instance_requests = _spot_instance_requests


def backend(region: str = "us-east-1") -> EC2Backend:
    return ec2_backends[WORLD.account][region]


def owner_of(instance_id: str, region: str = "us-east-1") -> str:
    """Returns the account that has the instance. If no account has it, returns the usual one, which then says so."""
    for account in list(ec2_backends):
        reservations = ec2_backends[account][region].reservations.values()
        if any(i.id == instance_id for r in reservations for i in r.instances):
            return account
    return ACCOUNT


def has_ended(instance_id: str) -> bool:
    """Says if the instance is terminated, or forgotten."""
    reservations = ec2_backends[owner_of(instance_id)]["us-east-1"].reservations.values()
    return all(i.state == "terminated" for r in reservations for i in r.instances if i.id == instance_id)


def zone_ids(region: str = "us-east-1") -> dict[str, str]:
    """Returns name → id. AWS maps them differently in each account; here an account is shifted on request."""
    known = EC2Backend.zones[region]
    shift = WORLD.zone_shift.get(WORLD.account, 0)
    return {zone.name: known[(n + shift) % len(known)].zone_id for n, zone in enumerate(known)}


def set_state(instance: Instance, state: tuple[str, int], code: str = "", message: str = "") -> None:
    instance._state = InstanceState(*state)
    instance.state_reason = StateReason(message, code)


def kill(instance_id: str, code: str, message: str) -> None:
    """Ends the instance by itself; its group notices after a while (timing "replace")."""
    account = owner_of(instance_id)
    instance = ec2_backends[account]["us-east-1"].get_instance(instance_id)
    if instance.state != "terminated":
        instance.terminate()
        set_state(instance, TERMINATED, code, message)
        autoscaling_backends[account]["us-east-1"].notify_terminate_instances([instance_id])


def forget_the_dead() -> None:
    """Forgets terminated instances, as AWS does after an hour. moto keeps them for ever, and searches all of them each
    time."""
    for account in list(ec2_backends):
        _forget_the_dead_of(ec2_backends[account]["us-east-1"])


def _forget_the_dead_of(known: EC2Backend):
    for reservation_id, reservation in list(known.reservations.items()):
        if all(i.state == "terminated" for i in reservation.instances):
            del known.reservations[reservation_id]
            for instance in reservation.instances:
                if instance.lifecycle == "spot":  # EC2 keeps its request for some hours more.
                    WORLD.past_spot_requests[instance.id] = _spot_instance_request(instance)
                known.tags.pop(instance.id, None)


def _shift_zones():
    describe = EC2Backend.describe_availability_zones

    def shifted(self: Any, *args, **kwargs):
        ids = zone_ids(self.region_name) if self.region_name in self.zones else {}
        found = [copy.copy(zone) for zone in describe(self, *args, **kwargs)]
        for zone in found:
            zone.zone_id = ids.get(zone.name, zone.zone_id)
        return found

    EC2Backend.describe_availability_zones = shifted


def _describe():
    describe_instances = InstanceResponse.describe_instances
    describe_status = EC2Backend.describe_instance_status

    def describe_visible(self: Any):
        refuse_invisible(self._get_param("InstanceIds", []))
        answer = describe_instances(self)
        found = answer.result["Reservations"]  # Copies: moto makes them for each answer.
        for reservation in found:
            reservation.instances = [i for i in reservation.instances if WORLD.shows(i.id)]
        answer.result["Reservations"] = [r for r in found if r.instances]
        return answer

    def refuse_invisible(instance_ids: list[str]):
        """EC2 Developer Guide, "Eventual consistency in the Amazon EC2 API": asked for by its id, it is not found."""
        if hidden := next((i for i in instance_ids if not WORLD.shows(i)), None):
            raise InvalidInstanceIdError(hidden)

    def status_of_present(self: Any, instance_ids: list[str], *args, **kwargs):
        refuse_invisible(instance_ids)
        found = describe_status(self, instance_ids, *args, **kwargs)
        return [i for i in found if WORLD.status.get(i.id) != "absent" and WORLD.shows(i.id)]

    def checks(instance: Instance):
        if instance.state_code != 16:
            return {"Status": "not-applicable"}
        status = WORLD.status.get(instance.id, "ok")
        detail = {"ok": "passed", "impaired": "failed"}.get(status, "initializing")
        return {"Status": status, "Details": [{"Name": "reachability", "Status": detail}]}

    InstanceResponse.describe_instances = describe_visible
    EC2Backend.describe_instance_status = status_of_present
    Instance.instance_status = Instance.system_status = property(checks)


def _filter_by_client_token():
    """EC2 API, DescribeInstances: filter `client-token`. "Filter resources using the CLI": values take * and ?."""
    matches = utils.instance_value_in_filter_values

    def matches_pattern(value: Any, wanted: list[str]):
        found = isinstance(value, str) and any(fnmatch.fnmatchcase(value, pattern) for pattern in wanted)
        return found or matches(value, wanted)

    utils.filter_dict_attribute_mapping["client-token"] = "client_token"
    utils.instance_value_in_filter_values = matches_pattern


def _terminate():
    terminate = Instance.terminate

    def terminate_once(self: Any):
        if self.state == "terminated":  # A second TerminateInstances succeeds and changes nothing.
            return self._state
        return terminate(self)

    Instance.terminate = terminate_once


def _page_template_versions():
    """EC2 API, DescribeLaunchTemplateVersions: MaxResults is at most 200, and NextToken leads on. moto cuts the rest off."""
    find, describe = EC2Backend.describe_launch_template_versions, LaunchTemplates.describe_launch_template_versions

    def find_all(self: Any, **kwargs):
        return find(self, **{**kwargs, "max_results": 1_000_000})

    def page(self: Any):
        answer = describe(self)
        found, first = answer.result["LaunchTemplateVersions"], int(self._get_param("NextToken") or 0)
        behind = first + self._get_int_param("MaxResults", 200)
        more = str(behind) if behind < len(found) else None
        answer.result.update(LaunchTemplateVersions=found[first:behind], NextToken=more)
        return answer

    EC2Backend.describe_launch_template_versions = find_all
    LaunchTemplates.describe_launch_template_versions = page


def _spot_price_history(self: Any):
    filters = self._filters_from_querystring() or {}
    types = self._get_param("InstanceTypes", []) or filters.get("instance-type") or prices.known()
    products = self._get_param("ProductDescriptions", []) or filters.get("product-description") or list(prices.PRODUCTS)
    zone = self._get_param("AvailabilityZone")
    zones = [zone] if zone else filters.get("availability-zone") or list(zone_ids())
    with contextlib.suppress(KeyError):
        zones = [n for n, i in zone_ids().items() if i in filters["availability-zone-id"]]
    history = [
        {
            "InstanceType": kind,
            "ProductDescription": product,
            "SpotPrice": f"{prices.spot(kind, product):.6f}",
            "AvailabilityZone": name,
            "AvailabilityZoneId": zone_ids().get(name),
            "Timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        }
        for kind in types
        if kind in prices.known()
        for product in (p.removesuffix(" (Amazon VPC)") for p in products)
        if product in prices.PRODUCTS
        for name in zones
    ]
    return ActionResult({"SpotPriceHistory": history})


def _spot_instance_requests(self: Any):
    """Returns Spot requests: EC2 makes one for each Spot launch of RunInstances, moto for RequestSpotInstances only."""
    wanted = (self._filters_from_querystring() or {}).get("instance-id", [])
    requests = [
        _spot_instance_request(instance)
        for reservation in backend(self.region).reservations.values()
        for instance in reservation.instances
        if instance.lifecycle == "spot" and instance.id in wanted
    ]
    requests += [WORLD.past_spot_requests[i] for i in wanted if i in WORLD.past_spot_requests]
    return ActionResult({"SpotInstanceRequests": requests})


def _spot_instance_request(instance: Instance):
    return {
        "SpotInstanceRequestId": instance.spot_instance_request_id,
        "InstanceId": instance.id,
        "State": "active" if instance.state in ("pending", "running") else "closed",
        "Status": {"Code": WORLD.spot_requests.get(instance.id, "fulfilled"), "Message": ""},
        "LaunchSpecification": {"InstanceType": instance.instance_type},
        "LaunchedAvailabilityZone": instance.placement.zone,
    }
