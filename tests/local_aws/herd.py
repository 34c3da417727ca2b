"""A hub and members, each a stack of its own account. `buses` carries the members' reports to the hub."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import deploy
from .paths import RENDERED
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

    def _stack(self, account: str, parameters: dict[str, str]):
        """Deploys from the template that the session has rendered already, so that nothing is built again."""
        aws = LocalAws(self.home, account)
        aws.outputs = deploy.deploy(self.home, RENDERED, parameters, account)
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

    def register(self, account: str, kind: str, **more: Any) -> None:
        row = {"account_id": account, "environment_type": kind, "member": True, **more}
        self.hub.table("AccountsTableName").put_item(Item=row)

    @contextlib.contextmanager
    def unheard(self, member: LocalAws) -> Iterator[None]:
        """Keeps the member's reports from the hub."""
        events, bus = member.client("events"), member.outputs["ReportsBusName"]
        (rule,) = events.list_rules(EventBusName=bus)["Rules"]
        events.disable_rule(Name=rule["Name"], EventBusName=bus)
        try:
            yield
        finally:
            events.enable_rule(Name=rule["Name"], EventBusName=bus)


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
