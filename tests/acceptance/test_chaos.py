"""Small cases of `make accept-chaos`, by the functions that it uses itself; flips are in tests/flows/history/test_damage.py."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from flows.history.damage import find_damage
from flows.running.driver import Plan
from storage.artifact import find
from storage.store import Store
from storage.verify import damage
from tests.acceptance.chaos_flips import kind_of, scenes
from tests.acceptance.chaos_kills import TRAINING, draw
from tests.acceptance.chaos_power import journal_folder, lose_power, names_below, variables
from tests.acceptance.chaos_run import VICTIMS, kinds_of
from tests.acceptance.common import PROJECT

N_PUBLISHED = 12
WRITER = """
import sys
from storage.artifact import Attempt, fingerprint_of
from storage.store import Store
store = Store(sys.argv[1], durable=sys.argv[2] == "durable")
for n in range(10_000):
    payload, entries = {"n": n}, []
    attempt = Attempt(store, "stage", fingerprint_of(payload))
    for name in ("a", "folder/b"):
        with attempt.create(name, entries) as file:
            file.write(f"{n} {name} ".encode() * 999)
    print(attempt.publish(payload, entries, counts={"n": n}, info={}).fingerprint, flush=True)
"""


def after_a_power_cut(folder: Path, durable: str, seed: int) -> list[str]:
    """Fingerprints that a writer said it had published before the cut, and that are not whole after it."""
    root, journal = folder / "store", journal_folder(folder / "flushes")
    root.mkdir(parents=True)
    before = names_below(root)
    environment = {**os.environ, **variables(journal)}
    environment["PYTHONPATH"] += os.pathsep + str(PROJECT)
    command = [sys.executable, "-c", WRITER, str(root), durable]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(N_PUBLISHED)]
        process.kill()
    lose_power(root, before, journal, random.Random(seed))
    store, lost = Store(str(root)), []
    assert durable != "durable" or list(find_damage(store, deep=True)) == []
    for fingerprint in said:
        try:
            manifest = find(store, "stage", fingerprint)
        except Exception:  # whatever a damaged manifest raises
            manifest = None
        if manifest is None or list(damage(store, manifest.root, manifest.files, deep=True)):
            lost.append(fingerprint)
    return lost


@pytest.mark.parametrize("seed", range(3))
def test_what_was_said_to_be_published_is_whole_after_a_power_cut(tmp_path: Path, seed: int) -> None:
    """Every artifact whose manifest was written before the cut, with all its files and folders."""
    assert after_a_power_cut(tmp_path, "durable", seed) == []


def test_without_flushes_a_power_cut_loses_what_was_published(tmp_path: Path) -> None:
    """The layer that drops what was not flushed does so."""
    assert after_a_power_cut(tmp_path, "fast", 0) != []


def test_a_hundred_kills_hit_every_stage_and_every_kind_of_process(finished: Plan) -> None:
    run = finished.run
    kills = draw(run, 100, random.Random(0))
    assert len(kills) == 100
    assert {kill.stage for kill in kills} == set(kinds_of(run))
    assert {kill.victim for kill in kills} == set(VICTIMS)
    assert {kill.stage for kill in kills if kill.victim == "rank"} == set(TRAINING) & set(kinds_of(run))


def test_every_scene_of_a_flip_has_a_file_to_flip(finished: Plan) -> None:
    paths = [file.path for file in finished.store.list_files("") if file.size_bytes]
    for scene in scenes(finished.run):
        assert any(scene.picks(path) for path in paths), scene.name
    assert len({kind_of(path) for path in paths if not path.startswith("again/")}) >= 29
