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
SOURCES = [path for part in ("functions", "shared") for path in sorted(ROOT.glob(f"{part}/*/src/**/*.rs"))]


def is_test(path):
    return path.stem == "tests" or any(folder.name == "tests" for folder in path.relative_to(ROOT).parents)


def is_reader(path):
    return path != DECLARATION and DECLARATION.with_suffix("") not in path.parents and not is_test(path)


READERS = "\n".join(production(path) for path in SOURCES if is_reader(path))
# A binding or a field whose name ends so, or what is loaded, without its error.
OF_SETTINGS = r"settings(?:::load\([^;{}]*?\)\s*\.await\?|\.map_err\([\w:]+\)\?)?"
# The methods of `Settings`, each with its body.
METHODS = re.findall(r"(?ms)^    pub fn (\w+)\(&self[^{]*\{\n(.*?)^    \}$", DECLARED)


def is_read(setting):
    """Says if code outside of the declaration reads the setting: its field, or a method that does."""
    methods = [name for name, body in METHODS if re.search(rf"\bself\.{setting}\b", body)]
    return is_taken(setting, READERS) or any(is_taken(rf"{name}\(", READERS) for name in methods)


def is_taken(member, code):
    return re.search(rf"{OF_SETTINGS}\s*\.\b{member}(?!\w)", code) is not None


def test_the_settings_are_found():
    rows = re.findall(r"(?m)^\| `(\w+)` \|", (ROOT / "docs" / "reference" / "settings.md").read_text())
    assert rows == SETTINGS and len(SETTINGS) > 40


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_setting_is_read(setting):
    assert is_read(setting)


def test_a_setting_that_nothing_reads_is_noticed():
    assert not is_read("no_such_setting")
    assert not is_taken("grace", "row.grace") and not is_taken("grace", "settings.grace_hours")
    assert not is_taken(r"grace\(", "row.grace()") and is_taken(r"grace\(", "visit.settings\n    .grace()")


def test_tests_are_no_readers():
    tests = [path for path in SOURCES if is_test(path)]
    assert tests and not any(is_reader(path) for path in tests)
