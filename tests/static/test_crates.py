"""The crates: the ones that are allowed (deny.toml), the parser of the advisory check, and the crates in each Lambda."""

import json
import os
import re
import subprocess
from datetime import datetime, timezone

import pytest

from local_aws import cargo_tool, sbom
from local_aws.build import load, rust_functions
from local_aws.deny import NOT_CHECKED, RULES, Advisories, advisories, command, conclude, fetch_index, judge
from local_aws.paths import ROOT, TEMPLATE


def tool(name):
    """Returns the tool if it is compiled already: a test compiles none. CI has both by then."""
    binary = cargo_tool.installed(name)
    if not os.access(binary, os.X_OK):
        pytest.skip(f"{name} is not compiled; `make deny` and `make sbom` do so")
    return binary


# deny.toml

RULES_TEXT = RULES.read_text()


OUR_CALLERS_OF_EC2 = '"aws-sdk-ec2", wrappers = ["risk-manager", "security-enforcer", "spot-cloud", "waste-scanner"]'


@pytest.mark.parametrize(
    ("check", "edits"),
    [
        ("licenses", {'"ISC",': "#"}),
        ("licenses", {'{ crate = "ar_archive_writer"': "#"}),
        ("licenses", {'"MIT",': '"MIT", "MPL-2.0",'}),
        ("bans", {OUR_CALLERS_OF_EC2: '"aws-sdk-ec2", wrappers = ["spot-cloud"]'}),
        ("bans", {OUR_CALLERS_OF_EC2: OUR_CALLERS_OF_EC2.replace('["', '["spot-domain", "')}),
        ("bans", {'crate = "ring"': 'crate = "aws-lc-rs"'}),
        ("bans", {'{ crate = "syn@2"': "#", 'crate = "rustls", deny': 'crate = "syn", deny'}),
        ("bans", {"jiff@0.2": "jiff@0.3"}),
        ("sources", {"rust-lang/crates.io-index": "rust-lang/another-index"}),
    ],
)
def test_each_rule_of_deny_toml_holds_something_back(check, edits, tmp_path):
    rules, text = tmp_path / "deny.toml", RULES_TEXT
    for rule, instead in edits.items():
        assert text.count(rule) == 1
        text = text.replace(rule, instead)
    rules.write_text(text)
    assert checked(check, rules=rules) == (1, f"{check} FAILED")


def test_the_crates_are_as_deny_toml_wants_them():
    assert checked("bans", "licenses", "sources") == (0, "bans ok, licenses ok, sources ok")


def checked(*checks, rules=RULES):
    """Returns 0 or 1, and the verdict. Reads only what cargo has fetched already."""
    deny, *words = command(tool("cargo-deny"), *checks, rules=rules)
    run = subprocess.run([deny, "--offline", *words], cwd=ROOT, capture_output=True, text=True)
    return int(run.returncode != 0), run.stdout.strip()


def test_every_service_of_aws_has_those_who_may_call_it():
    wanted = re.findall(r"^(aws-sdk-[a-z0-9]+|aws-config|kube|k8s-openapi) = ", (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert len(wanted) > 10
    assert set(wanted) <= set(re.findall(r'crate = "([a-z0-9-]+)", wrappers = \[', RULES_TEXT))


def test_what_is_let_through_has_a_reason():
    for table in re.findall(r"^(?:skip|ignore) = \[(.*?)\]$", RULES_TEXT, re.MULTILINE | re.DOTALL):
        for line in filter(None, map(str.strip, table.splitlines())):
            assert re.search(r'reason = "\S+ .+"', line), line


# Advisories

FINE = (0, "")
DOWN = (101, "download of config.json failed … failed to download from `https://index.example.org/config.json`")
REFUSED = (101, "download of config.json failed … failed to get successful HTTP response from …, got 403")
YANKED = (101, "failed to select a version for the requirement …: version 0.3.30 is yanked")
UNREACHABLE = "[ERROR] failed to fetch advisory database https://github.com/RustSec/advisory-db with cli: failed to clone: …"


@pytest.mark.parametrize(
    ("index", "database", "meaning"),
    [
        (FINE, (0, "advisories ok\n", ""), Advisories.CLEAR),
        (FINE, (0, "advisories ok\n", "warning[unmaintained]: …"), Advisories.CLEAR),
        (FINE, (1, "advisories FAILED\n", "error[vulnerability]: …"), Advisories.FOUND),
        (DOWN, (1, "advisories FAILED\n", "error[vulnerability]: …"), Advisories.FOUND),
        # A crate may be called what it likes: its text is no proof that the network is down.
        (FINE, (1, "advisories FAILED\n", "error[vulnerability]: failed to fetch advisory database"), Advisories.FOUND),
        (FINE, (1, "", UNREACHABLE), Advisories.NOT_FETCHED),
        (DOWN, (1, "", UNREACHABLE), Advisories.NOT_FETCHED),
        (DOWN, (0, "advisories ok\n", ""), Advisories.NOT_FETCHED),
        (REFUSED, (0, "advisories ok\n", ""), Advisories.NOT_FETCHED),
        # A pinned version that was yanked: cargo finds no other, and a look at the old index finds nothing.
        (YANKED, (0, "advisories ok\n", ""), Advisories.BROKEN),
        (FINE, (1, "", "[ERROR] failed to load advisory database: unsupported CVSS version: 4.0"), Advisories.BROKEN),
        (FINE, (1, "", "[ERROR] failed to acquire advisory database lock"), Advisories.BROKEN),
        (FINE, (101, "", "thread panicked"), Advisories.BROKEN),
        (FINE, (0, "", ""), Advisories.BROKEN),
        (FINE, (0, "", UNREACHABLE), Advisories.BROKEN),
        (FINE, (0, "advisories FAILED\n", ""), Advisories.BROKEN),
        (FINE, (1, "advisories ok\n", ""), Advisories.BROKEN),
        (FINE, (-9, "", ""), Advisories.BROKEN),
    ],
)
def test_only_a_verdict_counts_as_checked(index, database, meaning):
    assert judge(index, database) is meaning


def test_an_index_that_is_not_fetched_is_no_index_to_go_by(monkeypatch):
    """Offline, cargo updates from the index that it has, and reports no problem."""
    monkeypatch.setenv("CARGO_NET_OFFLINE", "true")
    monkeypatch.setenv("CARGO_NET_RETRY", "0")
    monkeypatch.setenv("CARGO_HTTP_PROXY", "http://127.0.0.1:1")
    assert judge(fetch_index(), (0, "advisories ok\n", "")) is Advisories.NOT_FETCHED


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("found", Advisories)
@pytest.mark.parametrize("code", [0, 4])
def test_nothing_passes_in_silence(code, found, required):
    failed, unchecked = conclude(code, found, required)
    if found is Advisories.NOT_FETCHED:
        assert unchecked == NOT_CHECKED and bool(failed) == (required or code != 0)
    else:
        assert unchecked is None and bool(failed) == (code != 0 or found is not Advisories.CLEAR)


ADVISORY = """```toml
[advisory]
id = "RUSTSEC-2026-9999"
package = "{crate}"
date = "2026-11-01"
[versions]
patched = [">= 99.0.0"]
```

# An invented hole
"""


@pytest.mark.parametrize(
    ("advisory", "meaning"),
    [
        (ADVISORY.format(crate="a-crate-that-nobody-uses"), Advisories.CLEAR),
        (ADVISORY.format(crate="serde"), Advisories.FOUND),
        (ADVISORY.format(crate="serde").replace("date = ", "date: "), Advisories.BROKEN),
        (None, Advisories.NOT_FETCHED),
    ],
)
def test_a_database_of_advisories_is_believed_once_it_is_here(advisory, meaning, tmp_path, monkeypatch):
    """Runs cargo-deny with our own database: git accepts a directory as RustSec's repository, or one that does not exist."""
    deny, origin = tool("cargo-deny"), tmp_path / "origin"
    if advisory:
        package = re.search(r'package = "(.+)"', advisory)[1]
        (origin / "crates" / package).mkdir(parents=True)
        (origin / "crates" / package / "RUSTSEC-2026-9999.md").write_text(advisory)
        for words in ("init -q -b main", "add .", "-c user.name=t -c user.email=t@localhost -c commit.gpgsign=false commit -q -m advisory"):
            subprocess.run(["git", *words.split()], cwd=origin, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{origin}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/RustSec/advisory-db")
    monkeypatch.setattr("local_aws.deny.fetch_index", lambda: FINE)
    rules = tmp_path / "deny.toml"
    # What is yanked is told by the index, which is not fetched here.
    text = RULES_TEXT.replace('yanked = "deny"', 'yanked = "allow"')
    rules.write_text(text.replace("[advisories]", f'[advisories]\ndb-path = "{tmp_path}/databases"'))
    assert advisories(deny, rules) is meaning


# The tools

CARGO = """#!/bin/sh
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin" && echo '   Compiling tool v1' >&2 && echo "$CARGO_TARGET_DIR" > "$2/bin/cargo-deny" && chmod +x "$2/bin/cargo-deny"
{end}
"""


@pytest.fixture
def fake_cargo(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOT_OPTIMIZER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path / "ours"))

    def fake(end):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "cargo").write_text(CARGO.format(end=end))
        (tmp_path / "bin" / "cargo").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    return fake


def test_a_tool_is_compiled_once_apart_from_our_crates(fake_cargo, tmp_path, monkeypatch):
    fake_cargo("true")
    binary = cargo_tool.provide("cargo-deny")
    assert binary == tmp_path / "cache" / f"cargo-deny-{cargo_tool.PINNED['cargo-deny']}" / "bin" / "cargo-deny"
    apart = binary.read_text().strip()
    assert apart.startswith(str(tmp_path / "cache")) and not os.path.exists(apart)
    monkeypatch.setenv("PATH", "")
    assert cargo_tool.provide("cargo-deny") == binary


def test_a_tool_that_does_not_compile_leaves_nothing_in_the_cache(fake_cargo, tmp_path):
    fake_cargo("echo 'error: no network' >&2; exit 101")
    with pytest.raises(cargo_tool.ToolMissing, match="no network"):
        cargo_tool.provide("cargo-deny")
    assert [p for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_without_cargo_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SPOT_OPTIMIZER_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(cargo_tool.ToolMissing, match="rustup"):
        cargo_tool.provide("cargo-deny")


# Bills of materials


def component(name, source="registry+", **more):
    return {"name": name, "version": "1.0.0", "bom-ref": f"{source}#{name}@1.0.0", "licenses": [{}], "hashes": [{}], **more}


def draft(*components):
    top = component("scanner", "path+")
    refs = [c["bom-ref"] for c in components]
    dependencies = [{"ref": ref, "dependsOn": refs} for ref in [top["bom-ref"], *refs]]
    return {"metadata": {"component": top}, "components": list(components), "dependencies": dependencies}


def named(*names):
    return {(name, "1.0.0") for name in names}


def test_what_is_not_built_is_in_no_bill_and_nothing_depends_on_it():
    bom = sbom.trim(draft(component("serde"), component("ring")), named("scanner", "serde"), named("scanner", "serde"))
    assert [(c["name"], c["scope"]) for c in bom["components"]] == [("serde", "required")]
    assert "ring" not in json.dumps(bom)


def test_what_runs_at_build_time_only_is_excluded():
    bom = sbom.trim(draft(component("serde"), component("syn")), named("scanner", "serde", "syn"), named("scanner", "serde"))
    assert {c["name"]: c["scope"] for c in bom["components"]} == {"serde": "required", "syn": "excluded"}


def test_another_version_is_another_crate():
    with pytest.raises(sbom.SbomIncomplete, match="serde"):
        sbom.trim(draft(component("serde", version="0.9.0")), named("scanner", "serde"), named("scanner", "serde"))


@pytest.mark.parametrize("lacking", ["licenses", "hashes"])
def test_a_crate_without_licence_or_checksum_makes_no_bill(lacking):
    with pytest.raises(sbom.SbomIncomplete, match=re.escape("serde 1.0.0")):
        sbom.trim(draft(component("serde", **{lacking: []})), named("scanner", "serde"), named("scanner", "serde"))


def test_a_crate_of_ours_has_no_checksum():
    ours = component("spot-domain", "path+", hashes=[])
    assert sbom.trim(draft(ours), named("scanner", "spot-domain"), named("scanner", "spot-domain"))["components"] == [ours]


@pytest.fixture(scope="module")
def bills(tmp_path_factory):
    tool("cargo-cyclonedx")
    return {path: json.loads(path.read_text()) for path in sbom.write(directory=tmp_path_factory.mktemp("sbom"))}


def test_a_bill_of_a_lambda_that_is_gone_does_not_stay(tmp_path, monkeypatch):
    (tmp_path / "gone.cdx.json").write_text("{}")
    monkeypatch.setattr(sbom, "provide", lambda name: None)
    monkeypatch.setattr(sbom, "_drafts", lambda *_: {"scanner": draft()})
    monkeypatch.setattr(sbom, "built", lambda *_: named("scanner"))
    monkeypatch.setattr(sbom, "rust_functions", lambda template: {"Scanner": "scanner"})
    assert sbom.write(directory=tmp_path) == [tmp_path / "scanner.cdx.json"] == list(tmp_path.iterdir())


def test_a_lambda_that_no_crate_is_named_after_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sbom, "provide", lambda name: None)
    monkeypatch.setattr(sbom, "_drafts", lambda *_: {})
    monkeypatch.setattr(sbom, "rust_functions", lambda template: {"Scanner": "scanner"})
    with pytest.raises(sbom.SbomIncomplete, match="scanner"):
        sbom.write(directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_lambda_has_a_bill(bills):
    assert {path.name for path in bills} == {f"{name}.cdx.json" for name in rust_functions(load(TEMPLATE)).values()}
    for path, bom in bills.items():
        assert (bom["bomFormat"], bom["metadata"]["component"]["type"]) == ("CycloneDX", "application")
        assert f"{bom['metadata']['component']['name']}.cdx.json" == path.name


def test_a_bill_names_what_is_linked_with_the_checksums_of_the_lock(bills):
    entry = r'^name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"$'
    locked = set(re.findall(entry, (ROOT / "Cargo.lock").read_text(), re.MULTILINE))
    for bom in bills.values():
        foreign = [c for c in bom["components"] if c["bom-ref"].startswith("registry+")]
        assert {(c["name"], c["version"], c["hashes"][0]["content"]) for c in foreign} <= locked
        required = {c["name"] for c in bom["components"] if c["scope"] == "required"}
        assert {"spot-domain", "lambda_runtime", "rustls", "aws-lc-sys", "aws-sdk-dynamodb"} <= required
        assert not {"serde_derive", "syn"} & required
        # Tests' own, build scripts' own, and what only a weak feature names.
        assert not {"proptest", "tower-test", "spot-scripted", "cc", "cmake", "ring"} & {c["name"] for c in bom["components"]}


def test_a_bill_hangs_together(bills):
    for bom in bills.values():
        depends = {d["ref"]: d["dependsOn"] for d in bom["dependencies"]}
        reached, waiting = set(), [bom["metadata"]["component"]["bom-ref"]]
        while waiting:
            if (ref := waiting.pop()) not in reached:
                reached.add(ref)
                waiting += depends[ref]
        assert reached == {bom["metadata"]["component"]["bom-ref"], *(c["bom-ref"] for c in bom["components"])}


def test_the_same_commit_gives_the_same_bill_on_any_machine(bills):
    """The bill has no random number, no time of the run and no path of this machine."""
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True).stdout
    if not commit:
        pytest.skip("no commit whose time could be told")
    hour = datetime.fromtimestamp(int(commit), timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    for path, bom in bills.items():
        assert "serialNumber" not in bom and bom["metadata"]["timestamp"].startswith(hour)
        assert "file:///tmp" not in path.read_text() and str(ROOT) not in path.read_text()
