"""Writes a bill of materials for each Lambda: its crates with version, checksum and licence, as CycloneDX in JSON.

cargo-cyclonedx writes it from `cargo metadata`, which names more than is built: features that only tests or other members
switch on, optional crates behind a weak feature. `cargo tree` resolves features as the build does, so it has the last word.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .build import cargo_lock, load, rust_functions
from .cargo_tool import provide
from .paths import ROOT, TEMPLATE
from .progress import say, step
from .shapes import Shape

SBOMS = ROOT / "target" / "sbom"
# Lambda's names of architectures, and cargo-lambda's targets for them.
TARGETS = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
CYCLONEDX = "1.5"


class SbomIncomplete(Exception):
    """Names what a bill of materials lacks: better none than one that leaves out a crate."""


def write(architecture: str | None = None, directory: Path = SBOMS) -> list[Path]:
    """Writes a file for each Lambda and returns their paths. Raises ToolMissing or SbomIncomplete.

    The architecture is the template's default unless given. The same commit gives the same files.
    """
    template = load(TEMPLATE)
    target = TARGETS[architecture or template["Parameters"]["Architecture"]["Default"]]
    tool = provide("cargo-cyclonedx")
    with step("bills of materials") as progress, cargo_lock():
        bills = _bills(sorted(rust_functions(template).values()), _drafts(tool, target), target)
        progress.detail = f"{len(bills)} Lambdas for {target}"
    directory.mkdir(parents=True, exist_ok=True)
    for earlier in directory.glob("*.cdx.json"):
        earlier.unlink()
    written = {directory / f"{name}.cdx.json": bom for name, bom in bills.items()}
    for path, bom in written.items():
        path.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
        say(f"  {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    return list(written)


def _bills(lambdas: Iterable[str], drafts: dict[str, Shape], target: str):
    """A Lambda, its binary and its crate have one name."""
    if strangers := set(lambdas) - set(drafts):
        raise SbomIncomplete(f"no crate has a binary for the Lambda {', '.join(sorted(strangers))}")
    return {name: trim(drafts[name], built(name, target, "normal"), built(name, target, "normal,no-proc-macro")) for name in lambdas}


def trim(bom: Shape, built: set[tuple[str, str]], linked: set[tuple[str, str]]) -> Shape:
    """Returns the draft without what is not built. What runs at build time only (macros and their crates) is marked as excluded.

    `built` and `linked` hold (name, version). Raises SbomIncomplete where a crate is missing, or its checksum or licence.
    """
    top = bom["metadata"]["component"]
    components = [c for c in bom["components"] if identity(c) in built]
    for component in components:
        component["scope"] = "required" if identity(component) in linked else "excluded"
    _check(top, components, built)
    kept = {top["bom-ref"], *(c["bom-ref"] for c in components)}
    edges = {d["ref"]: sorted(kept & set(d.get("dependsOn", []))) for d in bom["dependencies"] if d["ref"] in kept}
    dependencies = [{"ref": ref, "dependsOn": edges[ref]} for ref in sorted(edges)]
    return {**bom, "components": sorted(components, key=identity), "dependencies": dependencies}


def identity(component: Shape) -> tuple[str, str]:
    return component["name"], component["version"]


def _check(top: Shape, components: list[Shape], built: set[tuple[str, str]]):
    if missing := built - {identity(c) for c in [top, *components]}:
        raise SbomIncomplete(f"{top['name']}: built, but not listed: {sorted(missing)}")
    for component in components:
        foreign = component["bom-ref"].startswith("registry+")
        if not component.get("licenses") or (foreign and not component.get("hashes")):
            raise SbomIncomplete(f"{top['name']}: {' '.join(identity(component))} has no licence or no checksum")


def built(package: str, target: str, edges: str) -> set[tuple[str, str]]:
    """Asks cargo for the crates {(name, version)} that a build of the package compiles for the target, the package included."""
    selected = ["--locked", "--package", package, "--target", target, "--edges", edges]
    command = ["cargo", "tree", *selected, "--prefix", "none", "--format", "{p}"]
    lines = _told(command, cwd=ROOT).splitlines()
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line.strip()}


def _drafts(tool: Path, target: str):
    """Returns {binary: bill} of the whole workspace.

    The tool writes beside each Cargo.toml, so it works on a copy; the copy's place is taken out of what it writes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve() / "workspace"
        _copy_workspace(copy)
        form = ["--format", "json", "--spec-version", CYCLONEDX, "--describe", "binaries", "--quiet"]
        _told([str(tool), "cyclonedx", *form, "--target", target, "--no-build-deps"], cwd=copy, env=_environment())
        texts = {p.name.removesuffix("_bin.cdx.json"): p.read_text() for p in copy.rglob("*_bin.cdx.json")}
        return {name: json.loads(text.replace(f"path+file://{copy}", "path+file://")) for name, text in texts.items()}


def _told(command: list[str], **options):
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    if run.returncode:
        raise SbomIncomplete(f"failed: {' '.join(command)}")
    return run.stdout


def _copy_workspace(copy: Path):
    copy.mkdir()
    for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(ROOT / name, copy / name)
    for manifest in ROOT.glob("*/*/Cargo.toml"):
        member = manifest.parent.relative_to(ROOT)
        shutil.copytree(ROOT / member, copy / member, ignore=shutil.ignore_patterns("target"))


def _environment():
    """Names the commit's time, if there is a commit: with it the tool writes neither the hour nor a random serial number."""
    commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {**({"SOURCE_DATE_EPOCH": commit} if commit else {}), **os.environ}
