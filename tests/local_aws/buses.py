"""Event buses of other accounts and regions as targets of rules: MiniStack delivers within one account and region only.

EventBridge User Guide, "Sending and receiving events between AWS accounts" and "… between AWS Regions": the target's role must
be allowed to put the event on the bus, and so must, across accounts, the policy of the bus. The event keeps its account and
region: a rule at the other end can match them.
"""

from __future__ import annotations

import contextvars
import json
import logging
from typing import Any

from ministack.core import iam_actions, iam_evaluator
from ministack.core.iam_evaluator import EvalContext, evaluate, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import eventbridge
from ministack.services.cloudformation import provisioners

from .shapes import Shape

LOG = logging.getLogger("events")


def install() -> None:
    _keep_policies_of_buses()
    _name_rules_as_aws_does()
    nearby = eventbridge._dispatch_to_event_bus

    def dispatch(spec: Any, event: Shape, rule: Shape, event_path: set[str], payload: str | None = None) -> None:
        if (spec.account_id, spec.region) == (get_account_id(), get_region()):
            nearby(spec, event, rule, event_path, payload)
        elif refusal := _refusal(spec, event, rule):
            LOG.warning("EventBridge → %s refused: %s", spec, refusal)
        else:
            forwarded = {**event, "EventBusName": _name(spec), "_DispatchPath": [*event_path, rule["Name"]]}
            contextvars.copy_context().run(_dispatch_there, spec, forwarded)

    eventbridge._dispatch_to_event_bus = dispatch


def _dispatch_there(spec: Any, event: Shape) -> None:
    set_request_account_id(spec.account_id)
    set_request_region(spec.region)
    eventbridge._dispatch_event(event)


def _refusal(spec: Any, event: Shape, rule: Shape) -> str | None:
    """Returns why the event does not get onto the bus; None if it does."""
    targets = eventbridge._targets.get(eventbridge._rule_key(rule["Name"], rule["EventBusName"]), [])
    role = next((target.get("RoleArn", "") for target in targets if target["Arn"] == str(spec)), "")
    if not role:
        return "the target has no role"
    context = EvalContext(
        principal_arn=role, principal_type="AssumedRole", principal_account=role.split(":")[4], action="events:PutEvents",
        resource_arn=str(spec), region=spec.region,
        service_context={"events:source": event["Source"], "events:detail-type": event["DetailType"]},
    )  # fmt: skip
    policies = iam_evaluator._gather_role_policies(role.rsplit("/", 1)[-1], role.split(":")[4])
    if evaluate(context, policies).decision != "Allow":
        return f"{role} may not put it"
    if spec.account_id == get_account_id():
        return None
    policy = eventbridge._event_bus_policies.get_scoped(spec.account_id, spec.region, _name(spec))
    allowed = evaluate_resource_policy(policy, context).decision == "Allow"
    return None if allowed else f"the policy of the bus does not allow it to {role}"


def _name(spec: Any) -> str:
    return spec.resource.split("/", 1)[1]


def _keep_policies_of_buses() -> None:
    """CloudFormation puts the policy of a bus on it; MiniStack's leaves it out."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Events::EventBus"]
    create, update = handlers["create"], handlers["update"]

    def keep(made: tuple[str, Shape], properties: Shape) -> tuple[str, Shape]:
        policy = properties.get("Policy")
        if policy:
            eventbridge._event_bus_policies[made[0]] = json.loads(policy) if isinstance(policy, str) else policy
        else:
            eventbridge._event_bus_policies.pop(made[0], None)
        return made

    def created(logical_id: str, properties: Shape, stack_name: str) -> tuple[str, Shape]:
        return keep(create(logical_id, properties, stack_name), properties)

    def updated(physical_id: str, old: Shape, properties: Shape, stack_name: str) -> tuple[str, Shape]:
        return keep(update(physical_id, old, properties, stack_name), properties)

    handlers.update(create=created, update=updated)


def _name_rules_as_aws_does() -> None:
    """Service authorization reference, "Actions, resources, and condition keys for Amazon EventBridge": a rule of the default
    bus is `rule/NAME`, and the calls about targets name it, too. MiniStack judges those by `*`."""
    resource_of = iam_actions.extract_resource_arn

    def resource_of_rule_or(service: str, method: str, path: str, headers: Any, body: bytes, *more: Any, **named: Any) -> str:
        arn = resource_of(service, method, path, headers, body, *more, **named)
        rule = iam_actions._safe_json_field(body, "Rule") if service == "events" else ""
        if rule:
            bus = iam_actions._safe_json_field(body, "EventBusName") or "default"
            arn = f"arn:aws:events:{get_region()}:{get_account_id()}:rule/{bus}/{rule}"
        return arn.replace(":rule/default/", ":rule/") if service == "events" else arn

    iam_actions.extract_resource_arn = resource_of_rule_or
