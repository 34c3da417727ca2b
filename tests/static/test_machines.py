"""The three state machines agree on retries and failures, and every task is a phase."""

import json

import pytest

from local_aws.build import load
from local_aws.paths import ROOT

MACHINES = {path.parent.name: load(path)["States"] for path in sorted(ROOT.glob("functions/*/swap.asl.yaml"))}
FIRST = {"cluster-optimizer": "Discover", "kubernetes-optimizer": "Preflight", "lab-optimizer": "Discover"}


RESPONSE = load(ROOT / "functions/interruption-responder/respond.asl.yaml")["States"]


def tasks(name):
    """The states that call the function. That of a long swap, which starts the next execution, calls Step Functions."""
    states = {state: task for state, task in MACHINES[name].items() if task["Type"] == "Task"}
    return {state: task for state, task in states.items() if not task["Resource"].endswith(":states:startExecution")}


def caught(error, to):
    return {"ErrorEquals": [error], "Assign": {"error": "{% $states.errorOutput %}"}, "Next": to}


def test_each_optimizer_has_a_machine():
    assert set(MACHINES) == set(FIRST)


def test_every_task_of_every_machine_is_repeated_for_the_same_errors():
    retries = {json.dumps(task["Retry"]) for name in MACHINES for task in tasks(name).values()}
    assert len(retries) == 1
    [retry] = json.loads(retries.pop())
    # A crash of the function is repeated like any other step: every step may run twice.
    assert {"Transient", "Lambda.TooManyRequestsException", "Runtime.ExitError", "Sandbox.Timedout"} <= set(retry["ErrorEquals"])


@pytest.mark.parametrize("name", MACHINES)
def test_a_task_that_fails_for_good_leads_back_or_tells_a_person(name):
    for state, task in tasks(name).items():
        if state == FIRST[name]:
            way = [caught("States.ALL", "Refused")]  # Nothing has been changed yet.
        elif state in ("Rollback", "Report"):
            way = [caught("States.ALL", "Stuck")]
        else:
            way = [caught("Stuck", "Stuck"), caught("States.ALL", "Rollback")]
        assert task["Catch"] == way, state


@pytest.mark.parametrize("name", MACHINES)
def test_every_task_is_a_phase_with_a_file(name):
    files = [*ROOT.glob(f"functions/{name}/src/phases/*.rs"), *ROOT.glob("shared/swap/src/phases/*.rs")]
    phases = {file.stem.replace("_", "") for file in files}
    assert {state.lower() for state in tasks(name)} <= phases
    assert all(task["Arguments"]["phase"] == state for state, task in tasks(name).items())


def test_whatever_fails_in_an_answer_gives_back_what_it_has_raised():
    found = {state: task for state, task in RESPONSE.items() if task["Type"] == "Task"}
    [retry] = {json.dumps(task["Retry"]) for task in found.values()}
    assert {"Transient", "Runtime.ExitError", "Sandbox.Timedout"} <= set(json.loads(retry)[0]["ErrorEquals"])
    # Where no replacement can be asked for, the instance leaves all the same: its group launches one.
    ways = {"Answer": "Refused", "Replace": "Leave", "Restore": "Stuck", "Report": "Stuck"}
    assert all(task["Catch"] == [caught("States.ALL", ways.get(state, "Restore"))] for state, task in found.items())
    own = {state for state, task in found.items() if task["Resource"] == "${InterruptionResponderFunctionArn}"}
    files = {file.stem.replace("_", "") for file in ROOT.glob("functions/interruption-responder/src/phases/*.rs")}
    assert {state.lower() for state in own} == files
    # The responder links no client for a cluster: the Kubernetes optimizer moves pods for it.
    assert {state: task["Resource"] for state, task in found.items() if state not in own} == {
        "EvacuateNode": "${KubernetesOptimizerFunctionArn}",
    }
    assert (ROOT / "functions/kubernetes-optimizer/src/phases/evacuate_node.rs").exists()
    assert all(task["Arguments"]["phase"] == state for state, task in found.items())
