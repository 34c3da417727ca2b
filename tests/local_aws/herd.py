"""A hub and members, each a stack of its own account, and AWS's way between them.

MiniStack keeps accounts apart, but carries no event from one account to another. `Wire` plays that part. It takes the
events that the member's risk manager put on the member's bus for reports. It matches them against the deployed rules of
both sides as EventBridge does, and delivers them to the target of the hub's rule. MiniStack stamps the account of an
event, as AWS does.
"""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import deploy
from .paths import BUILD
from .shapes import Shape
from .stack import LocalAws

if TYPE_CHECKING:
    from .paths import Home

REPORT = "Spot Pool Interrupted"
EXTERNAL_ID = "herd-7f3a9c"
HUB, A, B = "555555555555", "222222222222", "333333333333"
LAB, STRANGER = "444444444444", "999999999999"


class Herd:
    """A hub with two members. LAB is registered at the hub, too, but runs no stack."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.hub = self._stack(HUB, {"Role": "hub", "MemberAccountIds": f"{A},{B},{LAB}", "HubExternalId": EXTERNAL_ID})
        out = self.hub.outputs
        member = {
            "Role": "member",
            "HubEventBusArn": out["HubEventBusArn"],
            "HubPoolRiskTable": out["SpotPoolRiskTableName"],
            "HubReaderRoleArn": out["HubReaderRoleArn"],
            "HubExternalId": EXTERNAL_ID,
        }
        self.a, self.b = self._stack(A, member), self._stack(B, member)
        self.wires = [Wire(aws, self.hub) for aws in (self.a, self.b)]

    def _stack(self, account: str, parameters: dict[str, str]):
        """Deploys from the template that the session has rendered already, so that nothing is built again."""
        aws = LocalAws(self.home, account)
        aws.outputs = deploy.deploy(self.home, BUILD / "template.yaml", parameters, account)
        return aws

    def reset(self) -> None:
        """Resets to nothing poisoned and nothing remembered; A and B are registered as PROD, C as LAB."""
        self.hub.control.reset()
        for aws in (self.hub, self.a, self.b):
            aws.clear_pools()
            aws.clear_registry()
        sightings = self.hub.table("SightingsTableName")
        for row in sightings.scan()["Items"]:
            sightings.delete_item(Key={"subject": row["subject"], "account_id": row["account_id"]})
        for account, kind in ((A, "PROD"), (B, "PROD"), (LAB, "LAB")):
            self.register(account, kind)
        for wire in self.wires:
            wire.drain()

    def register(self, account: str, kind: str, **more: Any) -> None:
        row = {"account_id": account, "environment_type": kind, "member": True, **more}
        self.hub.table("AccountsTableName").put_item(Item=row)

    def deliver(self) -> list[Shape]:
        """Delivers the events that the members have put on their buses; returns the hub's answers, in order."""
        return [answer for wire in self.wires for answer in wire.deliver()]


def report(account: str, pool: str, occurred: datetime.datetime, detail: Shape | None = None) -> Shape:
    """Returns a report as it arrives at the hub's bus, stamped with `account`."""
    at = occurred.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "version": "0", "id": str(uuid.uuid4()), "detail-type": REPORT, "source": "spot-optimizer",
        "account": account, "time": at, "region": pool.split("#")[0], "resources": [],
        "detail": {
            "pool": pool, "instance-lifecycle": "spot", "instance-id": "i-0b662ef9931388ba0",
            "notice": "EC2 Spot Instance Interruption Warning", "occurred": at, "is-drill": True, **(detail or {}),
        },
    }  # fmt: skip


class Wire:
    def __init__(self, member: LocalAws, hub: LocalAws) -> None:
        self.member, self.hub = member, hub
        self.sqs, self.events = member.client("sqs"), member.client("events")
        self.queue = self.sqs.create_queue(QueueName="tap")["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        anyone = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [anyone]})
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"Policy": policy})
        self.bus = member.outputs["ReportsBusName"]
        pattern = json.dumps({"source": ["spot-optimizer"]})
        self.events.put_rule(Name="tap", EventBusName=self.bus, EventPattern=pattern)
        self.events.put_targets(Rule="tap", EventBusName=self.bus, Targets=[{"Id": "tap", "Arn": arn}])

    def drain(self) -> list[Shape]:
        return list(self._received(0))

    def deliver(self, seconds: float = 3) -> list[Shape]:
        return [self._over(event) for event in self._received(seconds)]

    def _received(self, seconds: float):
        deadline = time.monotonic() + seconds
        while True:
            messages = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", [])
            for message in messages:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                yield json.loads(message["Body"])
            if messages:
                deadline = 0  # Events that belong together were put together.
            elif time.monotonic() >= deadline:
                return
            else:
                time.sleep(0.1)

    def _over(self, event: Shape):
        """Delivers an event once: the member's rule forwards it, the hub's rule takes it."""
        (forward,) = self._targets(self.member, self.bus, event)
        assert forward["Arn"] == self.hub.outputs["HubEventBusArn"] and forward["RoleArn"], forward
        (target,) = self._targets(self.hub, forward["Arn"].split("event-bus/")[1], event)
        answer, error = self.hub.invoke(target["Arn"].split(":")[-1], event)
        assert error is None, error
        return answer

    @staticmethod
    def _targets(aws: LocalAws, bus: str, event: Shape) -> Iterator[Shape]:
        events = aws.client("events")
        for rule in events.list_rules(EventBusName=bus)["Rules"]:
            pattern = rule.get("EventPattern")
            if not pattern or rule["Name"] == "tap":
                continue
            if events.test_event_pattern(EventPattern=pattern, Event=json.dumps(event))["Result"]:
                yield from events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus)["Targets"]
