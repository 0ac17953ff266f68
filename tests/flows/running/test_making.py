"""flows/running/making.py: a stage in another process says how far it is."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from flows.running import making
from flows.running.making import ReportFile
from flows.running.workers import Workers


def work(report: ReportFile) -> str:
    """Reports more often than is written down, then waits to be seen."""
    for n in range(1000):
        report(n, 5000, "held-out math")
    time.sleep(making.REPORT_INTERVAL_S)
    report(4000, 5000, "held-out code")
    time.sleep(1.0)
    return "done"


def test_what_a_stage_in_a_child_reports_is_seen_here_while_it_runs(tmp_path: Path) -> None:
    """At most a report an interval, each whole; none before the first."""
    report, seen = ReportFile(tmp_path / "evaluate.progress"), list[tuple[int, int, str] | None]()
    with Workers(1, log=tmp_path / "log", preload=()) as workers:
        assert workers.call(partial(work, report), watch=lambda: seen.append(report.read())) == "done"
    assert [said for n, said in enumerate(seen) if said and said not in seen[:n]] == [
        (0, 5000, "held-out math"),
        (4000, 5000, "held-out code"),
    ]
    assert ReportFile(tmp_path / "another").read() is None
