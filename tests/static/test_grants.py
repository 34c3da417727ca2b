"""Every right of a function is used by an end-to-end test: `make test` runs this once more behind them.

IAM is enforced there, so that the other half, every call is granted, needs no test of its own.
"""

import json

import pytest

from local_aws.paths import ALL_GRANTED, GRANTED
from principals import roles_of
from test_permissions import KINDS, NOT_CALLED, stack


@pytest.mark.skipif(not ALL_GRANTED.exists(), reason="not all end-to-end tests have run")
def test_every_right_of_a_function_is_used():
    called = {action for file in GRANTED.glob("*.json") for _, _, action in json.loads(file.read_text())}
    roles = [role for kind in KINDS for name, role in roles_of(stack(kind)).items() if name.endswith("FunctionRole")]
    granted = set().union(*(role.allowed_actions() for role in roles))
    assert granted - called - set(NOT_CALLED) == set()
