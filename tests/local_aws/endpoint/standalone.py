"""EC2's behaviour for stand-alone instances that moto lacks: stopping and starting take time, an address leaves a
terminated instance, an image takes time and its snapshots bear tags. And the states in which EC2 refuses each of them."""

from __future__ import annotations

from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance

from ..shapes import Shape
from .ec2 import PENDING, RUNNING, set_state
from .world import WORLD

STOPPING, STOPPED = ("stopping", 64), ("stopped", 80)
ENDING = ("shutting-down", "terminated")


def install() -> None:
    _stop_and_start()
    _addresses()
    _images()
    _subnet_of_interface()


def _stop_and_start():
    """EC2 User Guide, "Amazon EC2 instance state changes": only a running instance stops, only a stopped one starts. The code
    is that of cloud-custodian #6014. "Stop a Spot Instance": only one of a persistent request can be stopped."""
    stop, start = Instance.stop, Instance.start

    def stop_slowly(self: Any):
        if self.state in ("stopped", "stopping"):
            return self._state
        if self.lifecycle == "spot":  # One-time requests alone are played.
            raise EC2ClientError("UnsupportedOperation", f"You can't stop the Spot Instance '{self.id}': its request is a one-time one.")
        if self.state != "running":
            raise _incorrect_state(self, "stopped")
        previous = stop(self)
        set_state(self, STOPPING)
        WORLD.later("stop", lambda: self.state == "stopping" and set_state(self, STOPPED))
        return previous

    def start_slowly(self: Any):
        if self.state in ("running", "pending"):
            return self._state
        if self.state != "stopped":
            raise _incorrect_state(self, "started")
        previous = start(self)
        set_state(self, PENDING)
        WORLD.later("pending", lambda: self.state == "pending" and set_state(self, RUNNING))
        return previous

    Instance.stop, Instance.start = stop_slowly, start_slowly


def _incorrect_state(instance: Instance, verb: str):
    message = f"The instance '{instance.id}' is not in a state from which it can be {verb}."
    return EC2ClientError("IncorrectInstanceState", message)


def _addresses():
    terminate, associate = Instance.terminate, EC2Backend.associate_address

    def terminate_without_address(self: Any):
        for address in self.ec2_backend.addresses:
            if address.instance is self:
                address.instance = address.eni = address.association_id = None
        return terminate(self)

    def associate_with_running(self: Any, instance: Instance | None = None, **given):
        """terraform-provider-aws #3072 has the refusal of a pending instance, cloudposse/terraform-aws-ec2-instance #95 that of a
        terminated one."""
        if instance and instance.state in ("pending", *ENDING):
            message = f"The {instance.state} instance '{instance.id}' is not in a valid state for this operation."
            raise EC2ClientError("InvalidInstanceID", message)
        return associate(self, instance=instance, **given)

    Instance.terminate, EC2Backend.associate_address = terminate_without_address, associate_with_running


def _images():
    create_image = EC2Backend.create_image

    def create_tagged(self: Any, instance_id: str, name: str, description: str, tag_specifications: list[Shape]):
        if any(image.name == name for image in self.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use.")
        if self.get_instance(instance_id).state in ENDING:  # EC2 API, CreateImage: of an instance that is running or stopped.
            raise EC2ClientError("IncorrectState", f"instance {instance_id} has ended")
        of = {s["ResourceType"]: s["Tags"] for s in tag_specifications}
        images = [{"ResourceType": "image", "Tags": of.get("image", [])}]
        image = create_image(self, instance_id, name, description, images)
        image.ebs_snapshot.add_tags({tag["Key"]: tag["Value"] for tag in of.get("snapshot", [])})
        image.state = "pending"
        WORLD.later("image", lambda: setattr(image, "state", WORLD.image_state))
        return image

    EC2Backend.create_image = create_tagged
    _snapshots_linger()
    Ami.state_reason = property(lambda image: {"Message": "told to fail"} if image.state == "failed" else None)


def _snapshots_linger():
    """Keeps the snapshots of an image in use for a moment after its deregistration, on request, as AWS sometimes
    does."""
    deregister_image, delete_snapshot = EC2Backend.deregister_image, EC2Backend.delete_snapshot
    lingering = set()

    def deregister(self: Any, ami_id: str):
        deregister_image(self, ami_id)
        if WORLD.snapshots_linger:
            lingering.update(s.id for s in self.snapshots.values() if s.from_ami == ami_id)

    def delete(self: Any, snapshot_id: str):
        if snapshot_id in lingering:
            lingering.discard(snapshot_id)
            image = self.snapshots[snapshot_id].from_ami
            raise EC2ClientError("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {image}")
        return delete_snapshot(self, snapshot_id)

    EC2Backend.deregister_image, EC2Backend.delete_snapshot = deregister, delete


def _subnet_of_interface():
    """Puts an instance into the subnet and zone of its interface."""
    run_instances = EC2Backend.run_instances

    def run(self: Any, image_id: str, count: int, user_data: Any, security_group_names: list[str], **kwargs):
        subnet_ids = [nic["SubnetId"] for nic in kwargs.get("nics") or [] if "SubnetId" in nic]
        if subnet_ids and not kwargs.get("subnet_id") and not kwargs.get("launch_template"):
            kwargs["subnet_id"] = subnet_ids[0]
        groups = [g for nic in kwargs.get("nics") or [] for g in nic.get("Groups", [])]
        reservation = run_instances(self, image_id, count, user_data, security_group_names, **kwargs)
        for instance in reservation.instances:
            if groups:
                instance.security_groups = [self.get_security_group_from_id(g) for g in groups]
        return reservation

    EC2Backend.run_instances = run
