"""Lab swaps whose execution dies: they are undone or finished.

tests/world/tests/lab.rs stops the execution in each phase, and lets the twin die afterwards.
"""

import pytest


@pytest.fixture
def quick_recovery(settings):
    """Reconciles dead executions at once: safe here, because the Lambda that may still run only reads."""
    settings(reconcile_after_seconds=0)


def test_an_execution_stopped_before_the_old_one_leaves_is_undone(quick_recovery, lab):
    web = lab(address=True, target_groups=1)
    web.aws.control.newcomers(target_health={"state": "initial"})
    web.start(capture_image=True).reach("PauseForTakeOver").stop()
    web.reconcile()
    web.assert_untouched()
    assert "Undone by the reconciler" in web.old.row()["last_summary"]


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
