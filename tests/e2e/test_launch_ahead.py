"""Newcomers that are launched ahead of their turn: N -> N+1 -> N still holds, and each is attached or taken away."""

import pytest

from scene import reasons, wait_for


def held_in_the_first_swap(scene, size=5, **options):
    """Starts the swap of a group whose newcomers do not serve before `let_serve`."""
    web = scene(size=size, minimum=size, maximum=size, with_target_group=True)
    web.aws.control.target_health(web.group.target_group, state="initial", reason="Elb.RegistrationInProgress")
    return web.start(**options).reach("PauseForInService")


def let_serve(web):
    web.aws.control.target_health(web.group.target_group, state=None)


def member(web):
    """Returns the newcomer that is a member."""
    return wait_for(lambda: {i["InstanceId"] for i in web.newcomers} & set(web.group.instance_ids)).pop()


def ahead(web):
    """Returns the newcomers that run and are no members."""
    alive = {i["InstanceId"] for i in web.newcomers if i["State"]["Name"] in ("pending", "running")}
    return sorted(alive - set(web.group.instance_ids))


def test_three_boot_ahead_while_the_one_before_is_attached_and_retired(scene):
    web = held_in_the_first_swap(scene)
    wait_for(lambda: len(ahead(web)) == 3)
    web.reach_again("PauseForInService")
    assert (len(ahead(web)), web.group.describe()["DesiredCapacity"]) == (3, 6)
    let_serve(web)
    web.assert_swapped(web.end()["output"])
    assert (len(web.newcomers), web.capacity.highest_desired) == (5, 6), "each old one got one, and one was beyond N at most"


def test_with_one_each_is_launched_in_its_turn(scene, settings):
    settings(launch_ahead=1)
    web = held_in_the_first_swap(scene, size=2)
    web.reach_again("PauseForInService")
    assert ahead(web) == []
    let_serve(web)
    web.assert_swapped(web.end()["output"])


def test_none_is_launched_ahead_beyond_what_was_asked_for(scene):
    web = held_in_the_first_swap(scene, size=4, max_swaps=2)
    wait_for(lambda: len(ahead(web)) == 1)
    let_serve(web)
    report = web.end()["output"]
    web.assert_swapped(report, *[s["old_instance_id"] for s in report["swapped"]])
    assert (len(report["swapped"]), len(web.newcomers)) == (2, 2)


def test_a_pool_that_is_poisoned_meanwhile_takes_its_newcomer_away_in_its_turn(aws, scene):
    web = held_in_the_first_swap(scene, size=2)
    aws.poison(aws.pool_of(wait_for(lambda: ahead(web))[0]))  # In the other zone.
    let_serve(web)
    report = web.end()["output"]
    assert [left["reason"] for left in report["rolled_back"]] == ["NEWCOMER_AT_RISK"], report
    web.assert_swapped(report, report["swapped"][0]["old_instance_id"])


def test_where_no_pool_has_capacity_ahead_the_swap_in_progress_goes_on(aws, scene):
    web = scene(size=2, minimum=2, maximum=2)
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, match=second(web))
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[1]: "NO_CAPACITY"}, report
    web.assert_swapped(report, web.old[0])


def second(web):
    """Returns what matches the launches for the second member alone."""
    return {"ClientToken": web.old[1]}


# -- executions that end in between ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["PauseForInService", "PauseForRetirement"])
def test_an_execution_that_is_stopped_leaves_none_of_them_running(aws, scene, settings, state):
    web = held_in_the_first_swap(scene, size=4)
    wait_for(lambda: len(ahead(web)) == 3)
    if state == "PauseForRetirement":
        aws.control.timing(target_drain=600)
        let_serve(web)
        web.reach(state)
    web.stop()
    aws.control.timing(target_drain=0.2)
    settings(reconcile_after_seconds=0)
    web.reconcile_until_free()
    assert ahead(web) == []
    web.assert_owners()
    assert len(web.group.spot) == (1 if state == "PauseForRetirement" else 0)


def test_an_execution_stopped_while_one_is_launched_ahead(aws, scene, settings):
    web = scene(size=2, minimum=2, maximum=2)
    aws.control.fault("RunInstances", kind="hold", match=second(web))
    web.start()
    wait_for(lambda: aws.control.faults()[0]["hits"])
    web.stop(then=aws.control.clear_faults)
    settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    web.assert_untouched()


def test_an_answer_that_was_lost_launches_none_twice(aws, scene):
    web = scene(size=2, minimum=2, maximum=2)
    aws.control.fault("RunInstances", kind="error_after", code="InternalError", status=500, times=4, match=second(web))
    web.assert_swapped(web.swap())
    assert len(web.newcomers) == 2


# -- runs that end before their time ---------------------------------------------------------------------------------


def test_after_a_swap_that_failed_the_next_one_is_there_already(aws, scene):
    web = held_in_the_first_swap(scene, size=3)
    wait_for(lambda: len(ahead(web)) == 2)
    aws.control.kill(member(web))
    let_serve(web)
    report = web.end()["output"]
    assert len(report["swapped"]) == 2 and len(report["rolled_back"]) == 1, report
    assert len(web.newcomers) == 3
    web.assert_no_stray()


def test_a_run_that_ends_takes_them_away(aws, scene):
    web = held_in_the_first_swap(scene, size=4)
    wait_for(lambda: len(ahead(web)) == 3)
    web.tag_group("spot-optimizer:opt-out", "true")
    let_serve(web)
    report = web.end()["output"]
    assert report["swapped"] == [] and report["ended_by"]["reason"] == "OPTED_OUT", report
    web.assert_untouched()
