"""Prints one line a step, with the seconds that it took; colour only on a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

TTY = sys.stdout.isatty() and "NO_COLOR" not in os.environ
BOLD, DIM, RED, GREEN, YELLOW, BLUE = "1", "2", "31", "32", "33", "36"


def paint(text: object, *codes: str) -> str:
    return f"\033[{';'.join(codes)}m{text}\033[0m" if TTY else str(text)


def say(text: object = "") -> None:
    print(text, flush=True)


class Step:
    """One step. `update` overwrites the line on a terminal; elsewhere it writes a line now and then, so that logs stay
    short."""

    QUIET_SECONDS = 15

    def __init__(self, title: str) -> None:
        self.title, self.started, self.spoke, self.detail = title, time.monotonic(), time.monotonic(), ""

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def update(self, text: str) -> None:
        if TTY:
            width = shutil.get_terminal_size().columns - 2
            line = f"  … {self.title} {self.seconds():.0f} s  {text}"[:width]
            print(f"\r\033[2K{line}", end="", flush=True)
        elif time.monotonic() - self.spoke > self.QUIET_SECONDS:
            self.spoke = time.monotonic()
            say(f"  … {self.title} {self.seconds():.0f} s  {text}")


@contextlib.contextmanager
def step(title: str) -> Iterator[Step]:
    current = Step(title)
    current.update("")
    try:
        yield current
    except BaseException:
        say(f"{_clear()}  {paint('✗', RED)} {title} {paint(f'({current.seconds():.1f} s)', DIM)}")
        raise
    detail = f"  {current.detail}" if current.detail else ""
    say(f"{_clear()}  {paint('✓', GREEN)} {title}{detail} {paint(f'({current.seconds():.1f} s)', DIM)}")


def _clear():
    return "\r\033[2K" if TTY else ""


def table(rows: Iterable[Sequence[object]], header: Sequence[object]) -> None:
    """Returns left-aligned columns as wide as their widest cell."""
    cells = [[str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        say("  " + (paint(line, BOLD) if number == 0 else line))
