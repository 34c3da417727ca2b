"""The AWS calls of an execution, by phase, and which of them were polling only."""

from __future__ import annotations

import bisect
from typing import Any

from .shapes import Call


def by_visit(calls: list[Call], states: list[tuple[Any, str]]) -> list[tuple[str, list[Call]]]:
    """Returns [(state, calls)] for every state entered."""
    entered = [at.timestamp() for at, _ in states]
    visits = [(name, []) for _, name in states]
    for call in calls:
        at = bisect.bisect_right(entered, call["t"]) - 1
        if at >= 0:
            visits[at][1].append(call)
    return visits


def without_polling(calls: list[Call], states: list[tuple[Any, str]]) -> list[Call]:
    """Returns the calls that decide and act. Polling is what the WaitFor phases read to see if they may proceed."""
    return [call for name, made in by_visit(calls, states) for call in made if not _is_look(name, call)]


def _is_look(name: str, call: Call):
    return name.startswith("WaitFor") and call["action"].startswith("Describe")
