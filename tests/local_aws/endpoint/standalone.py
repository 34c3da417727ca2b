"""EC2's behaviour for stand-alone instances that moto lacks: stopping and starting take time, an address leaves a
terminated instance, an image takes time and its snapshots bear tags."""

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


def install() -> None:
    _stop_and_start()
    _addresses()
    _images()
    _subnet_of_interface()


def _stop_and_start():
    stop, start = Instance.stop, Instance.start

    def stop_slowly(self: Any):
        if self.state in ("stopped", "stopping"):
            return self._state
        previous = stop(self)
        set_state(self, STOPPING)
        WORLD.later("stop", lambda: self.state == "stopping" and set_state(self, STOPPED))
        return previous

    def start_slowly(self: Any):
        if self.state == "stopping":
            message = f"The instance '{self.id}' is not in a state from which it can be started."
            raise EC2ClientError("IncorrectInstanceState", message)
        if self.state in ("running", "pending"):
            return self._state
        previous = start(self)
        set_state(self, PENDING)
        WORLD.later("pending", lambda: self.state == "pending" and set_state(self, RUNNING))
        return previous

    Instance.stop, Instance.start = stop_slowly, start_slowly


def _addresses():
    terminate = Instance.terminate

    def terminate_without_address(self: Any):
        for address in self.ec2_backend.addresses:
            if address.instance is self:
                address.instance = address.eni = address.association_id = None
        return terminate(self)

    Instance.terminate = terminate_without_address


def _images():
    create_image = EC2Backend.create_image

    def create_tagged(self: Any, instance_id: str, name: str, description: str, tag_specifications: list[Shape]):
        if any(image.name == name for image in self.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use.")
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
