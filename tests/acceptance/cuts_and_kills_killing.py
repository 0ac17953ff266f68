"""Kills a real `caravan run` with kill -9 at a chosen object of a stage, and runs it again.

A point is the k-th new object of an artifact seen in the store from outside. Every kill works on a copy of a finished store without the
stage's artifacts: those of later stages stay, so that a stage that came out otherwise leaves them stale, which the digests show.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.graph.runs import Run
from storage.artifact import artifact_root
from storage.disk import TEMPORARY_PREFIX
from storage.store import Store
from tests.acceptance.common import PROJECT, Place, command_stage, different
from tests.acceptance.processes import MARK, processes_of

GONE_TIMEOUT_S = 20.0
POLL_S = 0.001
POINTS_PER_STAGE = 3
TRIES = 5  # of a kill that comes too late


@dataclass(frozen=True)
class Point:
    """The k-th of the `n` objects that are written under an artifact before its manifest."""

    key: str
    k: int
    n: int

    @property
    def stage(self) -> str:
        """The stage of the artifact, as keys name it."""
        return self.key.partition("/")[0]

    @property
    def command_stage(self) -> str:
        """The stage as `caravan run --to` takes it."""
        return command_stage(self.stage)


def root_of(run: Run, key: str) -> str:
    """The folder of a run's artifact in the store."""
    return artifact_root(run.artifacts[key].stage, run.artifacts[key].fingerprint)


def objects(store: Store, root: str) -> list[str]:
    """Paths of finished files under an artifact's folder: no temporaries, no lease (its holder rewrites it)."""
    if not store.is_local:
        return [file.path for file in store.list_files(root) if f"{root}/lease/" not in file.path]
    folders = [(folder, names) for folder, _, names in os.walk(store.local_path(root)) if not folder.endswith("/lease")]
    return [f"{folder}/{name}" for folder, names in folders for name in names if not name.startswith(TEMPORARY_PREFIX)]


def n_before_manifest(store: Store, root: str) -> int:
    """Objects that a finished, undisturbed artifact had before its manifest: those that stand, and those of its groups that are gone."""
    standing = {path[path.index(root) + len(root) + 1 :] for path in objects(store, root)} - {"manifest.json"}
    records = [name for name in standing if name.startswith("groups/")]
    return len(standing.union(*({file["path"] for file in json.loads(store.read(f"{root}/{name}"))["files"]} for name in records)))


def points_of(run: Run, keys: Sequence[str], rng: random.Random) -> list[Point]:
    """Three different points over the artifacts `keys` of one stage, or as many as there are; the first is the last object of one."""
    n_objects = {key: n_before_manifest(run.store, root_of(run, key)) for key in sorted(keys)}
    every = [Point(key, k, n) for key, n in n_objects.items() for k in range(1, n + 1)]
    if not every:
        return []
    last = rng.choice([point for point in every if point.k == point.n])
    others = [point for point in every if point != last]
    return [last, *rng.sample(others, min(POINTS_PER_STAGE - 1, len(others)))]


def is_reached(store: Store, root: str, point: Point) -> bool:
    """Whether the point's objects are there, or the manifest: what stood before it may be gone again when a busy machine looks."""
    found = objects(store, root)
    return len(found) >= point.k or any(path.endswith(f"{root}/manifest.json") for path in found)


def copy_without(run: Run, target: Store, stage: str) -> None:
    """A copy of the run's store, by hard links where both are folders, without the artifacts of `stage` and without runs."""
    left_out = tuple(f"{root_of(run, key)}/" for key in run.artifacts if key.partition("/")[0] == stage)
    for file in run.store.list_files("artifacts"):
        if file.path.startswith(left_out):
            continue
        if run.store.is_local and target.is_local:
            path = target.local_path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(run.store.local_path(file.path), path)
        else:
            target.write(file.path, run.store.read(file.path))


@dataclass(frozen=True)
class Outcome:
    """What came of one kill and the run after it. `left`: processes of either that are still there."""

    was_killed: bool
    before_manifest: bool
    different: list[str]
    left: list[int]

    @property
    def holds(self) -> bool:
        """Whether it was killed, gave the digests of the undisturbed run, and left no process."""
        return self.was_killed and not self.different and not self.left

    def __str__(self) -> str:
        when = f"killed {'before' if self.before_manifest else 'at'} its end" if self.was_killed else "too late"
        return f"{when}, {f'differs: {self.different[0]}' if self.different else 'equal'}, {len(self.left)} left"


def kill_and_resume(run: Run, here: Place, point: Point, *, killed_env: Mapping[str, str], resumed_env: Mapping[str, str]) -> Outcome:
    """In `here`, whose store is empty: copy, run to the point's stage, kill -9 the command at the point, run again.

    `killed_env` and `resumed_env` are variables of the two commands (the address of a Prefect server, or none: then it starts its own).
    """
    store, root, mark = Store(here.store_uri), root_of(run, point.key), uuid.uuid4().hex
    copy_without(run, store, point.stage)
    command = [str(Path(sys.executable).parent / "caravan"), "run", *here.arguments, "--to", point.command_stage]
    env = {**os.environ, **here.env, **killed_env, MARK: mark}
    with (here.recipe.parent / "killed.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=PROJECT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while process.poll() is None and not is_reached(store, root, point):
            time.sleep(POLL_S)
        was_killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    before_manifest = not store.exists(f"{root}/manifest.json")
    left = _left_behind(mark)
    replace(here, env={**here.env, **resumed_env, MARK: mark}).run("--to", point.command_stage)
    return Outcome(was_killed, before_manifest, different(_digests(run), here.digests()), left + _left_behind(mark))


def _digests(run: Run) -> dict[str, str]:
    return {key: pointer.digest for key, pointer in run.artifacts.items()}


def _left_behind(mark: str) -> list[int]:
    """Processes with the mark that are still there after a while."""
    end = time.monotonic() + GONE_TIMEOUT_S
    while (left := processes_of(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    return left


def forget(here: Place) -> None:
    """Remove what a kill left under the place's folder (its Prefect database may lie elsewhere)."""
    shutil.rmtree(here.recipe.parent, ignore_errors=True)
