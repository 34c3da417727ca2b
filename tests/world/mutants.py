"""The check can fail: takes one safety check out of the code after another, and asks if the campaigns notice: `make mutants`.

`mutants.toml` lists the mutants. All of them are compiled into one copy of the tree, each as the other branch of an `if` that the
environment variable `MUTANT` decides. One build serves all, and the same binary without `MUTANT` must pass the same tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_suffix(".toml")
# A test that a mutant keeps from ending has noticed it, too.
PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Notice:
    """The test that has to notice a mutant, and the part of its histories that is enough."""

    package: str
    # The crate's test target, or `lib` for its unit tests.
    test: str
    filter: str
    # Parts of `PHASE SERVICE:ACTION`, and of a fault's name, with commas between; empty for all.
    calls: str = ""
    faults: str = ""
    # The number of histories of a property test, where its own is too small.
    histories: int = 0

    @property
    def target(self) -> tuple[str, str]:
        return self.package, self.test

    def environment(self) -> dict[str, str]:
        chosen = {"CAMPAIGN_CALLS": self.calls, "CAMPAIGN_FAULTS": self.faults, "HISTORIES": str(self.histories or "")}
        return {"CAMPAIGN_STOP": "1", "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1", **{k: v for k, v in chosen.items() if v}}


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    # An expression, or whole statements, that occur once in the file.
    find: str
    replace: str
    # The promise without this check, in words.
    breaks: str
    noticed_by: Notice
    # What stands right before them, if they occur more than once.
    after: str = ""
    # The reason why no campaign notices the mutant yet.
    unnoticed: str = ""

    def branch(self) -> str:
        """Returns the code that does either, as the environment says."""
        is_on = f'::std::env::var("MUTANT").is_ok_and(|name| name == "{self.name}")'
        either = f"if {is_on} {{ {self.replace} }} else {{ {self.find} }}"
        return either if self.find.endswith((";", "}")) else f"({either})"


@dataclass(frozen=True)
class Result:
    mutant: str
    verdict: str
    seconds: float
    detail: str

    @property
    def is_failure(self) -> bool:
        return self.verdict in ("SURVIVED", "NO LONGER APPLIES", "NO BASELINE")


def read(path: Path = LIST) -> list[Mutant]:
    found = []
    for row in tomllib.loads(path.read_text())["mutant"]:
        texts = {key: row[key].strip() for key in ("find", "replace", "breaks")}
        found.append(Mutant(**{**row, **texts, "noticed_by": Notice(**row["noticed_by"])}))
    names = [mutant.name for mutant in found]
    if len(set(names)) < len(names):
        raise SystemExit(f"{path}: two mutants have one name")
    return found


def mutated(text: str, mutants: Iterable[Mutant]) -> tuple[str, list[Result]]:
    """Returns the file with a branch for each mutant, and those that do not fit any more."""
    spans, lost = [], []
    for mutant in mutants:
        count = text.count(mutant.after + mutant.find)
        at = text.find(mutant.after + mutant.find) + len(mutant.after)
        clash = next((other for begin, end, other in spans if at < end and begin < at + len(mutant.find)), None)
        if count != 1:
            lost.append(Result(mutant.name, "NO LONGER APPLIES", 0, f"its text occurs {count} times in {mutant.file}"))
        elif clash:
            lost.append(Result(mutant.name, "NO LONGER APPLIES", 0, f"its text overlaps with that of {clash.name}"))
        else:
            spans.append((at, at + len(mutant.find), mutant))
    for begin, end, mutant in sorted(spans, key=lambda span: span[0], reverse=True):
        text = text[:begin] + mutant.branch() + text[end:]
    return text, lost


def prepare(tree: Path, mutants: list[Mutant]) -> list[Result]:
    """Copies what Git knows and what is not committed yet, with the mutants in it. An unchanged file keeps its time: cargo builds
    again only what differs.
    """
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    lost = []
    for name in names:
        source, copy = ROOT / name, tree / name
        content = source.read_bytes()
        if of_file := [mutant for mutant in mutants if mutant.file == name]:
            text, unfit = mutated(content.decode(), of_file)
            content, lost = text.encode(), lost + unfit
        if not copy.exists() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    absent = [mutant for mutant in mutants if mutant.file not in names]
    gone = [copy for copy in tree.glob("*/**/*.rs") if "target" not in copy.parts and not (ROOT / copy.relative_to(tree)).exists()]
    for copy in gone:
        copy.unlink()
    return lost + [Result(mutant.name, "NO LONGER APPLIES", 0, f"there is no file {mutant.file}") for mutant in absent]


def build(tree: Path, targets: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Path]:
    """Builds the tests, one crate after another: the features of a crate must be those of its own build."""
    binaries, config = {}, own_profile(tree)
    for package in sorted({package for package, _ in targets}):
        tests = sorted(test for of, test in targets if of == package)
        chosen = [word for test in tests for word in (["--lib"] if test == "lib" else ["--test", test])]
        command = ["cargo", "test", "--no-run", "--locked", *config, "-p", package, *chosen, "--message-format=json-render-diagnostics"]
        say(f"  building the tests of {package}")
        built = subprocess.run(command, cwd=tree, env=cargo_environment(), capture_output=True, text=True, check=False)
        if built.returncode:
            sys.stderr.write(built.stderr)
            raise SystemExit(f"the mutants of {package} do not compile: {shlex.join(command)}")
        for line in built.stdout.splitlines():
            artifact = json.loads(line)
            if artifact.get("executable") and artifact["profile"]["test"]:
                test = "lib" if "lib" in artifact["target"]["kind"] else artifact["target"]["name"]
                binaries[package, test] = Path(artifact["executable"])
    return binaries


def own_profile(tree: Path) -> list[str]:
    """Returns a profile for our crates that differs by nothing of weight: cargo keeps both builds of ours in one target
    directory, and builds the crates of others once.
    """
    names = sorted(tomllib.loads(path.read_text())["package"]["name"] for path in manifests(tree))
    return [word for name in names for word in ("--config", f"profile.dev.package.{name}.codegen-units=255")]


def cargo_environment() -> dict[str, str]:
    return {"CARGO_TARGET_DIR": str(ROOT / "target"), "CARGO_INCREMENTAL": "1", **os.environ}


def run(binary: Path, notice: Notice, tree: Path, mutant: str | None) -> tuple[int | None, str, float]:
    """Runs the test; returns its exit code (`None` if it did not end), what it said, and the seconds."""
    environment = {"PROPTEST_RNG_SEED": "1", "RUST_BACKTRACE": "0", **os.environ, **notice.environment()}
    environment.pop("MUTANT", None)
    if mutant:
        environment["MUTANT"] = mutant
    began = time.monotonic()
    process = subprocess.Popen(
        [str(binary), *notice.filter.split()],
        cwd=package_directory(tree, notice.package),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, said, time.monotonic() - began
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, "", time.monotonic() - began


def package_directory(tree: Path, package: str) -> Path:
    return next(path.parent for path in manifests(tree) if tomllib.loads(path.read_text())["package"]["name"] == package)


def manifests(tree: Path) -> list[Path]:
    return [path for folder in ("functions", "shared", "tests") for path in tree.glob(f"{folder}/*/Cargo.toml")]


def ran_nothing(said: str) -> bool:
    return not re.search(r"test result: .*\b(?!0 passed; 0 failed)\d+ passed; \d+ failed", said)


def why(said: str) -> str:
    """Returns the promise that broke in the first history, or the tests that failed."""
    failed = sorted({name.rsplit("::", 1)[-1] for name in re.findall(r"^test (\S+) \.\.\. FAILED$", said, re.MULTILINE)})
    panics = re.findall(r"panicked at [^\n]*\n(?:\d+ of \d+:\n)?([^\n]*)", said)
    if len(failed) == 1 and panics:
        return panics[-1].strip()[:200]
    return ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "") or said.strip().rsplit("\n", 1)[-1]


def judge(mutant: Mutant, binary: Path, tree: Path) -> Result:
    code, said, seconds = run(binary, mutant.noticed_by, tree, mutant.name)
    if code is None:
        return Result(mutant.name, "noticed", seconds, f"the test does not end within {PATIENCE_SECONDS} s")
    if code:
        verdict = "NOTICED AFTER ALL" if mutant.unnoticed else "noticed"
        return Result(mutant.name, verdict, seconds, why(said))
    if ran_nothing(said):
        return Result(mutant.name, "NO LONGER APPLIES", seconds, f"no test is named {mutant.noticed_by.filter}")
    if mutant.unnoticed:
        return Result(mutant.name, "not noticed yet", seconds, mutant.unnoticed)
    return Result(mutant.name, "SURVIVED", seconds, mutant.breaks)


def judge_all(mutants: list[Mutant], binaries: dict[tuple[str, str], Path], tree: Path) -> Iterable[Result]:
    """Judges one mutant after another, its test without it first: a test that fails anyway notices nothing."""
    passes: dict[Notice, bool] = {}
    for mutant in mutants:
        notice = mutant.noticed_by
        binary = binaries[notice.target]
        if notice not in passes:
            code, said, seconds = run(binary, notice, tree, None)
            passes[notice] = code == 0 and not ran_nothing(said)
            say(f"  {seconds:6.1f} s  {notice.test} {notice.filter} without a mutant: {'passes' if passes[notice] else why(said)}")
        if passes[notice]:
            result = judge(mutant, binary, tree)
        else:
            result = Result(mutant.name, "NO BASELINE", 0, f"{notice.filter} fails without the mutant, too")
        say(f"  {result.seconds:6.1f} s  {result.mutant}: {result.verdict}: {result.detail}")
        yield result


def table(mutants: list[Mutant], results: list[Result]) -> str:
    """Returns the table as Markdown."""
    of = {result.mutant: result for result in results}
    lines = ["| mutant | file | without the check | noticed by | verdict | s | what broke |", "|---|---|---|---|---|---|---|"]
    for mutant in mutants:
        result, notice = of[mutant.name], mutant.noticed_by
        crate = "" if notice.package == "spot-world" else f"{notice.package}: "
        cells = [mutant.name, mutant.file, mutant.breaks, f"{crate}{notice.filter}", result.verdict, f"{result.seconds:.0f}", result.detail]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    noticed = sum(result.verdict.lower().startswith("noticed") for result in results)
    return "\n".join([*lines, "", f"{noticed} of {len(results)} mutants noticed."])


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these mutants alone")
    parser.add_argument("--tree", type=Path, default=ROOT / ".local" / "mutants", help="the copy that is built")
    parser.add_argument("--out", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    known = read()
    mutants = [mutant for mutant in known if not arguments.only or mutant.name in arguments.only]
    if unknown := set(arguments.only or []) - {mutant.name for mutant in known}:
        parser.error(f"no mutant is named {', '.join(sorted(unknown))}")
    # All are compiled in, so that `--only` builds nothing anew.
    lost = {result.mutant: result for result in prepare(arguments.tree, known)}
    apply = [mutant for mutant in mutants if mutant.name not in lost]
    binaries = build(arguments.tree, {mutant.noticed_by.target for mutant in apply})
    results = [lost[mutant.name] for mutant in mutants if mutant.name in lost]
    for result in results:
        say(f"  {result.mutant}: {result.verdict}: {result.detail}")
    results += judge_all(apply, binaries, arguments.tree)
    summary = table(mutants, results)
    say("\n" + summary)
    if arguments.out:
        arguments.out.write_text(summary + "\n")
    return int(any(result.is_failure for result in results))


if __name__ == "__main__":
    sys.exit(main())
