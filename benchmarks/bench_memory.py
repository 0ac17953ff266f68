"""Peak memory of the processes of a run's data half: does a worker stay small, and does its work not grow with the corpus?

Every run is the data path up to `tokenize` in a process of its own, with the workers of a run (`flows/running/workers.py`). A worker's peak
is the kernel's (VmHWM), set back before each group of work. How large it gets is told by workers as a run has them, on the whole corpus:
their peak includes what earlier groups left behind. Growth is told by a corpus and four times as much, each group in a worker of its own
(what was left behind would tell how many groups came before), and by the median of a step's groups (the largest of more groups is larger by
luck). Both hold as much in a partition (2 and 8 partitions) and in a raw file; there are four times as many of either. The parent is the
process that plans and waits; it has Prefect imported, and no Prefect server in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from benchmarks.data_path import PROJECT, Sample, recipe_of, run_path, write_raw
from benchmarks.figure import Figure
from benchmarks.peak import peak_mb, watched
from flows.graph.walk import Job
from flows.running import workers as workers_module
from flows.running.making import make
from flows.running.workers import GROUPS_PER_WORKER, Workers
from storage.artifact import Manifest
from storage.store import Store

TIMES = 4
PARTITIONS = 2  # of the small corpus: a peak over one group alone is a matter of luck
FILE_BYTES = 2 << 20  # before compression: small enough that the small corpus too has whole ones
WORKERS = 2
MAX_WORKER_MB = 1000.0
MAX_GROWTH = 1.15  # partitions and files are not cut to the byte
PARENT = "the parent"
CHILD = "import sys; from benchmarks.bench_memory import print_peaks; print_peaks(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"


Peaks: TypeAlias = dict[str, dict[str, list[float]]]  # MB of each group, by stage and step


@dataclass
class Watch:
    """Makes the artifacts of a stage in workers and keeps the peak of each group."""

    workers: Workers
    store: Store
    raw: Store
    peaks: Peaks = field(default_factory=dict)

    def __call__(self, jobs: Sequence[Job]) -> list[Manifest]:
        """The artifacts of one stage's jobs."""
        stage = jobs[0].stage
        if stage.where == "here":
            return [make(self.store, self.raw, {}, job, partial(self._run_step, stage.name)) for job in jobs]
        return self._run(stage.name, "all", partial(make, self.store, self.raw, {}), jobs)

    def _run_step(self, stage: str, function: Callable[[Any], Any], groups: Sequence[Any], /) -> list[Any]:
        assert isinstance(function, partial)  # of an attempt, a step's name and its work (pipeline/partitions.py)
        return self._run(stage, function.args[1], function, groups)

    def _run(self, stage: str, step: str, function: Callable[[Any], Any], groups: Sequence[Any]) -> list[Any]:
        answers = self.workers.run_groups(partial(watched, function), groups)
        if answers:
            self.peaks.setdefault(stage, {}).setdefault(step, []).extend(peak for peak, _ in answers)
        return [result for _, result in answers]


def print_peaks(raw_root: str, partitions: int, groups_per_worker: int) -> None:
    """Peaks of the groups, and of this process, as JSON."""
    workers_module.GROUPS_PER_WORKER = groups_per_worker
    import flows.running.perform  # noqa: F401 - with Prefect, as in a run

    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        store = Store(str(Path(folder) / "store"))
        with Workers(WORKERS, log=Path(folder) / "workers.log") as workers:
            watch = Watch(workers, store, Store(raw_root))
            run_path(recipe_of(partitions, {}, {}), Path(raw_root), store, "tokenize", watch)
    print(json.dumps({**watch.peaks, PARENT: {"all": [peak_mb()]}}))


def peaks_of(corpus: Path, seed: int, times: int, groups_per_worker: int) -> Peaks:
    """Peaks on a quarter of the corpus, `times` over."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        write_raw(corpus, Path(folder) / "raw", Sample(seed, step=TIMES // times), FILE_BYTES)
        command = [sys.executable, "-c", CHILD, str(Path(folder) / "raw"), str(PARTITIONS * times), str(groups_per_worker)]
        done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    found: Peaks = json.loads(done.stdout)
    how = "a worker a group" if groups_per_worker == 1 else "workers as in a run"
    print(f"      corpus x{times}, {how}, MB, groups' median and largest:")
    for stage, steps in found.items():
        print(f"        {stage}: " + ", ".join(f"{step} {median(p):.0f} {max(p):.0f} ({len(p)})" for step, p in steps.items()), flush=True)
    return found


def figures(corpus: Path, seed: int) -> list[Figure]:
    """The largest peak against a gigabyte, and each stage's growth from the corpus to four times the corpus."""
    whole = peaks_of(corpus, seed, TIMES, GROUPS_PER_WORKER)
    once, more = ({name: _typical(steps) for name, steps in peaks_of(corpus, seed, times, 1).items()} for times in (1, TIMES))
    largest = max((max(peaks), name) for name, steps in whole.items() if name != PARENT for peaks in steps.values())
    return [
        Figure("peak memory of a worker", "MB", largest[0], asked=MAX_WORKER_MB, bound="at most", note=f"in {largest[1]}"),
        *(
            Figure(f"peak memory of {name}, corpus x{TIMES} to x1", "MB", more[name], once[name], "x1", MAX_GROWTH, "at most")
            for name in more
        ),
    ]


def _typical(steps: dict[str, list[float]]) -> float:
    """The median group of the step where that is largest."""
    return max(median(peaks) for peaks in steps.values())
