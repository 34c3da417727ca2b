"""The log: every line of a function stands in a span that says what it is about, a swap's lines in one with execution and
swap (`shared/swap/tests/spans.rs` shows what those hold)."""

import re

import pytest

from local_aws.paths import ROOT

FUNCTIONS = sorted(path.parent for path in ROOT.glob("functions/*/Cargo.toml"))
SOURCES = sorted(path for part in ("functions", "shared") for path in ROOT.glob(f"{part}/*/src/**/*.rs"))
# A task that is spawned stands in no span of its spawner. The futures of a stream are polled in their spawner's.
SPAWN = re.compile(r"\bspawn(?:_local|_blocking)?\((?!\))")


def production(path):
    return path.read_text().split("#[cfg(test)]")[0]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda path: path.name)
def test_each_function_enters_a_span_before_it_works(function):
    main, lib = (production(function / "src" / name) for name in ("main.rs", "lib.rs"))
    if "phases.run_and_tell(" in main:  # spot-swap's runner, which enters the span of a step
        assert "Phases" in lib
    else:
        assert re.search(r"\.instrument\((?:tracing::error_span!|span|spans::)", lib)


def test_every_span_stands_at_every_level_of_the_log():
    lower = re.compile(r"(?<!error_)(?<!\w)(?:\w+_)?span!\(|#\[(?:tracing::)?instrument")
    for path in SOURCES:
        found = [m[0] for m in lower.finditer(production(path)) if not m[0].startswith("error_span!")]
        assert found == [], f"{path}: RUST_LOG=warn would drop its span"


def test_a_spawned_task_brings_its_span():
    for path in SOURCES:
        text = production(path)
        for match in SPAWN.finditer(text):
            assert ".instrument(" in text[match.start() :].split(";")[0], f"{path}: {text[match.start() :][:80]}"
