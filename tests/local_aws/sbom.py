"""A bill of materials for each Lambda: which crates are in it, with version, checksum and licence, as CycloneDX in JSON.

cargo-cyclonedx writes it from `cargo metadata`, which names more than is built: features that only tests or other members
switch on, optional crates behind a weak feature. `cargo tree` resolves features as the build does, so it has the last word.
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .build import cargo_lock, load, rust_functions
from .cargo_tool import provide
from .paths import ROOT, TEMPLATE
from .progress import say, step

SBOMS = ROOT / "target" / "sbom"
# Lambda's names of architectures, and cargo-lambda's targets for them.
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
CYCLONEDX = "1.5"


class SbomIncomplete(Exception):
    """Names what a bill of materials lacks: better none than one that leaves out a crate."""


def write(architecture=None, directory=SBOMS):
    """Writes a file for each Lambda and returns their paths. Raises ToolMissing or SbomIncomplete.

    The architecture is the template's default unless given. The same commit gives the same files.
    """
    template = load(TEMPLATE)
    target = TARGETS[architecture or template["Parameters"]["Architecture"]["Default"]]
    tool = provide("cargo-cyclonedx")
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    with step("bills of materials") as progress, cargo_lock():
        drafts = _drafts(tool, target)
        for name in sorted(rust_functions(template).values()):
            bom = trim(drafts[name], built(name, target, "normal"), built(name, target, "normal,no-proc-macro"))
            path = directory / f"{name}.cdx.json"
            path.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
            written.append(path)
            progress.update(name)
        progress.detail = f"{len(written)} Lambdas for {target}"
    for path in written:
        say(f"  {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    return written


def trim(bom, built, linked):
    """The draft without what is not built; what only runs at build time (macros, and their own crates) is marked as excluded.

    `built` and `linked` are (name, version). Raises SbomIncomplete where a crate is missing, or its checksum or licence.
    """
    top = bom["metadata"]["component"]
    components = [c for c in bom["components"] if identity(c) in built]
    for component in components:
        component["scope"] = "required" if identity(component) in linked else "excluded"
    _check(top, components, built)
    kept = {top["bom-ref"], *(c["bom-ref"] for c in components)}
    dependencies = [
        {**d, "dependsOn": sorted(ref for ref in d.get("dependsOn", []) if ref in kept)} for d in bom["dependencies"] if d["ref"] in kept
    ]
    by_name = sorted(components, key=lambda c: (c["name"], c["version"]))
    return {**bom, "components": by_name, "dependencies": sorted(dependencies, key=lambda d: d["ref"])}


def identity(component):
    return component["name"], component["version"]


def _check(top, components, built):
    if missing := built - {identity(c) for c in [top, *components]}:
        raise SbomIncomplete(f"{top['name']}: built, but not listed: {sorted(missing)}")
    for component in components:
        foreign = component["bom-ref"].startswith("registry+")
        if not component.get("licenses") or foreign and not component.get("hashes"):
            raise SbomIncomplete(f"{top['name']}: {' '.join(identity(component))} has no licence or no checksum")


def built(package, target, edges):
    """{(name, version)} of the crates that `cargo build` of the package compiles for the target, the package included."""
    command = ["cargo", "tree", "--locked", "--package", package, "--target", target, "--edges", edges, "--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line.strip()}


def _drafts(tool, target):
    """{binary: bill} of the whole workspace. The tool writes beside each Cargo.toml: into a copy, which has no place of this machine's."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve() / "workspace"
        _copy_workspace(copy)
        options = ["--format", "json", "--spec-version", CYCLONEDX, "--describe", "binaries", "--target", target, "--no-build-deps", "--quiet"]
        subprocess.run([str(tool), "cyclonedx", *options], cwd=copy, env=_environment(), check=True)
        texts = {p.name.removesuffix("_bin.cdx.json"): p.read_text() for p in copy.rglob("*_bin.cdx.json")}
        return {name: json.loads(text.replace(f"path+file://{copy}", "path+file://")) for name, text in texts.items()}


def _copy_workspace(copy):
    for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
        copy.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for manifest in ROOT.glob("*/*/Cargo.toml"):
        member = manifest.parent.relative_to(ROOT)
        shutil.copytree(ROOT / member, copy / member, ignore=shutil.ignore_patterns("target"))


def _environment():
    """With the commit's time the tool writes neither the hour nor a random serial number."""
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    environment = {k: v for k, v in os.environ.items() if k != "CARGO_BUILD_TARGET"}
    return {"SOURCE_DATE_EPOCH": commit.stdout.strip(), **environment} if commit.stdout.strip() else environment
