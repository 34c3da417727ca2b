"""`python -m local_aws.ministack`: MiniStack, with refusals and failures of AWS that MiniStack lacks."""

from __future__ import annotations

import concurrent.futures
import contextvars
import json
import logging
import re
import uuid
from pathlib import Path
from typing import Any

from ministack.app import main
from ministack.core import iam_actions, iam_evaluator
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.services import eventbridge, sns, stepfunctions
from ministack.services.cloudformation import changesets, engine, handlers, stacks

from . import buses, delivery, runtime
from .paths import GIVE_UP, GIVEN_UP, NAMES_RETURN
from .shapes import Shape

LOG = logging.getLogger("events")
LOOK_SECONDS = 0.05
PLAYED = "local.aws."
ASSUMED_ROLE = re.compile(r"arn:([\w-]+):sts::(\d{12}):assumed-role/([^/]+)/.*")


def install() -> None:
    _judge_conditions_as_aws_does()
    _resolve_values_in_conditions()
    _give_up_on_request()
    _let_names_return()
    buses.install()
    delivery.install()
    runtime.install()
    _take_events_of_played_services()
    deliver = eventbridge._dispatch_to_sns

    def deliver_if_allowed(arn: str, payload: Any):
        if _events_may_publish(arn):
            deliver(arn, payload)
        else:
            LOG.warning("EventBridge → SNS %s refused by the topic's policy", arn)

    eventbridge._dispatch_to_sns = deliver_if_allowed


def _give_up_on_request():
    """Step Functions Developer Guide, "Handling error conditions": after `Lambda.Unknown` and the like, a state is retried,
    and nobody knows what became of the invocation. If `GIVE_UP` names an execution and a phase, its invocation is given up
    so. It runs on; a file of the name `GIVEN_UP` is there until it ends."""
    invoke = stepfunctions._call_lambda
    for left in Path().glob(GIVEN_UP):  # By a MiniStack that was killed.
        left.unlink()

    def invoked(func_ref: str, event: Any):
        pool = concurrent.futures.ThreadPoolExecutor(1)
        invocation = pool.submit(contextvars.copy_context().run, invoke, func_ref, event)
        pool.shutdown(wait=False)
        while not concurrent.futures.wait([invocation], timeout=LOOK_SECONDS).done:
            if _is_meant(_told(GIVE_UP), event):
                running = GIVE_UP.rename(GIVEN_UP.replace("*", uuid.uuid4().hex))
                invocation.add_done_callback(lambda _, running=running: running.unlink())
                raise stepfunctions._ExecutionError("Lambda.Unknown", "given up by a test")
        return invocation.result()

    stepfunctions._call_lambda = invoked


def _let_names_return():
    """Step Functions API, StartExecution: a name is free again 90 days after its execution has ended. While the file
    `NAMES_RETURN` is there, it is at once: a day of the loop, which names its executions by the quarter of an hour, fits into a
    minute."""
    NAMES_RETURN.unlink(missing_ok=True)  # Of a MiniStack that was killed.
    start = stepfunctions._start_execution

    def started(data: Shape):
        arn = f"{data.get('stateMachineArn', '')}:{data.get('name')}".replace(":stateMachine:", ":execution:", 1)
        if NAMES_RETURN.exists() and stepfunctions._executions.get(arn, {}).get("status", "RUNNING") != "RUNNING":
            del stepfunctions._executions[arn]
        return start(data)

    stepfunctions._start_execution = started


def _take_events_of_played_services():
    """EventBridge API, PutEvents: a source of AWS is refused. The services that the endpoint plays put theirs as
    `local.aws.…`."""
    put = eventbridge._put_events

    def put_events(data: Shape, allow_aws_source: bool = False):
        entries = data.get("Entries") or []
        if entries and all(str(entry.get("Source", "")).startswith(PLAYED) for entry in entries):
            played = [{**entry, "Source": entry["Source"].removeprefix("local.")} for entry in entries]
            return put({**data, "Entries": played}, allow_aws_source=True)
        return put(data, allow_aws_source)

    eventbridge._put_events = put_events


def _told(file: Path) -> Shape | None:
    """Returns what a test has written; None once an invocation has taken it, which may be between any two steps of another."""
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return None


def _is_meant(told: Shape | None, event: Any) -> bool:
    return told is not None and isinstance(event, dict) and event.get("phase") == told["phase"] and told["execution"] in json.dumps(event)


def _resolve_values_in_conditions():
    """CloudFormation resolves pseudo parameters, Fn::Sub and Fn::Split in a template's Conditions; MiniStack takes them as they
    stand."""
    evaluate = engine._evaluate_conditions

    def resolved(node: Any, params: Shape) -> Any:
        if isinstance(node, list):
            return [resolved(part, params) for part in node]
        if not isinstance(node, dict):
            return node
        if {"Fn::Sub", "Fn::Split"} & set(node) or str(node.get("Ref", "")).startswith("AWS::"):
            return engine._resolve_refs(node, {}, params, {}, {}, "", "")
        return {key: resolved(value, params) for key, value in node.items()}

    def evaluate_as_aws_does(template: Shape, params: Shape) -> Shape:
        return evaluate({**template, "Conditions": resolved(template.get("Conditions", {}), params)}, params)

    for module in (engine, changesets, handlers, stacks):
        module._evaluate_conditions = evaluate_as_aws_does


def _judge_conditions_as_aws_does():
    resolve, request_keys = iam_evaluator._resolve_condition_key, iam_actions.request_tag_context

    def resolve_as_aws_does(key: str, context: Any):
        value = resolve(key, context)
        if key.lower() == "aws:principalarn" and (assumed := ASSUMED_ROLE.fullmatch(value or "")):
            # IAM User Guide, "AWS global condition context keys": a session's aws:PrincipalArn is the ARN of its role.
            return "arn:{}:iam::{}:role/{}".format(*assumed.groups())
        if key.lower() == "aws:securetransport":
            # Local AWS speaks HTTP where AWS speaks HTTPS. A service that delivers sends no such key.
            return None if context.principal_type == "Service" else "true"
        return value

    def request_keys_with_those_of_sts(service: str, iam_action: str, body: Any, params: Shape):
        keys = request_keys(service, iam_action, body, params)
        return {**keys, **sts_keys(params)} if iam_action == "sts:AssumeRole" else keys

    iam_evaluator._resolve_condition_key = resolve_as_aws_does
    iam_actions.request_tag_context = request_keys_with_those_of_sts


def sts_keys(params: Shape) -> Shape:
    """Returns the condition keys that identity policies may use for AssumeRole; MiniStack gives them to trust policies
    alone.

    Service authorization reference, "Actions, resources, and condition keys for AWS Security Token Service".
    """
    values = {f"sts:{name}".lower(): params.get(name) for name in ("RoleSessionName", "ExternalId")}
    return {key: v[0] if isinstance(v, list) else v for key, v in values.items() if v}


def _events_may_publish(topic_arn: str):
    """EventBridge User Guide, "Amazon SNS permissions": conditions in topic policies are not supported for EventBridge.

    No condition key has a value here, so that a statement with a Condition lets nothing through.
    """
    topic = sns._topic_by_arn_any_scope(topic_arn)
    if topic is None:
        return True  # MiniStack says by itself that there is none.
    context = EvalContext(
        principal_arn="*", principal_type="Service", principal_account="", action="sns:Publish",
        resource_arn=topic_arn, region=topic_arn.split(":")[3], service_context={},
    )  # fmt: skip
    policy = topic.get("attributes", {}).get("Policy") or ""
    return evaluate_resource_policy(policy, context, service="events.amazonaws.com").decision == "Allow"


if __name__ == "__main__":
    install()
    main()
