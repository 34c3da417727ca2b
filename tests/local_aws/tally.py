"""Which phase of an execution made which AWS calls, and which of them were only looking again."""

import bisect


def by_visit(calls, states):
    """[(state, is a poll, calls)] for every state entered; a poll is a visit that ended in a pause."""
    entered = [at.timestamp() for at, _ in states]
    visits = [(name, _pauses(states, n), []) for n, (_, name) in enumerate(states)]
    for call in calls:
        at = bisect.bisect_right(entered, call["t"]) - 1
        if at >= 0:
            visits[at][2].append(call)
    return visits


def without_polling(calls, states):
    """The calls that the execution would have made had nothing needed time."""
    return [call for _, is_poll, made in by_visit(calls, states) if not is_poll for call in made]


def _pauses(states, n):
    """A task, the choice after it, then the pause."""
    return n + 2 < len(states) and states[n + 2][1].startswith("Pause")
