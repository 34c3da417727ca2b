"""Other accounts and regions that the stack works in: `shared/cloud/account.yaml`, deployed there as it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3

from local_aws.build import load
from local_aws.paths import ACCOUNT, ACCOUNT_ROLE, REGION, credentials
from scene import Scene

if TYPE_CHECKING:
    from local_aws.lab import Standalone
    from local_aws.shapes import Shape
    from local_aws.stack import LocalAws

OTHER = "666666666666"
EXTERNAL_ID = "other-4d21f0"


class Abroad(Scene):
    """A group of the other account, swapped by the stack; the journal stays with the stack."""

    def __init__(self, other: LocalAws, stack: LocalAws, **options: Any) -> None:
        super().__init__(other, **options)
        self.stack = stack

    def swap(self, **input: Any) -> Shape:
        """Runs the swap to its end; returns the execution."""
        self.arn = self.stack.start_execution({"asg_name": self.name, "account_id": OTHER, **input})
        return self.stack.wait_execution(self.arn)

    def running(self) -> bool:
        return False


def lab_swap(aws: LocalAws, old: Standalone, **input: Any) -> Shape:
    """Swaps a stand-alone instance of the other account; returns the report."""
    arn = aws.start_execution({"instance_id": old.id, "account_id": OTHER, **input}, machine="LabSwapStateMachineArn")
    execution = aws.wait_execution(arn)
    assert execution["status"] == "SUCCEEDED", (execution.get("error"), execution.get("cause"))
    return execution["output"]


def client(aws: LocalAws, service: str, region: str = REGION) -> Any:
    """Returns a client of the account's root in a region."""
    session = boto3.Session(*credentials(aws.account).values(), region_name=region)
    port = aws.ports["ec2" if service in ("ec2", "autoscaling") else "ministack"]
    return session.client(service, endpoint_url=f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def deployed(stack: LocalAws, there: LocalAws, region: str = REGION, **parameters: str) -> Iterator[Shape]:
    """Deploys `account.yaml` in the account of `there`; yields its outputs. Its notices go to `stack`."""
    cloudformation = client(there, "cloudformation", region)
    parameters = {
        "StackAccountId": ACCOUNT, "ExternalId": EXTERNAL_ID, "NoticesBusArn": stack.outputs["NoticesBusArn"],
        "AllowDrills": "true", **parameters,
    }  # fmt: skip
    cloudformation.create_stack(
        StackName="spot-optimizer-account", TemplateBody=json.dumps(load(ACCOUNT_ROLE)),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )  # fmt: skip
    cloudformation.get_waiter("stack_create_complete").wait(StackName="spot-optimizer-account", WaiterConfig={"Delay": 1})
    (made,) = cloudformation.describe_stacks(StackName="spot-optimizer-account")["Stacks"]
    yield {output["OutputKey"]: output["OutputValue"] for output in made.get("Outputs", [])}
    cloudformation.delete_stack(StackName="spot-optimizer-account")


@contextlib.contextmanager
def rule_off(there: LocalAws) -> Iterator[None]:
    """Disables the rule that hands the notices of an account to the stack."""
    events, rule = client(there, "events"), "spot-optimizer-notices"
    events.disable_rule(Name=rule)
    try:
        yield
    finally:
        events.enable_rule(Name=rule)
