"""A subscriber: a queue that is subscribed to the stack's alerts, and to the events that the stack puts on its bus."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .shapes import Shape

if TYPE_CHECKING:
    from .stack import LocalAws

ANYONE = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [ANYONE]})


@contextlib.contextmanager
def listening(aws: LocalAws, bus: bool = False) -> Iterator[Callable[[], list[Shape]]]:
    """`with listening(aws) as inbox`: `inbox()` returns the bodies so far, of alerts and with `bus` of our events."""
    sqs, events, sns = aws.client("sqs"), aws.client("events"), aws.client("sns")
    name = f"inbox-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as leftovers:
        url = sqs.create_queue(QueueName=name, Attributes={"Policy": POLICY})["QueueUrl"]
        leftovers.callback(sqs.delete_queue, QueueUrl=url)
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        if bus:
            events.put_rule(Name=name, EventPattern=json.dumps({"source": ["spot-optimizer"]}))
            leftovers.callback(events.delete_rule, Name=name)
            events.put_targets(Rule=name, Targets=[{"Id": "inbox", "Arn": arn}])
            leftovers.callback(events.remove_targets, Rule=name, Ids=["inbox"])
        topic = aws.outputs["AlertsTopicArn"]
        subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
        leftovers.callback(sns.unsubscribe, SubscriptionArn=subscription)
        seen = []

        def read():
            while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in messages:
                    seen.append(json.loads(message["Body"]))
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return seen

        yield read
