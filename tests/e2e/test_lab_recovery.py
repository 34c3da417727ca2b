"""Lab swaps whose execution dies: they are undone or finished."""

import pytest

from scene import wait_for


@pytest.fixture
def quick_recovery(settings):
    """Reconciles dead executions at once: safe here, because the Lambda that may still run only reads."""
    settings(reconcile_after_seconds=0)


HOLDS = {
    "PauseForImage": lambda c: c.timing(image=600),
    "PauseForHealth": lambda c: c.newcomers(status="initializing"),
    "PauseForTakeOver": lambda c: c.newcomers(target_health={"state": "initial"}),
}


@pytest.mark.parametrize("state", HOLDS)
def test_an_execution_stopped_before_the_old_one_leaves_is_undone(quick_recovery, lab, state):
    web = lab(address=True, target_groups=1)
    HOLDS[state](web.aws.control)
    web.start(capture_image=True).reach(state).stop()
    web.reconcile()
    web.assert_untouched()
    assert "Undone by the reconciler" in web.old.row()["last_summary"]


PHASES = {
    "CaptureImage": HOLDS["PauseForImage"],
    "WaitForHealth": HOLDS["PauseForHealth"],
    "TakeOver": HOLDS["PauseForTakeOver"],
    "RetireOld": lambda c: c.timing(target_drain=600),
}


@pytest.mark.parametrize("state", PHASES)
def test_an_execution_stopped_as_a_phase_begins(lab, settings, state):
    web = lab(address=True, target_groups=1)
    PHASES[state](web.aws.control)
    web.start(capture_image=True).reach(state).stop()
    web.aws.control.timing(image=0.3, target_drain=0.2)
    settings(reconcile_after_seconds=0)
    web.reconcile()
    if web.old.newcomer():
        web.assert_swapped({"outcome": "SWAPPED", "instance_id": web.old.id, "new_instance_id": web.old.newcomer()})
    else:
        web.assert_untouched()


def test_an_execution_stopped_while_the_old_one_drains_is_finished(quick_recovery, lab):
    web = lab(address=True, target_groups=1)
    web.drains(capture_image=True).stop()
    newcomer = web.old.newcomer()
    web.drained().reconcile()
    web.assert_swapped({"outcome": "SWAPPED", "instance_id": web.old.id, "new_instance_id": newcomer})
    assert "Finished by the reconciler" in web.old.row()["last_summary"]


def test_an_owner_who_opts_out_is_heard_after_the_execution_died_too(lab, settings):
    web = lab(address=True, target_groups=1)
    web.drains().stop()
    web.old.tag("spot-optimizer:opt-out", "true")
    settings(reconcile_after_seconds=0)
    web.drained().reconcile()
    web.assert_untouched()
    assert "Undone by the reconciler" in web.old.row()["last_summary"]


def test_the_address_comes_back_when_newcomer_and_execution_die(lab, settings):
    web = lab(address=True, target_groups=1)
    web.drains()
    assert web.old.address_at() == web.old.newcomer()
    web.stop()
    web.aws.control.kill(web.old.newcomer())
    settings(reconcile_after_seconds=0)
    web.drained().reconcile()
    web.assert_untouched()


def test_a_stopped_old_one_is_started_again_when_its_newcomer_dies_with_the_execution(lab, settings):
    web = lab(address=True, target_groups=1)
    web.aws.control.timing(stop=600)
    web.start(capture_image=True)
    wait_for(lambda: web.old.state() == "stopping")
    web.stop()
    web.aws.control.timing(stop=0.2)
    wait_for(lambda: web.old.state() == "stopped")
    web.aws.control.kill(web.old.newcomer())
    settings(reconcile_after_seconds=0)
    web.reconcile()
    web.assert_untouched()
