"""The lock files name everything that is built and tested: every package by version and hash, one compiler."""

import re

import pytest

from local_aws.paths import ROOT

TESTS = ROOT / "tests"
# A line of uv's lock: name==version, perhaps a marker; then at least one hash.
LOCKED = re.compile(r"^([a-z0-9.-]+)==\S+( ;[^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+$", re.MULTILINE)


def locked(name):
    text = re.sub(r"\n    #.*", "", (TESTS / f"{name}.lock").read_text())
    names = [match[1] for match in LOCKED.finditer(text)]
    assert LOCKED.sub("", text).split() == [], "a line that is no package with its hashes"
    return names


@pytest.mark.parametrize("name", ["requirements", "requirements-tools", "requirements-scanner"])
def test_every_python_package_is_locked_by_its_hashes(name):
    wanted = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==", (TESTS / f"{name}.txt").read_text(), re.MULTILINE)
    assert wanted and {w.lower() for w in wanted} <= set(locked(name))


@pytest.mark.parametrize("name", ["requirements", "requirements-tools", "requirements-scanner"])
def test_a_lock_holds_what_its_requirements_ask_for(name):
    lock = (TESTS / f"{name}.lock").read_text()
    for wanted in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[a-z]+\])?==(\S+)", (TESTS / f"{name}.txt").read_text(), re.MULTILINE):
        assert f"\n{wanted[0].lower()}=={wanted[1]} " in f"\n{lock}", f"{wanted[0]}: lock {name}.txt again"


def test_the_compilers_of_the_lambdas_are_locked():
    assert {"ziglang", "cargo-lambda"} <= set(locked("requirements-tools"))
    toolchain = (ROOT / "rust-toolchain.toml").read_text()
    assert re.search(r'^channel = "\d+\.\d+\.\d+"$', toolchain, re.MULTILINE), "a channel that moves is no pin"


def test_every_crate_is_locked_by_its_checksum():
    packages = (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]
    foreign = [package for package in packages if "source = " in package]
    assert len(foreign) > 100
    for package in foreign:
        assert 'source = "registry+' in package and "checksum = " in package, package
