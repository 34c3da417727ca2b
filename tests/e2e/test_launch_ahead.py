"""Newcomers that are launched ahead of their turn: N -> N+1 -> N still holds, and each is attached or taken away."""

from scene import reasons, wait_for


def held_in_the_second_swap(scene, size=6, **options):
    """Starts the swap of a group, and holds the second newcomer of it before it is in service, until `let_serve`."""
    web = scene(size=size, minimum=size, maximum=size)
    web.aws.control.timing(detach=600)
    web.start(**options).reach("PauseForRetirement")
    assert ahead(web) == [], "the first swap proves the launch to the others"
    web.aws.control.timing(detach=0.3, attach=600)
    web.reach("LaunchAhead")
    wait_for(lambda: web.states()[-1] == "PauseForInService")
    return web


def let_serve(web):
    web.aws.control.timing(attach=0.2)


def attached(web):
    """Returns the newcomer that does not serve yet."""
    return next(i["InstanceId"] for i in web.group.describe()["Instances"] if i["LifecycleState"] == "Pending")


def ahead(web):
    """Returns the newcomers that run and are no members."""
    alive = {i["InstanceId"] for i in web.newcomers if i["State"]["Name"] in ("pending", "running")}
    return sorted(alive - set(web.group.instance_ids))


def test_three_boot_ahead_while_the_one_before_is_attached_and_retired(scene):
    web = held_in_the_second_swap(scene)
    wait_for(lambda: len(ahead(web)) == 3)
    web.reach_again("PauseForInService")
    assert (len(ahead(web)), web.group.describe()["DesiredCapacity"]) == (3, 7)
    let_serve(web)
    web.assert_swapped(web.end()["output"])
    assert (len(web.newcomers), web.capacity.highest_desired) == (6, 7), "each old one got one, and one was beyond N at most"


def test_with_one_each_is_launched_in_its_turn(scene, settings):
    settings(launch_ahead=1)
    web = scene(size=3, minimum=3, maximum=3)
    web.assert_swapped(web.swap())
    assert "LaunchAhead" not in web.states()


def test_none_is_launched_ahead_beyond_what_was_asked_for(scene):
    web = held_in_the_second_swap(scene, max_swaps=3)
    wait_for(lambda: len(ahead(web)) == 1)
    let_serve(web)
    report = web.end()["output"]
    web.assert_swapped(report, *[s["old_instance_id"] for s in report["swapped"]])
    assert (len(report["swapped"]), len(web.newcomers)) == (3, 3)


# -- what changes between a launch ahead and its turn ----------------------------------------------------------------


def test_newcomers_of_a_version_that_was_rolled_meanwhile_give_way_to_others(scene):
    web = held_in_the_second_swap(scene, size=4)
    wait_for(lambda: len(ahead(web)) == 2)
    old_version = ahead(web)
    web.new_template_version(InstanceType="m5.large")
    let_serve(web)
    report = web.end()["output"]
    web.assert_swapped(report)
    assert not {*old_version} & {*web.group.instance_ids}
    version = {i: web.tags(i)["aws:ec2launchtemplate:version"] for i in web.group.instance_ids}
    assert sorted(version.values()) == ["1", "1", "2", "2"]


def test_a_pool_that_is_poisoned_meanwhile_gives_way_to_another(aws, scene, settings):
    settings(instance_types="m5.large,m5a.large")
    web = held_in_the_second_swap(scene, size=4)
    wait_for(lambda: len(ahead(web)) == 2)
    theirs = {aws.pool_of(newcomer) for newcomer in ahead(web)} - {aws.pool_of(attached(web))}
    (poisoned,) = theirs  # Two zones take turns.
    aws.poison(poisoned)
    let_serve(web)
    report = web.end()["output"]
    web.assert_swapped(report)
    assert poisoned not in {s["pool"] for s in report["swapped"][2:]}, report


def test_where_no_pool_has_capacity_ahead_the_swap_in_progress_goes_on(aws, scene):
    web = scene(size=3, minimum=3, maximum=3)
    aws.control.fault("RunInstances", code="InsufficientInstanceCapacity", status=500, match=third(web))
    report = web.swap()
    assert reasons(report["skipped"]) == {web.old[2]: "NO_CAPACITY"}, report
    web.assert_swapped(report, *web.old[:2])


def third(web):
    """Returns what matches the launches for the third member alone, which is launched ahead."""
    return {"ClientToken": web.old[2]}


# -- executions that end in between ----------------------------------------------------------------------------------


def test_an_execution_stopped_while_one_is_launched_ahead(aws, scene, settings):
    web = scene(size=3, minimum=3, maximum=3)
    aws.control.fault("RunInstances", kind="hold", match=third(web))
    web.start()
    wait_for(lambda: aws.control.faults()[0]["hits"])
    web.stop(then=aws.control.clear_faults)
    settings(reconcile_after_seconds=0, launch_visible_after_seconds=1)
    web.reconcile_until_free()
    assert len(web.group.spot) == 1
    web.assert_owners()


# -- runs that end before their time ---------------------------------------------------------------------------------


def test_after_a_swap_that_failed_the_next_one_is_there_already(aws, scene):
    web = held_in_the_second_swap(scene, size=4)
    wait_for(lambda: len(ahead(web)) == 2)
    aws.control.kill(attached(web))
    let_serve(web)
    report = web.end()["output"]
    assert len(report["swapped"]) == 3 and len(report["rolled_back"]) == 1, report
    assert len(web.newcomers) == 4
    web.assert_no_stray()


def test_a_run_that_ends_takes_them_away(aws, scene):
    web = held_in_the_second_swap(scene, size=5)
    wait_for(lambda: len(ahead(web)) == 3)
    web.tag_group("spot-optimizer:opt-out", "true")
    let_serve(web)
    report = web.end()["output"]
    assert len(report["swapped"]) == 1 and report["ended_by"]["reason"] == "OPTED_OUT", report
    assert ahead(web) == []
    web.assert_owners()
