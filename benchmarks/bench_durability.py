"""What it costs that a power cut loses nothing: the data path in a folder with every file and name flushed, to the same without.

A stage of the path runs in one store and then in the other, the next stage the other way round, each with workers of its own. Equal
digests are asserted. A flush costs some milliseconds whatever it writes, so the test recipe, whose files are of a few hundred bytes, shows
the most that it can cost.

    python -m benchmarks durability [--corpus examples/corpus] [--seed 0]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.bench_minio import LINES, N_WORKERS, PARTITIONS, RECORDS, Place, walk_both
from benchmarks.data_path import Sample, recipe_of, write_raw
from benchmarks.figure import Figure
from flows.recipe.loading import load_recipe
from flows.recipe.recipe import Recipe
from flows.running.workers import PRELOAD, Workers
from storage.store import Store
from tests.flows.small_corpus import write_corpus


def data_path(recipe: Recipe, raw_root: Path, folder: Path) -> Figure:
    """The path to its token shards with flushes and without, stage by stage. Raises RuntimeError when a digest differs."""
    raw = Store(str(raw_root))
    with Workers(N_WORKERS, log=folder / "durable.log", preload=PRELOAD) as one, Workers(N_WORKERS, log=folder / "fast.log") as other:
        durable = Place(Store(str(folder / f"{recipe.name}-durable")), raw, one)
        fast = Place(Store(str(folder / f"{recipe.name}-fast"), durable=False), raw, other)
        note = walk_both(recipe, durable, fast)
    return Figure(
        name=f"flushed to disk, data path, recipe {recipe.name}",
        unit="seconds",
        ours=sum(durable.seconds.values()),
        peer=sum(fast.seconds.values()),
        peer_name="durable: false",
        bound="at most",
        note=note,
    )


def figures(corpus: Path, seed: int) -> list[Figure]:
    """On a sample of the corpus, and on the test recipe. Nothing is asked: it is the price of the promise, and can be turned off."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-durability-") as name:
        folder = Path(name)
        write_raw(corpus, folder / "raw", Sample(seed, records=RECORDS, lines=LINES))
        return [
            data_path(recipe_of(PARTITIONS, {}, {}), folder / "raw", folder),
            data_path(load_recipe("test"), write_corpus(folder / "small"), folder),
        ]
