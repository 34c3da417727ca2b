"""The dependencies: the layers of ARCHITECTURE.md, held against the manifests and Cargo.lock. No build and no cargo."""

import pytest
import tomllib

from local_aws.paths import ROOT
from modules import Crate, circles

# The functions that talk to a Kubernetes cluster. In all others a client for one is dead weight in a cold start.
OF_CLUSTERS = {"kubernetes-optimizer", "reconciler"}
# What only a crate that talks to a cluster needs.
CLUSTER_CLIENTS = {"kube", "kube-client", "kube-core", "k8s-openapi", "spot-cluster", "aws-sdk-eks", "aws-sdk-secretsmanager"}


def read(path):
    return tomllib.loads((ROOT / path).read_text())


WORKSPACE = read("Cargo.toml")["workspace"]
MANIFESTS = {manifest["package"]["name"]: manifest for manifest in (read(f"{m}/Cargo.toml") for m in WORKSPACE["members"])}
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/Cargo.toml"))
SHARED = sorted(read(path.relative_to(ROOT))["package"]["name"] for path in ROOT.glob("shared/*/Cargo.toml"))


def packages():
    """Returns the packages of Cargo.lock by name: all versions of each, with the names of its dependencies."""
    found = {}
    for package in read("Cargo.lock")["package"]:
        names = {dependency.split(" ")[0] for dependency in package.get("dependencies", [])}
        found[package["name"]] = found.get(package["name"], set()) | names
    return found


def declared(manifest):
    """Returns the dependencies that a crate of ours is built with; a lock file does not separate them from those of its
    tests.
    """
    tables = [manifest, *manifest.get("target", {}).values()]
    return {name for table in tables for kind in ("dependencies", "build-dependencies") for name in table.get(kind, {})}


def linked(crate, packages):
    """Returns every package that may be linked into the crate, with any features."""
    seen, todo = set(), [crate]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += declared(MANIFESTS[name]) if name in MANIFESTS else packages[name]
    return seen - {crate}


def test_a_dependency_has_one_name_everywhere():
    """A renamed dependency would otherwise pass the tests of this file unseen."""
    assert [name for name, wanted in WORKSPACE["dependencies"].items() if isinstance(wanted, dict) and "package" in wanted] == []
    for manifest in MANIFESTS.values():
        assert declared(manifest) <= set(WORKSPACE["dependencies"]), manifest["package"]["name"]


@pytest.mark.parametrize("crate", sorted(MANIFESTS))
def test_every_dependency_is_the_workspaces_tests_included(crate):
    """One place says which version and which folder; `cargo deny` denies a second declaration of a crate."""
    manifest = MANIFESTS[crate]
    tables = [manifest, *manifest.get("target", {}).values()]
    wanted = {
        name: wanted
        for table in tables
        for kind in ("dependencies", "dev-dependencies", "build-dependencies")
        for name, wanted in table.get(kind, {}).items()
    }
    own = [name for name, how in wanted.items() if not (isinstance(how, dict) and how.get("workspace"))]
    assert own == [], f"name it in [workspace.dependencies] of Cargo.toml, and here: {own[:1]} .workspace = true"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_links_a_client_for_clusters_only_if_it_talks_to_one(function):
    found = linked(function, packages()) & CLUSTER_CLIENTS
    assert found == (CLUSTER_CLIENTS if function in OF_CLUSTERS else set())


@pytest.mark.parametrize("crate", [*FUNCTIONS, *SHARED])
def test_no_crate_links_a_function(crate):
    assert linked(crate, packages()).isdisjoint(FUNCTIONS)


@pytest.mark.parametrize(
    "crate, foreign",
    [
        ("spot-domain", ("tokio", "aws-", "kube", "k8s-openapi", "lambda_runtime")),
        ("spot-listing", ("tokio", "aws-", "kube", "k8s-openapi", "lambda_runtime", "spot-")),
        ("spot-cloud", ("kube", "k8s-openapi", "spot-cluster", "spot-swap", "spot-nodes")),
        ("spot-cluster", ("spot-cloud", "spot-swap", "spot-nodes", "aws-sdk-ec2", "aws-sdk-autoscaling")),
        ("spot-swap", ("kube", "k8s-openapi", "spot-cluster", "spot-nodes")),
    ],
)
def test_a_layer_does_not_know_what_lies_above_it(crate, foreign):
    assert [name for name in linked(crate, packages()) if name.startswith(foreign)] == []


def test_deny_toml_names_the_crates_of_ours_that_may_use_a_crate_as_they_are():
    """As `make deny` does, on a machine without cargo-deny."""
    ours = {name: declared(manifest) | set(manifest.get("dev-dependencies", {})) for name, manifest in MANIFESTS.items()}
    for entry in read("deny.toml")["bans"]["deny"]:
        if wrappers := entry.get("wrappers"):
            users = {name for name, uses in ours.items() if entry["crate"] in uses}
            assert users == set(wrappers) & set(ours), entry["crate"]


def uses(source):
    """Returns the modules of a crate, each with the others that it uses."""
    read_from = Crate(source)
    return {module: read_from.uses(module) for module in read_from.modules}


def of_one_subject(one, other):
    """A file and the files of its folder are one subject: a type, and what is done with it (`tables/swaps.rs` and
    `tables/swaps/newcomers.rs`). The root of a crate is no such file: what all modules need has a module of its own.
    """
    shorter = min(one, other, key=len)
    return shorter != () and one[: len(shorter)] == other[: len(shorter)]


def broken_rules(uses):
    """Returns the circles between modules: among the files of a folder, and beyond any one subject."""
    across = {module: {other for other in used if not of_one_subject(module, other)} for module, used in uses.items()}
    wide = [circle for circle in circles(uses) if not all(of_one_subject(circle[0], module) for module in circle)]
    return circles(across) + [circle for circle in wide if circle not in circles(across)]


@pytest.mark.parametrize("crate", [*SHARED, *FUNCTIONS])
def test_no_modules_of_a_crate_use_each_other_in_a_circle(crate):
    """Whoever reads one of them would have to read them all."""
    [folder] = [member for member in WORKSPACE["members"] if read(f"{member}/Cargo.toml")["package"]["name"] == crate]
    assert broken_rules(uses(ROOT / folder / "src")) == []


def test_a_circle_is_found_in_every_spelling_of_a_path_and_code_for_tests_makes_none(tmp_path):
    sources = {
        "lib.rs": "pub mod a;\npub mod b;\nmod c;\npub mod d;\npub use a::{Thing, other as same};\n",
        "a.rs": "use crate::{\n    c::Deep,\n    d,\n};\nmod part;\npub struct Thing;\n",
        "a/part.rs": "use super::Thing;\nimpl Thing {}\n",  # A file and its folder.
        "b.rs": "//! See crate::c::Deep.\nfn f() -> super::Thing { crate::a::g() }\n#[cfg(test)]\nmod tests {\n    use crate::d::D;\n}\n",
        "c.rs": "pub use crate::b::B as Deep;\n",
        "d.rs": "#[cfg(test)]\nmod tests;\n",
        "d/tests.rs": "use crate::a::Thing;\n",
        "main.rs": "use crate::a;\n",
    }
    for name, text in sources.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    found = uses(tmp_path)
    assert found[("a",)] == {("b",), ("d",)}, "through c's `pub use`"
    assert (found[("b",)], found[("d",)]) == ({("a",)}, set())
    assert broken_rules(found) == [[("a",), ("b",)]]
