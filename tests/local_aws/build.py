"""Builds the Lambdas as the tests build them (dev profile, shared artefacts) and renders the template for deployment.

`sam build` does the same for a real account, with cargo-lambda and the release profile; that takes minutes of LTO.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .paths import BUILD, LOCAL, RENDERED, ROOT, TEMPLATE, target_dir
from .progress import step
from .shapes import Shape

if TYPE_CHECKING:
    from .progress import Step

# With `--tests` the features are those of `cargo test`: the SDK is compiled once, not twice.
COMMAND = ["cargo", "build", "--workspace", "--bins", "--tests", "--locked", "--color", "never"]


class BuildFailed(Exception):
    pass


def build() -> Path:
    """Returns the rendered template."""
    template = load(TEMPLATE)
    functions = rust_functions(template)
    with step("build the Lambdas") as progress, _only_one("build.lock"):
        _cargo_build(progress)
        for resource, name in functions.items():
            template["Resources"][resource]["Properties"]["CodeUri"] = str(_package(name))
        progress.detail = ", ".join(functions.values())
        return _render(template)


def rust_functions(template: Shape) -> dict[str, str]:
    """Logical id → binary name of each function that cargo builds."""
    found = {}
    for resource_id, resource in template["Resources"].items():
        metadata = resource.get("Metadata", {})
        if resource["Type"] != "AWS::Serverless::Function" or metadata.get("BuildMethod") != "rust-cargolambda":
            continue
        folder = os.path.basename(resource["Properties"]["CodeUri"].rstrip("/"))
        found[resource_id] = metadata.get("BuildProperties", {}).get("Binary") or folder
    return found


def cargo_lock() -> Any:
    """Held during every cargo run of ours: two at once would build everything twice or wait without a word."""
    return _only_one("cargo.lock")


def _only_one(name: str):
    LOCAL.mkdir(exist_ok=True)
    handle = open(LOCAL / name, "w")  # noqa: SIM115  Whoever holds it closes it.
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _cargo_build(progress: Step):
    with cargo_lock():
        code, said, _ = run_cargo(COMMAND, progress)
        if code:
            raise BuildFailed("".join(line for line in said if not line.strip().startswith(("Compiling", "Fresh"))))


def run_cargo(command: list[str], progress: Step, environment: Mapping[str, str] | None = None) -> tuple[int, list[str], int]:
    """Runs cargo and shows which crate it compiles. Returns its code, the lines that it said, and the number of crates."""
    run = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    said, crates = [], 0
    for line in run.stderr:
        said.append(line)
        if line.strip().startswith("Compiling"):
            crates += 1
            progress.update(f"{line.split()[1]} ({crates} crates compiled)")
    return run.wait(), said, crates


def _package(name: str) -> Path:
    """Zips the binary, without its debug information. `sam deploy` uploads a zip file as it is. It would compress a folder
    anew for each stack, which takes longer than the rest of a deployment."""
    binary, package = target_dir() / "debug" / name, BUILD / f"{name}.zip"
    if package.exists() and package.stat().st_mtime >= binary.stat().st_mtime:
        return package
    BUILD.mkdir(parents=True, exist_ok=True)
    fresh = package.with_name(f"{package.name}.new")
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        bootstrap = Path(folder) / "bootstrap"
        shutil.copyfile(binary, bootstrap)
        if shutil.which("strip"):
            subprocess.run(["strip", "--strip-all", str(bootstrap)], check=False, stderr=subprocess.DEVNULL)
        bootstrap.chmod(0o755)
        with zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            zipped.write(bootstrap, bootstrap.name)
    fresh.replace(package)
    return package


def _render(template: Shape):
    """Writes JSON: `sam deploy` parses its template five times, which takes seconds each of YAML."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for resource_id, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::StateMachine" and isinstance(properties.get("DefinitionUri"), str):
            properties["DefinitionUri"] = str(_definition_as_json(resource_id, properties["DefinitionUri"]))
    _replace(RENDERED, json.dumps(template, indent=1))
    return RENDERED


def _definition_as_json(resource_id: str, uri: str):
    """MiniStack's Step Functions read JSON only; CloudFormation takes the YAML that people read."""
    definition = load(ROOT / uri)
    path = BUILD / f"{resource_id}.asl.json"
    _replace(path, json.dumps(definition, indent=2))
    return path


def _replace(path: Path, text: str):
    """Whoever deploys meanwhile reads the old file or the new one, whole."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def load(path: Path) -> Shape:
    return yaml.load(path.read_text(), Loader=_CloudFormationLoader)


class _CloudFormationLoader(yaml.SafeLoader):
    """Short tags (`!Ref`) become their long form; dates stay text (`AWSTemplateFormatVersion` is one)."""


def _short_tag(loader: Any, suffix: str, node: Any):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_CloudFormationLoader.add_multi_constructor("!", _short_tag)
_CloudFormationLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
