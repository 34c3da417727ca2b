"""Auto Scaling's launch events, on the default bus of the group's account, if a test asks for them.

Amazon EC2 Auto Scaling User Guide, "Successful scaling events": the shape. An attached instance has one as well, whose
cause is the attach. Without the request there are none: each would invoke the group watcher beside the test.
"""

from __future__ import annotations

import json
import queue
import threading
import uuid
from typing import TYPE_CHECKING, Any

from .world import WORLD

if TYPE_CHECKING:
    from moto.autoscaling.models import FakeAutoScalingGroup

    from .identities import Identities

PENDING: queue.Queue[tuple[str, Any]] = queue.Queue()


def start(identities: Identities) -> None:
    """Puts the events from a thread of its own: who waits for the world's lock must not wait for a Lambda."""
    threading.Thread(target=_put_all, args=(identities,), daemon=True).start()


def launched(group: FakeAutoScalingGroup, instance: Any) -> None:
    if not WORLD.launch_events:
        return
    account = group.autoscaling_backend.account_id
    detail = {
        "StatusCode": "InProgress",
        "Description": f"Launching a new EC2 instance: {instance.id}",
        "AutoScalingGroupName": group.name,
        "ActivityId": str(uuid.uuid4()),
        "Details": {"Availability Zone": instance.placement.zone, "Subnet ID": instance.subnet_id},
        "RequestId": str(uuid.uuid4()),
        "StatusMessage": "",
        "EC2InstanceId": instance.id,
        "Cause": "an instance was started or attached",
        "Origin": "EC2",
        "Destination": "AutoScalingGroup",
    }
    resources = [group.arn, f"arn:aws:ec2:us-east-1:{account}:instance/{instance.id}"]
    entry = {
        "Source": "local.aws.autoscaling",  # `ministack.py` lets it through as aws.autoscaling
        "DetailType": "EC2 Instance Launch Successful",
        "Detail": json.dumps(detail),
        "Resources": resources,
    }
    PENDING.put((account, entry))


def _put_all(identities: Identities):
    while True:
        account, entry = PENDING.get()
        try:
            answer = identities.client("events", account).put_events(Entries=[entry])
            if answer["FailedEntryCount"]:
                raise ValueError(answer["Entries"][0])
        except Exception as error:
            print(f"a launch event was lost: {error}", flush=True)
