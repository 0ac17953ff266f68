"""What a run looks like to people: lines on a terminal, tables, markdown for Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table

from flows.runs import Run
from flows.walk import STAGES, Visit
from storage.artifact import Manifest, read_verified
from storage.store import Store

MARKS = {"fresh": "[dim]·[/]", "ran": "[green]✓[/]", "again": "[green]=[/]", "stale": "[yellow]○[/]"}
MAX_COUNTS = 4


def stage_line(visit: Visit, store: Store) -> Iterator[str]:
    """Lines about one visit of a run that goes on; nothing for one that was there already or that nobody asked for."""
    if visit.state == "ran" and visit.manifest is not None:
        seconds = visit.manifest.info.get("wall_s")
        took = f"  [dim]{seconds:.1f} s[/]" if isinstance(seconds, int | float) else ""
        yield f"{MARKS['ran']} {visit.key}  {counts_text(visit.manifest)}{took}"
        if visit.stage == "select":
            yield from selection_lines(store, visit.manifest)


def counts_text(manifest: Manifest) -> str:
    """The counts that say most, in words."""
    plain = [(name, value) for name, value in manifest.counts.items() if ":" not in name]
    return ", ".join(f"{value:,} {name}" for name, value in plain[:MAX_COUNTS])


def selection_lines(store: Store, selection: Manifest) -> Iterator[str]:
    """The funnel of the selection, as select wrote it."""
    if "funnel.json" in selection.names():
        yield json.dumps(json.loads(read_verified(store, selection, "funnel.json")))


def status_table(visits: Sequence[Visit]) -> Table:
    """A row per stage and reason: fresh, or stale and why."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("artifacts", justify="right")
    table.add_column("state")
    table.add_column("why", overflow="fold")
    for key, count, state, reason in grouped(visits):
        table.add_row(key, str(count), f"{MARKS[state]} {state}", reason)
    return table


def grouped(visits: Iterable[Visit]) -> list[tuple[str, int, Any, str]]:
    """(key, how many, state, reason): artifacts that stand alike, a source's many files as one row."""
    rows: dict[tuple[str, str, str], int] = {}
    for visit in visits:
        stage, _, label = visit.key.partition("/")
        key = f"{stage}/{label.partition('/')[0]}" if stage == "extract" else visit.key
        rows[key, visit.state, visit.reason] = rows.get((key, visit.state, visit.reason), 0) + 1
    return [(key, count, state, reason) for (key, state, reason), count in rows.items()]


def summary_markdown(run: Run, visits: Sequence[Visit]) -> str:
    """The run in a page of markdown, for the Prefect interface."""
    lines = [f"# {run.name}", "", f"state: **{run.state}**, store: `{run.store.uri}`", ""]
    lines += ["| artifact | state | digest | counts |", "|---|---|---|---|"]
    for visit in visits:
        digest = visit.manifest.digest[:16] if visit.manifest else ""
        counts = counts_text(visit.manifest) if visit.manifest else visit.reason
        lines.append(f"| {_cell(visit.key)} | {visit.state} | {digest} | {_cell(counts)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def asked_stages(visits: Sequence[Visit]) -> list[str]:
    """Names of the stages that would run, in order."""
    names = {visit.stage for visit in visits if visit.asked and visit.state == "stale"}
    return [stage for stage in STAGES if stage in names]
