"""One figure of `make bench`: ours beside a peer's on the same input in one run, and whether it is as asked.

A module `bench_*.py` has `figures(corpus: Path, seed: int) -> list[Figure]`, and `benchmarks/__main__.py` runs them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """`ours` and `peer` in `unit`. With a peer their ratio is judged, else `ours` itself; `asked` None: nothing is asked."""

    name: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    asked: float | None = None
    bound: Literal["at least", "at most"] = "at least"
    note: str = ""  # what makes the two comparable, such as how many documents each kept

    @property
    def ratio(self) -> float | None:
        """Ours to the peer's; None without a peer."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def holds(self) -> bool:
        """Whether the figure is as asked. One that is not a number is not."""
        judged = self.ours if self.ratio is None else self.ratio
        if self.asked is None:
            return True
        return judged >= self.asked if self.bound == "at least" else judged <= self.asked

    def line(self) -> str:
        """The row of the table."""
        asked = "" if self.asked is None else f"asked {self.bound} {self.asked:g}{'' if self.peer is None else 'x'}"
        peer = "" if self.peer is None else f"{self.peer_name} {self.peer:,.4g}"
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}x"
        row = f"{'ok  ' if self.holds else 'FAIL'}  {self.name:<48} {self.ours:>10,.4g} {peer:>32} {ratio:>7}  {self.unit:<22} {asked}"
        return f"{row.rstrip()}\n      {self.note}" if self.note else row.rstrip()
