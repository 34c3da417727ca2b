"""The fields of interfaces that moto lacks: the owner of an address, the source/destination check, freed room."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance


def install() -> None:
    _owner_of_address()
    _source_dest_check()
    _primary_interface_ends_with_its_instance()


def _owner_of_address():
    """EC2 API, InstanceNetworkInterfaceAssociation: IpOwnerId is the owner of the Elastic IP address.

    If EC2 assigned the address by itself, the field says `amazon`.
    """
    association = NetworkInterface.association.fget

    def owned(self: Any):
        found = association(self)
        if found and "allocationId" not in found:
            found["ipOwnerId"] = "amazon"
        return found or None

    NetworkInterface.association = property(owned)


def _source_dest_check():
    """EC2 API, ModifyInstanceAttribute: the instance's check is that of its primary interface, and the other way round."""

    def read(instance: Instance):
        nic = getattr(instance, "nics", {}).get(0)
        return nic.source_dest_check if nic else instance.__dict__.get("_source_dest_check", True)

    def write(instance: Instance, value: bool):
        instance._source_dest_check = value
        if nic := getattr(instance, "nics", {}).get(0):
            nic.source_dest_check = value

    Instance.source_dest_check = property(read, write)


def _primary_interface_ends_with_its_instance():
    """EC2 API, NetworkInterfaceAttachment: an interface that RunInstances made goes with its instance, and frees its
    address."""
    terminate = Instance.terminate

    def freeing(self: Any):
        alive = self.state != "terminated"
        answer = terminate(self)
        nic = self.nics.get(0)
        if alive and nic and nic.id in self.ec2_backend.enis and nic.description == "Primary network interface":
            del self.ec2_backend.enis[nic.id]
            for address in nic.private_ip_addresses:
                nic.subnet.del_subnet_ip(address["PrivateIpAddress"])
        return answer

    Instance.terminate = freeing
