"""Progress as a log shows it: where it stands, and the loss and speed of the newest step beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.running import terminal
from flows.running.perform import newest_step


def test_a_log_says_where_it_stands_and_what_stands_beside_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal, "LINE_INTERVAL_S", 0.0)
    with terminal.progress_of("pretrain", "steps") as report:
        report(3, 30, "loss 5.123")
        report(4, 30)
    assert capsys.readouterr().out == "  pretrain: 3 of 30 steps, loss 5.123\n  pretrain: 4 of 30 steps\n"


def test_the_newest_step_is_that_of_the_last_whole_line(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert newest_step(metrics) == (0, "starting")
    rows = [{"step": step, "loss": 5.0 - step / 8, "tokens_per_s": 1234.5} for step in range(3)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    assert newest_step(metrics) == (3, "loss 4.750, 1,234 tokens/s")


def test_training_that_goes_on_is_shown_from_its_checkpoint(tmp_path: Path) -> None:
    """Until its own first line; what an earlier call left, before `begin`, says nothing."""
    metrics = tmp_path / "metrics.jsonl"
    assert newest_step(metrics, 0, 14) == (14, "going on")
    metrics.write_text('{"step": 15, "loss": 4.75, "tokens_per_s": 1}\n')
    begin = metrics.stat().st_size
    assert newest_step(metrics, begin, 14) == (14, "going on")
    with metrics.open("a") as file:
        file.write('{"step": 14, "loss": 4.75, "tokens_per_s": 1}\n')
    assert newest_step(metrics, begin, 14)[0] == 15
