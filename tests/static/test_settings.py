"""The settings: each one that shared/domain/src/settings.rs declares is read by the code that it is for. A setting that only the reference
knows would promise its owner something that nothing does. What each value does, `tests/world/tests/settings` plays."""

import re

import pytest

from local_aws.paths import ROOT
from modules import COMMENT

DECLARATION = ROOT / "shared" / "domain" / "src" / "settings.rs"


def production(path):
    return COMMENT.sub("", path.read_text().split("#[cfg(test)]")[0])


DECLARED = production(DECLARATION)
SETTINGS = re.findall(r"(?m)^    (\w+): [^=\n]+ = .+, in .+;$", DECLARED)
OTHERS = [path for part in ("functions", "shared") for path in sorted(ROOT.glob(f"{part}/*/src/**/*.rs"))]
READERS = "\n".join(production(path) for path in OTHERS if path != DECLARATION and DECLARATION.with_suffix("") not in path.parents)
# The methods of `Settings`, each with its body.
METHODS = re.findall(r"(?ms)^    pub fn (\w+)\(&self[^{]*\{\n(.*?)^    \}$", DECLARED)


def is_read(setting):
    """Says if code outside of the declaration reads the setting: its field, or a method that does."""
    methods = [name for name, body in METHODS if re.search(rf"\bself\.{setting}\b", body)]
    return re.search(rf"(?:\bsettings|\?)\s*\.{setting}\b", READERS) is not None or any(f".{name}(" in READERS for name in methods)


def test_the_settings_are_found():
    rows = re.findall(r"(?m)^\| `(\w+)` \|", (ROOT / "docs" / "reference" / "settings.md").read_text())
    assert rows == SETTINGS and len(SETTINGS) > 40


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_is_read(setting):
    assert is_read(setting)


def test_a_setting_that_nothing_reads_is_noticed():
    assert not is_read("no_such_setting")
