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
    """Returns the calls that decide and act. Polling is a visit of a WaitFor phase that ends in a pause, and what the last visit
    reads to see if it may proceed.
    """
    visits = by_visit(calls, states)
    names = [name for name, _ in visits]
    # The Choice between a phase and its pause makes no call.
    waits = [any(then.startswith("PauseFor") for then in names[at + 1 : at + 3]) for at in range(len(names))]
    return [call for (name, made), is_waiting in zip(visits, waits) for call in made if not _is_polling(name, call, is_waiting)]


def _is_polling(name: str, call: Call, is_waiting: bool):
    return name.startswith("WaitFor") and (is_waiting or call["action"].startswith("Describe"))
