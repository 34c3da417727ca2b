"""`python -m local_aws.ministack`: MiniStack, with what AWS refuses and MiniStack lets pass."""

import logging

from ministack.app import main
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy
from ministack.services import eventbridge, sns

LOG = logging.getLogger("events")


def install():
    deliver = eventbridge._dispatch_to_sns

    def deliver_if_allowed(arn, payload):
        if _events_may_publish(arn):
            deliver(arn, payload)
        else:
            LOG.warning("EventBridge → SNS %s refused by the topic's policy", arn)

    eventbridge._dispatch_to_sns = deliver_if_allowed


def _events_may_publish(topic_arn):
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
