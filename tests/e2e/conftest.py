"""The fixtures: one local AWS for each worker of pytest-xdist, or for the whole session without xdist. It is separate from
the one that `make local` runs.

LOCAL_AWS_REUSE=1 leaves local AWS running, and uses a running one as it is (no build, no deploy): for writing tests.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from lab_scene import Lab
from local_aws import servers
from local_aws.inbox import listening
from local_aws.kubernetes import assets
from local_aws.paths import GRANTED, LOCAL, Home
from local_aws.shapes import Shape
from local_aws.stack import LocalAws
from node_scene import NodeScene
from scene import Scene

if TYPE_CHECKING:
    from local_aws.kubernetes.cluster import Kubernetes

# Whole seconds are the smallest that Settings take; SFN_WAIT_SCALE shortens the pauses to a twentieth.
QUICK: Shape = {"poll_seconds": 1, "launch_visible_after_seconds": 1}


# Its few tests are the longest: begun last, they would leave the other workers idle.
LONGEST = "test_load.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files in an order that keeps all workers busy to the end: the longest one first, then those of most tests."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name != LONGEST, -tests[item.path]))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints what the tests have measured (`record_property("measured", …)`), for docs/reliability.md."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "measured":
                terminalreporter.write_line(f"measured: {value}")


@pytest.fixture(scope="session")
def session_aws() -> Iterator[LocalAws]:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    aws = LocalAws(Home(LOCAL / (f"e2e-{worker}" if worker else "e2e")))
    keep = bool(os.environ.get("LOCAL_AWS_REUSE"))
    if not (keep and servers.running(aws.home.read_state())):
        aws.stop()  # What an earlier session that was killed left running.
        aws.up()
    yield aws
    GRANTED.mkdir(exist_ok=True)
    (GRANTED / f"{worker or 'all'}.json").write_text(json.dumps(aws.control.granted(), indent=1))
    if not keep:
        aws.stop()


@pytest.fixture
def aws(session_aws: LocalAws) -> LocalAws:
    """Returns local AWS without faults, overrides, poisoned pools or a row of its account."""
    session_aws.control.reset()
    session_aws.clear_pools()
    session_aws.clear_registry()
    session_aws.settings(**QUICK)
    return session_aws


@pytest.fixture
def scene(aws: LocalAws) -> Iterator[Callable[..., Scene]]:
    """`scene(size=2, …)` makes a group as `aws.create_group` does; it is deleted after the test."""
    scenes = []

    def make(**options):
        scenes.append(Scene(aws, **options))
        return scenes[-1]

    yield make
    aws.control.clear_faults()
    for made in scenes:
        made.delete()


@pytest.fixture(scope="module")
def lab_environment(session_aws: LocalAws) -> Iterator[None]:
    """Makes the stack's account a LAB one."""
    with session_aws.function_environment("LabOptimizerFunctionName", ENVIRONMENT_TYPE="LAB"):
        yield


@pytest.fixture
def lab_account(lab_environment: None, aws: LocalAws) -> LocalAws:
    return aws


@pytest.fixture
def lab(lab_account: LocalAws) -> Iterator[Callable[..., Lab]]:
    """`lab(address=True, target_groups=2)` makes an instance as `create_instance` does."""
    labs = []

    def make(**options):
        labs.append(Lab(lab_account, **options))
        return labs[-1]

    yield make
    lab_account.control.clear_faults()
    for made in labs:
        made.delete()


@pytest.fixture
def kubernetes(aws: LocalAws) -> Iterator[Kubernetes]:
    """Returns the cluster `local`, without the rest of earlier tests; the first test that asks for it starts it."""
    try:
        missing = assets.find() is None and "its binaries are not built"
    except assets.AssetsMissing as error:
        missing = str(error)
    if missing:
        pytest.skip(f"Kubernetes: {missing}: `make k8s-assets`")
    yield aws.kubernetes
    aws.kubernetes.clean()


@pytest.fixture
def settings(aws: LocalAws) -> Callable[..., None]:
    """`settings(health_timeout_seconds=1)` sets settings on top of the quick ones."""
    return lambda **overrides: aws.settings(**{**QUICK, **overrides})


@pytest.fixture
def nodes(aws: LocalAws, kubernetes: Kubernetes) -> Iterator[Callable[..., NodeScene]]:
    """`nodes(size=2, …)` makes a group of Kubernetes nodes; it is deleted after the test."""
    scenes = []

    def make(**options):
        scenes.append(NodeScene(aws, kubernetes, **options))
        return scenes[-1]

    yield make
    aws.control.clear_faults()
    for made in scenes:
        made.delete()


@pytest.fixture
def inbox(aws: LocalAws) -> Iterator[Callable[[], list[Shape]]]:
    """`inbox()` returns the bodies that reached the default bus from us and the alerts topic so far."""
    with listening(aws, bus=True) as read:
        yield read
