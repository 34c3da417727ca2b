"""One local AWS for the whole test session, apart from the one that `make local` runs.

LOCAL_AWS_REUSE=1 uses the running one instead (no start, no deploy): seconds instead of half a minute while writing tests.
"""

import os

import pytest
from local_aws.paths import LOCAL, Home
from local_aws.stack import LocalAws


@pytest.fixture(scope="session")
def session_aws():
    if os.environ.get("LOCAL_AWS_REUSE"):
        yield LocalAws()
        return
    aws = LocalAws(Home(LOCAL / "e2e"))
    aws.stop()  # What an earlier session that was killed left running.
    aws.up()
    yield aws
    aws.stop()


@pytest.fixture
def aws(session_aws):
    """Local AWS without faults, overrides, poisoned pools or an account's row."""
    session_aws.control.reset()
    session_aws.clear_pools()
    return session_aws
