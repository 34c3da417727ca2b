"""A stuck swap reaches a person: by EventBridge, through the policy of the alerts topic."""

import pytest

from scene import wait_for


@pytest.fixture
def stuck(aws, scene, settings):
    """Returns an execution that gives up while its old instance is still leaving."""
    settings(retire_timeout_seconds=1, reconcile_after_seconds=0)
    aws.control.timing(detach=600)
    web = scene(size=1, minimum=0)
    assert web.start().end()["error"] == "Stuck"
    yield web
    aws.control.timing(detach=0.3)
    web.reconcile_until_free()


def test_a_swap_that_is_stuck_reaches_the_alerts_topic(inbox, stuck):
    """EventBridge delivers to no topic whose statement for it has a Condition; MiniStack has the same rule here."""
    wait_for(lambda: any(stuck.arn in str(message) for message in inbox()))
