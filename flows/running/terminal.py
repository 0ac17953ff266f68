"""What a person sees while a run goes on: a bar of groups on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_INTERVAL_S = 10.0

LOG_WIDTH = 140  # characters: a file does not say how wide it will be read, and Rich's 80 breaks tables

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)


OURS = ("storage", "pipeline", "training", "flows")  # loggers whose warnings a person is told


class Told(logging.Handler):
    """Prints warnings as lines of the run, each once: the same is looked at again and again. Beside the output, which may go to a file."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = set[str]()
        self._console = Console(highlight=False, soft_wrap=True, stderr=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        if (line := record.getMessage()) not in self._said:
            self._said.add(line)
            self._console.print(f"  {line}", style="yellow", markup=False)


def tell_warnings() -> None:
    """Let what Caravan's modules warn of reach the terminal. Calling again does nothing."""
    told = Told()
    for name in OURS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, Told) for handler in logger.handlers):
            logger.addHandler(told)


class Report(Protocol):
    """Takes note of how much is done; `beside` is a word or two that stand beside it."""

    def __call__(self, done: int, total: int, beside: str = "", /) -> None: ...


@contextmanager
def progress_of(title: str, unit: str) -> Iterator[Report]:
    """Yields `report(done, total, beside)`; it may be called again from 0, for the next step of a stage."""
    if not sys.stdout.isatty():
        yield _lines(title, unit)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("{task.fields[beside]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task(escape(title), total=None, beside="")  # a file's name may look like markup

        def report(done: int, total: int, beside: str = "", /) -> None:
            bar.update(row, completed=done, total=total, beside=beside)

        yield report


def _lines(title: str, unit: str) -> Report:
    """A line at most every LINE_INTERVAL_S, so that a log tells that it goes on and does not fill."""
    last = time.monotonic()

    def report(done: int, total: int, beside: str = "", /) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_INTERVAL_S:
            last = time.monotonic()
            print(f"  {title}: {done} of {total} {unit}{beside and f', {beside}'}", flush=True)

    return report
