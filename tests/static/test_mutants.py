"""The list of mutants: each still applies to the code as it is. `make mutants` takes minutes; this takes none."""

import pytest
import tomllib

from local_aws.paths import ROOT

MUTANTS = tomllib.loads((ROOT / "tests/world/mutants.toml").read_text())["mutant"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant["name"])
def test_a_mutant_applies_at_one_place(mutant):
    text = (ROOT / mutant["file"]).read_text()
    assert text.count(mutant.get("after", "") + mutant["find"]) == 1


def test_no_two_mutants_have_one_name():
    names = [mutant["name"] for mutant in MUTANTS]
    assert len(names) == len(set(names))
