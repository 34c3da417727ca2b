"""Calls whose answer was lost or that come too late, and throttled calls. A repetition duplicates nothing. The swap ends as
if nothing had happened, or restores the group as its owner had it.

tests/world/tests/must_swap.rs and outages.rs strike each call that changes something.
"""

import pytest

from scene import wait_for


def test_a_launch_whose_answer_was_lost_is_taken_back_where_the_old_one_may_no_longer_go(aws, scene):
    """The repeated step must not skip the candidate: the instance that it launched would be forgotten."""
    web = scene(size=1, minimum=1, maximum=1)
    aws.control.fault("RunInstances", kind="error_after", code="InternalError", status=500, times=1)
    aws.control.fault("DescribeInstanceAttribute", kind="hold", skip=1)
    web.start()
    wait_for(lambda: aws.control.faults()[1]["hits"])
    web.protect_from_termination(web.old[0])
    aws.control.clear_faults()
    web.assert_rolled_back(web.end()["output"], "TERMINATION_PROTECTED")
    assert len(web.newcomers) == 1


# One of each protocol: that of EC2, of Auto Scaling, and of DynamoDB.
@pytest.mark.parametrize("action", ["RunInstances", "AttachInstances", "UpdateItem"])
def test_throttling_only_takes_longer(aws, scene, action):
    web = scene(size=1, minimum=1, maximum=1)
    codes = {"RunInstances": "RequestLimitExceeded", "AttachInstances": "Throttling", "UpdateItem": "ThrottlingException"}
    aws.control.fault(action, code=codes[action], status=400, times=4)
    web.assert_swapped(web.swap())


def test_a_journal_that_is_written_twice_still_knows_the_owners_settings(aws, scene, settings):
    """Attach raised MaxSize and failed. Its repetition sees our MaxSize, and dies before it can correct the journal."""
    web = scene(size=1, minimum=1, maximum=1)
    settings(reconcile_after_seconds=0)
    aws.control.fault("AttachInstances", code="ServiceUnavailable", status=503, times=3)
    # Discover, Launch and Attach write once each; the next, of Attach's repetition, goes through and the one after not.
    aws.control.fault("UpdateItem", code="InternalServerError", status=500, skip=4, times=3)
    report = web.swap()
    if report["swapped"]:
        web.assert_swapped(report)
    else:
        assert len(report["rolled_back"]) == 1
        web.assert_untouched()


# -- calls that come too late ------------------------------------------------------------------------------------------

TERMINATE = "TerminateInstanceInAutoScalingGroup"


def replaced_before_the_call_arrives(web, instance_id):
    """Lets the instance die and its group replace it while the call is on its way; then the call arrives."""
    wait_for(lambda: [f["hits"] for f in web.aws.control.faults()] == [1])
    web.aws.control.kill(instance_id)
    wait_for(lambda: instance_id not in web.group.instance_ids)


def test_a_group_that_replaces_the_newcomer_before_it_is_taken_out_is_given_its_size_back(aws, scene, settings):
    """The call is refused, as there is no such member any more, and so did not lower the desired capacity."""
    web = scene(size=2, minimum=0)
    settings(in_service_timeout_seconds=1)
    aws.control.newcomers(lifecycle_state="Pending")
    aws.control.timing(replace=0.1, group_launch=0.3)
    aws.control.fault(TERMINATE, kind="delay", delay_seconds=4, times=1)
    newcomer = web.start(max_swaps=1).newcomer()
    replaced_before_the_call_arrives(web, newcomer)
    execution = web.end()
    assert execution["status"] == "SUCCEEDED", execution
    assert [r["reason"] for r in execution["output"]["rolled_back"]] == ["NEWCOMER_NOT_SERVING"]
    assert set(web.old) <= set(web.group.instance_ids)
    web.assert_owners()


def test_a_group_that_replaces_the_old_one_before_it_retires_is_given_its_size_back(aws, scene):
    web = scene(size=1, minimum=0)
    web.hook("TERMINATING")
    aws.control.timing(replace=0.1, group_launch=0.3)
    aws.control.fault(TERMINATE, kind="delay", delay_seconds=4, times=1)
    web.start()
    replaced_before_the_call_arrives(web, web.old[0])
    execution = web.end()
    assert execution["status"] == "SUCCEEDED", execution
    web.assert_owners()
