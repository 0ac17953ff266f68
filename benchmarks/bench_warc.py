"""WARC to kept documents, per second and core, against datatrove's chain of FineWeb's blocks (`datatrove_chain.py`) on the same records.

Ours is the data path of a run with one worker: snapshot, extract, documents, origins, quality (all signals and PII spans), domains and
select, with their files, checksums and manifests. Left out on our side as on theirs: deduplication, and the training of the domain
classifier, whose cost does not grow with the crawl. Thresholds are theirs, value for value. Time is the processor's.
The rate counts the WARC's records, which are the same on both sides; the note says how many documents each kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.data_path import LABEL_LINES, PROJECT, Sample, recipe_of, run_path, write_raw
from benchmarks.figure import Figure
from flows.graph.walk import Job
from flows.running.making import make
from pipeline.ingest.language import model_path
from pipeline.quality.thresholds import PUBLISHED
from scripts.setup import peer_python
from storage.artifact import Manifest, read_verified
from storage.store import Store

RECORDS = 900
WARM_RECORDS = 20  # seen before the clock starts: imports, models and tables are loaded once in a worker's life
PARTITIONS = 1
EXTRACTORS = ("blocks", "resiliparse", "trafilatura")
ASKED_RATIO, ASKED_CPU_RATIO = 3.0, 1.3
FIXED_STEPS = ("labels", "train", "validate")  # of a classifier: its cost is that of its labels
DEDUP_REASONS = ("url", "exact", "near", "lines")
# FineWeb's configuration of datatrove's filters: C4 without the rule on line ends, and the default of 0.01 for repeated lines.
THRESHOLDS = PUBLISHED.model_dump(exclude={"max_c4_curly_bracket_lines", "min_c4_sentences"}) | {
    "max_c4_curly_bracket_lines_any_end": 0,
    "min_c4_sentences_any_end": 5,
    "max_fineweb_duplicate_char_ratio": 0.01,
}


@dataclass
class Meter:
    """Makes the artifacts of a stage in this process and adds up the seconds that are not counted."""

    store: Store
    raw: Store
    uncounted_cpu_s: float = 0.0
    uncounted_wall_s: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)

    def __call__(self, jobs: Sequence[Job]) -> list[Manifest]:
        """The artifacts of one stage's jobs."""
        cpu, wall, before = time.process_time(), time.monotonic(), self.uncounted_cpu_s
        name = jobs[0].stage.name
        if name == "dedup":
            made = [make(self.store, self.raw, {}, job) for job in jobs]
            self._leave_out(cpu, wall)
        else:
            here = self._groups if jobs[0].stage.where == "here" else None
            made = [make(self.store, self.raw, {}, job, here) for job in jobs]
        self.spent[name] = self.spent.get(name, 0) + time.process_time() - cpu - (self.uncounted_cpu_s - before)
        return made

    def _groups(self, function: Callable[[Any], Any], groups: Sequence[Any], /) -> Iterator[Any]:
        step = function.args[1] if isinstance(function, partial) else ""
        for group in groups:
            cpu, wall = time.process_time(), time.monotonic()
            result = function(group)
            if step in FIXED_STEPS:
                self._leave_out(cpu, wall)
            yield result

    def _leave_out(self, cpu: float, wall: float) -> None:
        self.uncounted_cpu_s += time.process_time() - cpu
        self.uncounted_wall_s += time.monotonic() - wall


@dataclass(frozen=True)
class Measured:
    """One side: seconds, documents kept, and where either went."""

    cpu_s: float
    wall_s: float
    kept: int
    detail: str


def ours(raw_root: Path, extractor: str) -> Measured:
    """The path to `select` on the files of `write_raw`."""
    recipe = recipe_of(PARTITIONS, {"domain": "general", "extractor": extractor}, THRESHOLDS)
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        store = Store(folder)
        meter = Meter(store, Store(str(raw_root)))
        cpu, wall = time.process_time(), time.monotonic()
        run = run_path(recipe, raw_root, store, "select", meter)
        cpu_s, wall_s = time.process_time() - cpu - meter.uncounted_cpu_s, time.monotonic() - wall - meter.uncounted_wall_s
        funnel = json.loads(read_verified(store, run.need("select"), "funnel.json"))["sources"]["web"]
    dropped = {reason: cell["documents"] for reason, cell in funnel["dropped"].items()}
    kept = funnel["kept"]["documents"] + sum(dropped.get(reason, 0) for reason in DEDUP_REASONS)
    spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in meter.spent.items() if seconds >= 0.05)
    return Measured(cpu_s, wall_s, kept, f"{funnel['in']['documents']} documents; CPU s: {spent}")


def in_child(*command: str | Path) -> Measured:
    """One side in a process of its own, so that neither has its tables and caches filled by the other or by an earlier pass."""
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True)
    return Measured(**json.loads(done.stdout))


def figures(corpus: Path, seed: int) -> list[Figure]:
    """Ours against datatrove's chain as its users have it, which is what is asked, and against one with a faster extractor; what our own
    extractor costs more than resiliparse."""
    if not peer_python("datatrove").is_file():
        raise SystemExit("the peer's environment is missing: run `sh scripts/setup.sh peers`")
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        raw_root = Path(folder)
        records = write_raw(corpus, raw_root / "raw", Sample(seed, records=RECORDS, lines=LABEL_LINES))
        write_raw(corpus, raw_root / "warm", Sample(seed + 1, records=WARM_RECORDS, lines=LABEL_LINES))
        mine, peer = dict[str, Measured](), dict[str, Measured]()
        for extractor in EXTRACTORS:
            mine[extractor] = in_child(sys.executable, "-m", "benchmarks.bench_warc", raw_root, extractor)
            print(f"      ours, {extractor}: {records / mine[extractor].cpu_s:.1f} records/s/core", flush=True)
        for extractor in ("trafilatura", "resiliparse"):
            command = (peer_python("datatrove"), "-m", "benchmarks.datatrove_chain", raw_root, extractor, model_path())
            peer[extractor] = in_child(*command)
            print(f"      datatrove, {extractor}: {records / peer[extractor].cpu_s:.1f} records/s/core", flush=True)
    blocks, plain = mine["blocks"], mine["resiliparse"]
    return [
        _figure(records, "blocks", blocks, "datatrove, trafilatura, spaCy", peer["trafilatura"], ASKED_RATIO),
        _figure(records, "trafilatura", mine["trafilatura"], "datatrove, trafilatura, spaCy", peer["trafilatura"], None),
        _figure(records, "resiliparse", plain, "datatrove, resiliparse, spaCy", peer["resiliparse"], None),
        Figure(
            name="CPU of WARC to kept documents, blocks",
            unit="seconds",
            ours=blocks.cpu_s,
            peer=plain.cpu_s,
            peer_name="resiliparse",
            asked=ASKED_CPU_RATIO,
            bound="at most",
            note=f"{records} records; {blocks.detail}; resiliparse: {plain.detail}",
        ),
    ]


def _figure(records: int, name: str, mine: Measured, peer_name: str, peer: Measured, asked: float | None) -> Figure:
    return Figure(
        name=f"WARC to kept documents, {name}",
        unit="records/s/core",
        ours=records / mine.cpu_s,
        peer=records / peer.cpu_s,
        peer_name=peer_name,
        asked=asked,
        note=(
            f"{records} records; ours keeps {mine.kept} in {mine.cpu_s:.1f} s CPU, {mine.wall_s:.1f} s wall ({mine.detail}); "
            f"datatrove keeps {peer.kept} in {peer.cpu_s:.1f} s CPU, {peer.wall_s:.1f} s wall ({peer.detail})"
        ),
    )


if __name__ == "__main__":
    folder, extractor = Path(sys.argv[1]), sys.argv[2]
    ours(folder / "warm", extractor)
    print(json.dumps(asdict(ours(folder / "raw", extractor))))
