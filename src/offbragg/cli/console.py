"""What a command prints: tables or one JSON object on stdout, progress and logs on stderr."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from offbragg.formatting import show
from offbragg.maps.provenance import plain

_WIDTH = 160  # of tables where stdout is no terminal
_DELAY = 2.0  # seconds before a bar appears
_RATE_OVER = 300.0  # seconds that the rate is an average of: single steps may take a minute


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes
    ----------
    result : mapping
        Figures, as JSON has them.
    outputs : mapping of str to Path
        Files written.
    text : str
        For people, in place of the figures.
    tables : sequence of (title, columns, rows)
        For people.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Path] = field(default_factory=dict)
    text: str = ""
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = ()


class BarProgress:
    """A progress bar on stderr, with its rate and the time left, for what takes long.

    Nothing is shown where stderr is no terminal, or before ``delay`` seconds have passed.
    """

    def __init__(self, delay: float = _DELAY) -> None:
        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_interactive,
            speed_estimate_period=_RATE_OVER,
        )
        self._task: TaskID | None = None
        self._timer: threading.Timer | None = None
        if console.is_interactive:
            self._timer = threading.Timer(delay, self._bar.start)
            self._timer.daemon = True

    def __enter__(self) -> BarProgress:
        if self._timer is not None:
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._bar.stop()

    def start(self, what: str, total: int) -> None:
        """Begin a piece of work: its bar takes the place of the one before."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total)

    def say(self, what: str) -> None:
        """Change what the bar is called."""
        if self._task is not None:
            self._bar.update(self._task, description=what)

    def step(self, n: int = 1) -> None:
        """Move the bar on."""
        if self._task is not None:
            self._bar.advance(self._task, n)


class _RateColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("– it/s" if speed is None else f"{speed:.3g} it/s")


def emit(command: str, outcome: Outcome, *, as_json: bool) -> None:
    """Print an outcome on stdout."""
    if as_json:
        sys.stdout.write(
            json.dumps(
                {
                    "command": command,
                    "version": version("offbragg"),
                    "outputs": {name: str(path) for name, path in outcome.outputs.items()},
                    "result": plain(outcome.result),
                },
                allow_nan=False,
            )
            + "\n"
        )
        return
    # No markup: names of files may hold square brackets.
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    if outcome.text:
        console.print(outcome.text)
    for title, columns, rows in outcome.tables:
        table = Table(title=title or None, title_justify="left")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(show(cell) for cell in row))
        console.print(table)
    for name, path in outcome.outputs.items():
        console.print(f"{name}: {path}", soft_wrap=True)
