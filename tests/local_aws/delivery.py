"""Events on their way to a function, as on AWS: they keep the time that their sender gave them, and they queue. Tests read
what became of them in a file.

MiniStack gives each event the present time, and EventBridge's rules invoke a function once, whatever becomes of it.

EventBridge API, PutEventsRequestEntry: `Time` is the time of the event; without it, that of the call. Lambda Developer Guide,
"How Lambda handles errors and retries with asynchronous invocation": EventBridge invokes so. An event waits in the queue of its
function. An error of the function is retried as its EventInvokeConfig says, a throttled invocation until the event is too old.
What still fails goes to the destination.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import json_response
from ministack.services import eventbridge, lambda_svc

from .paths import QUEUED_EVENTS
from .shapes import Shape

LOG = logging.getLogger("events")
ENTRIES = 10  # The most of one PutEvents.
# Events of one function that are worked on at a time: AWS takes as many as the account's concurrency lets it, this machine has few cores.
AT_ONCE = 8
THROTTLED_SECONDS = 0.2  # On AWS a second, and longer each time.
SIX_HOURS = 21_600

SENT_AT: ContextVar[Any] = ContextVar("sent_at", default=None)
QUEUE: ContextVar[threading.BoundedSemaphore | None] = ContextVar("queue", default=None)


def install() -> None:
    _keep_the_time_of_the_sender()
    _invoke_as_lambda_does_asynchronously()
    _queue()


def _keep_the_time_of_the_sender() -> None:
    put, now = eventbridge._put_events, eventbridge._now_ts

    def put_each(data: Shape, allow_aws_source: bool = False):
        entries = data.get("Entries") or []
        if len(entries) > ENTRIES or not any("Time" in entry for entry in entries):
            return put(data, allow_aws_source)
        answers = [_put_at(entry, allow_aws_source) for entry in entries]
        results = [result for answer in answers for result in answer["Entries"]]
        return json_response({"FailedEntryCount": sum(answer["FailedEntryCount"] for answer in answers), "Entries": results})

    def _put_at(entry: Shape, allow_aws_source: bool) -> Shape:
        sent_at = SENT_AT.set(entry.get("Time"))
        try:
            _, _, body = put({"Entries": [entry]}, allow_aws_source)
            return json.loads(body)
        finally:
            SENT_AT.reset(sent_at)

    def time_of_event() -> float:
        sent_at = SENT_AT.get()
        return now() if sent_at is None else float(eventbridge._coerce_timestamp(sent_at))

    eventbridge._put_events, eventbridge._now_ts = put_each, time_of_event


def _invoke_as_lambda_does_asynchronously() -> None:
    def dispatch(arn: str, payload: str):
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if function and config:
            record = lambda_svc._execution_record_for_config(function, config)
            lambda_svc.invoke_async_with_retry(record, json.loads(payload))
        else:
            LOG.warning("EventBridge → Lambda: there is no function %s", name)

    eventbridge._dispatch_to_lambda = dispatch


class Record:
    """Events of each function: `sent` into its queue, `handled`, `given_up` after the last attempt, and attempts that
    `failed`. An event that is neither handled nor given up is still under way."""

    def __init__(self) -> None:
        self._lock, self._lines = threading.Lock(), open(QUEUED_EVENTS, "w", buffering=1)  # noqa: SIM115 (until the end)

    def add(self, function: str, what: str) -> None:
        with self._lock:
            self._lines.write(f"{function} {what}\n")


def _queue() -> None:
    invoke, execute, give_up = lambda_svc.invoke_async_with_retry, lambda_svc._execute_function, lambda_svc._route_async_failure
    record = Record()
    queues: dict[str, threading.BoundedSemaphore] = {}

    def invoke_from_queue(function: Shape, event: Any):
        config = _config(function)
        record.add(config["FunctionName"], "sent")
        # MiniStack invokes in a thread of its own, which takes the context along.
        queue = QUEUE.set(queues.setdefault(config["FunctionArn"], threading.BoundedSemaphore(AT_ONCE)))
        try:
            invoke(function, event)
        finally:
            QUEUE.reset(queue)

    def execute_in_turn(function: Shape, event: Any) -> Shape:
        queue, too_old = QUEUE.get(), time.monotonic() + _longest_age(function)
        if queue is None:
            return execute(function, event)
        while True:
            with queue:
                result = _outside_of_the_queue(function, event)
            if not result.get("throttle") or time.monotonic() > too_old:
                record.add(_config(function)["FunctionName"], "failed" if result.get("error") else "handled")
                return result
            time.sleep(THROTTLED_SECONDS)

    def _outside_of_the_queue(function: Shape, event: Any) -> Shape:
        """Executes without another turn in the queue: MiniStack calls itself again in the scope of the function's account."""
        queue = QUEUE.set(None)
        try:
            return execute(function, event)
        finally:
            QUEUE.reset(queue)

    def give_up_at_last(destination: str, function: str, *told: Any):
        give_up(destination, function, *told)
        record.add(function, "given_up")  # Not before its message lies in the queue.

    lambda_svc.invoke_async_with_retry, lambda_svc._execute_function = invoke_from_queue, execute_in_turn
    lambda_svc._route_async_failure = give_up_at_last


def _config(function: Shape) -> Shape:
    return function.get("config") or function


def _longest_age(function: Shape) -> int:
    configs = function.get("event_invoke_configs") or {}
    configured = function.get("event_invoke_config") or configs.get("$LATEST") or {}
    return int(configured.get("MaximumEventAgeInSeconds", SIX_HOURS))
