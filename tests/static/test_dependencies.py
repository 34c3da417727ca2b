"""The dependencies: the layers of ARCHITECTURE.md, held against the manifests and Cargo.lock. No build and no cargo."""

import pytest
import tomllib

from local_aws.paths import ROOT

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
