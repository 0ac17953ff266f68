"""The same work on an object store and in a local folder: seconds on s3:// in a MinIO of this machine, to those on file://.

The data path on a sample of the corpus, to its token shards, and a training stage with checkpoints. A stage of the path runs in one store
and then in the other, the next stage the other way round, each with workers of its own, so that what else the machine does meets both.
Each stage is a walk of the path up to it, as `caravan run --to` makes it, without Prefect, whose seconds are the same on both. Equal
digests are asserted. Raw data is in a folder on both sides. An object costs some milliseconds whatever its size, so the test recipe, which
makes hundreds of objects of a few hundred bytes, is given beside it and nothing is asked of it.

    python -m benchmarks.bench_minio [--corpus examples/corpus] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

from benchmarks.bench_training import SIZES, training_of, write_tokens
from benchmarks.data_path import EXAMPLES, PROJECT, Sample, recipe_of, run_path, write_raw
from benchmarks.figure import Figure
from flows.graph.walk import Job, StageName
from flows.recipe.loading import load_recipe
from flows.recipe.recipe import Recipe
from flows.running.making import make
from flows.running.workers import PRELOAD, PRELOAD_S3, Workers
from scripts.minio import running_minio
from storage.artifact import Manifest
from storage.store import Store
from tests.flows.small_corpus import write_corpus
from tests.training.stages import StageUnderTest, result

BUCKET = "caravan-bench"
STAGES: tuple[StageName, ...] = ("ingest", "dedup", "quality", "domains", "select", "train_tokenizer", "tokenize")
N_WORKERS, PARTITIONS = 2, 4
RECORDS, LINES = 2000, 1500  # of the corpus's WARCs, and of each of its domains' texts
TRAINING_STEPS, CHECKPOINT_STEPS = 24, 8
ASKED_RATIO = 1.3


@dataclass
class Place:
    """A store, the workers that write to it, and the seconds of each stage there."""

    store: Store
    raw: Store
    workers: Workers
    seconds: dict[str, float] = field(default_factory=dict)

    def walk(self, recipe: Recipe, last: StageName) -> dict[str, str]:
        """Run the path up to `last`, of which all but the last stage is there; the digest of every artifact by key."""
        started = time.perf_counter()
        run = run_path(recipe, self.raw.local_path(""), self.store, last, self._make)
        run.save()
        self.seconds[last] = time.perf_counter() - started
        return {key: pointer.digest for key, pointer in run.artifacts.items()}

    def _make(self, jobs: Sequence[Job]) -> list[Manifest]:
        if jobs[0].stage.where == "child":
            return self.workers.run_groups(partial(make, self.store, self.raw, {}), jobs)
        return [make(self.store, self.raw, {}, job, self.workers.run_groups) for job in jobs]


@contextmanager
def places(folder: Path, raw_root: Path, name: str) -> Iterator[tuple[Place, Place]]:
    """A place in a folder and one on s3://, with nothing in them yet."""
    raw = Store(str(raw_root))
    with (
        Workers(N_WORKERS, log=folder / "file.log", preload=PRELOAD) as near,
        Workers(N_WORKERS, log=folder / "s3.log", preload=PRELOAD_S3) as far,
    ):
        yield Place(Store(str(folder / name)), raw, near), Place(Store(f"s3://{BUCKET}/{name}"), raw, far)


def data_path(recipe: Recipe, raw_root: Path, folder: Path, asked: float | None) -> Figure:
    """The path to its token shards in both stores, stage by stage. Raises RuntimeError when a digest differs."""
    with places(folder, raw_root, recipe.name) as (local, remote):
        note = walk_both(recipe, remote, local)
        return Figure(
            name=f"MinIO, data path, recipe {recipe.name}",
            unit="seconds",
            ours=sum(remote.seconds.values()),
            peer=sum(local.seconds.values()),
            peer_name="local folder",
            asked=asked,
            bound="at most",
            note=note,
        )


def walk_both(recipe: Recipe, ours: Place, peer: Place) -> str:
    """The path to its token shards in two places, stage by stage, in turn; what makes them comparable. Raises RuntimeError when a digest
    differs."""
    for n, stage in enumerate(STAGES):
        digests = [place.walk(recipe, stage) for place in ((peer, ours) if n % 2 == 0 else (ours, peer))]
        if digests[0] != digests[1]:
            raise RuntimeError(f"{recipe.name}: {stage} gave other bytes in {ours.store.uri} than in {peer.store.uri}")
    stages = ", ".join(f"{stage} {ours.seconds[stage]:.1f} to {peer.seconds[stage]:.1f}" for stage in STAGES)
    return f"{N_WORKERS} workers, {len(digests[0])} artifacts with equal digests; {stages}"


def train_once(folder: Path, store: Store, seed: int) -> tuple[float, str]:
    """A training stage from its start to its published checkpoint, in a process: seconds, digest."""
    size = SIZES[0]
    training = training_of(size, TRAINING_STEPS)
    tokens = write_tokens(store, TRAINING_STEPS * size.step_tokens, size.model.vocab_size, seed)
    stage = StageUnderTest(folder, training=training, store=store, tokens=tokens, shares={"general": 1.0}, max_epochs=2)
    spec = stage.spec(model=size.model, micro_batch_size=size.micro_batch_size, checkpoint_interval_steps=CHECKPOINT_STEPS)
    rank = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with (folder / "output.log").open("wb") as log:
        command = [sys.executable, "-m", "training.run", "--spec", str(spec)]
        subprocess.run(command, cwd=PROJECT, env={**os.environ, **rank}, stdout=log, stderr=log, check=True)
    return time.perf_counter() - started, str(result(spec)["digest"])


def training_stage(folder: Path, seed: int) -> Figure:
    """The stage twice in each store, in the order ABBA. Raises RuntimeError when a digest differs."""
    seconds: dict[str, list[float]] = {"file": [], "s3": []}
    digests = set()
    for n, name in enumerate(("file", "s3", "s3", "file")):
        here = folder / f"training-{n}"
        store = Store(str(here / "store") if name == "file" else f"s3://{BUCKET}/training-{n}")
        here.mkdir()
        taken_s, digest = train_once(here, store, seed)
        seconds[name].append(taken_s)
        digests.add(digest)
    if len(digests) != 1:
        raise RuntimeError("training gave other bytes on s3:// than on file://")
    return Figure(
        name="MinIO, a training stage, the demo's model",
        unit="seconds",
        ours=sum(seconds["s3"]) / 2,
        peer=sum(seconds["file"]) / 2,
        peer_name="local folder",
        asked=ASKED_RATIO,
        bound="at most",
        note=f"{TRAINING_STEPS} steps, a checkpoint every {CHECKPOINT_STEPS}, with the start of the process, twice each; equal digests",
    )


def figures(corpus: Path, seed: int) -> list[Figure]:
    """The path and a training stage, of which the ratio is asked; and the test recipe's path, which is mostly fixed costs."""
    with tempfile.TemporaryDirectory(prefix="caravan-bench-minio-") as name:
        folder = Path(name)
        write_raw(corpus, folder / "raw", Sample(seed, records=RECORDS, lines=LINES))
        with running_minio(folder / "minio") as minio, mock.patch.dict(os.environ, minio.environment()):
            minio.create_bucket(BUCKET)
            return [
                data_path(recipe_of(PARTITIONS, {}, {}), folder / "raw", folder, ASKED_RATIO),
                training_stage(folder, seed),
                data_path(load_recipe("test"), write_corpus(folder / "small"), folder, None),
            ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=EXAMPLES, help="a folder of WARCs and JSONL texts")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sample, and the training stage's tokens")
    options = parser.parse_args()
    for figure in figures(options.corpus, options.seed):
        print(figure.line(), flush=True)
