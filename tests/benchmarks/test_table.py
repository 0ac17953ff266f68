"""`make bench`: it knows every benchmark there is, and a figure's verdict is right. What the figures are is not for a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.figure import Figure


def test_every_benchmark_is_in_the_table() -> None:
    """A bench_*.py that nobody runs would be a figure that nobody sees."""
    assert {path.stem for path in bench.FOLDER.glob("bench_*.py")} == {f"bench_{name}" for name in bench.BENCHES}


@pytest.mark.parametrize(
    ("ours", "peer", "asked", "bound", "holds"),
    [
        (30, 10, 3, "at least", True),
        (29, 10, 3, "at least", False),
        (13, 10, 1.3, "at most", True),
        (14, 10, 1.3, "at most", False),
        (900, None, 1000, "at most", True),  # without a peer the figure itself is judged
        (1001, None, 1000, "at most", False),
        (1, 10, None, "at least", True),  # nothing is asked
        (float("nan"), 10, 3, "at least", False),
        (float("nan"), None, 1000, "at most", False),
    ],
)
def test_the_ratio_is_judged_where_there_is_a_peer(ours: float, peer: float | None, asked: float | None, bound: str, holds: bool) -> None:
    """At least and at most are the right way round, and what was not measured does not hold."""
    figure = Figure("name", "unit", ours, peer, "peer", asked, bound)  # type: ignore[arg-type]
    assert figure.holds is holds
    assert figure.line().startswith("ok" if holds else "FAIL")


@pytest.mark.parametrize(("ratio", "code"), [(2.0, 1), (4.0, 0)])
def test_one_figure_that_falls_short_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, ratio: float, code: int
) -> None:
    """The exit code is of all figures together, and the one that falls short is named."""
    found = [Figure("good", "x/s", 5, 1, "peer", 3), Figure("other", "x/s", ratio, 1, "peer", 3)]
    monkeypatch.setattr(bench, "run", lambda *_: found)
    with pytest.raises(SystemExit) as ended:
        bench.main(["--corpus", str(tmp_path)])
    assert ended.value.code == code
    assert ("other" in capsys.readouterr().out) is bool(code)
