"""Proof 4: the same bytes however the input is cut, for any number of workers, and after kill -9 at three points of every stage.

A point is the k-th new object of a stage seen in the store from outside; k is drawn (the seed is printed), and the last object before the
manifest is always one.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.proofs.common import PROJECT, TEST_RECIPE, Place, Proof, arguments, place, work_folder
from benchmarks.proofs.cutting import cut_corpus
from storage.artifact import artifact_root

MARK = "CARAVAN_PROOF_MARK"
GONE_TIMEOUT_S = 20.0
POLL_S = 0.001
COUNTED_FROM = ("documents", "dedup", "quality", "domains", "select", "train_tokenizer", "tokenize", "build_tasks", "mix")
TRAINED = ("pretrain", "extend_context", "anneal", "export", "evaluate")
AS_CUT = ("snapshot", "extract", "origins")  # what says where a record was


def same_but_for_origins(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Keys from the documents on whose digests differ."""
    keys = [key for key in ours.keys() | theirs.keys() if not is_as_cut(key)]
    return sorted(key for key in keys if ours.get(key) != theirs.get(key))


def is_as_cut(key: str) -> bool:
    """Whether an artifact says where records were in the input, and so may differ with its cut."""
    return key.partition("/")[0] in AS_CUT


def cut_checks(proof: Proof, folder: Path, base: Place, corpus: Path, seed: int) -> dict[str, str]:
    """One, three and seven files, shuffled, with 1 and 2 workers; returns the digests of the run on the corpus as it is."""
    base.run()
    undisturbed = base.digests()
    proof.note("artifacts of the undisturbed run", len(undisturbed))
    recipe = yaml.safe_load(base.recipe.read_text())
    for n_files, workers in ((1, 2), (3, 1), (7, 2)):
        raw = folder / f"cut-{n_files}"
        changed = cut_corpus(recipe, corpus, raw, n_files, seed + n_files)
        path = folder / f"recipe-{n_files}.yaml"
        path.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True))
        here = place(folder / f"run-{n_files}", path, raw_root=raw, **{**execution_fields(base), "workers": workers})
        here.run()
        different = same_but_for_origins(undisturbed, here.digests())
        name = f"{n_files} file(s) a source, shuffled, {workers} worker(s)"
        proof.check(name, "equal" if not different else different[0], "equal digests", not different)
    return undisturbed


def execution_fields(here: Place) -> dict[str, Any]:
    """How a place runs, without where."""
    raw = yaml.safe_load(here.execution.read_text())
    return {key: value for key, value in raw.items() if key not in ("store", "raw_root", "work_dir")}


def objects(store: Path, root: str) -> list[Path]:
    """Finished files under an artifact's folder: no temporaries, no lease (its holder rewrites it)."""
    found: list[Path] = []
    for folder, _, names in os.walk(store / root):
        if not folder.endswith("/lease"):
            found += [Path(folder) / name for name in names if not name.startswith(".caravan-tmp-")]
    return found


def processes_of(mark: str) -> list[int]:
    """Processes that carry the mark in their environment, zombies left out."""
    return [pid for pid in _pids() if f"{MARK}={mark}".encode() in _read(pid, "environ").split(b"\0") and b") Z" not in _read(pid, "stat")]


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def kill_at(here: Place, root: str, stage: str, k: int) -> tuple[bool, list[int]]:
    """Run to `stage`, kill -9 the command at the k-th new object under `root`; whether it died there, and who is left behind."""
    mark, store = uuid.uuid4().hex, Path(here.store_uri)
    command = [str(Path(sys.executable).parent / "caravan"), "run", *here.arguments, "--to", stage]
    with (store.parent / "killed.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, env={**os.environ, **here.env, MARK: mark}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        while process.poll() is None and len(objects(store, root)) < k:
            time.sleep(POLL_S)
        is_early = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    end = time.monotonic() + GONE_TIMEOUT_S
    while (left := processes_of(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    return is_early, left


def kill_checks(proof: Proof, folder: Path, base: Place, undisturbed: dict[str, str], seed: int) -> None:
    """Every stage's artifacts, three points each; then again, and the digests of the undisturbed run."""
    rng, store = random.Random(seed), Path(base.store_uri)
    run = base.state()
    for key in undisturbed:
        stage = key.partition("/")[0]
        if stage in AS_CUT:
            continue
        pointer = run.artifacts[key]
        root = artifact_root(pointer.stage, pointer.fingerprint)
        n_objects = len(objects(store, root)) - 1  # all but the manifest; what a finished stage removed again is not counted
        if n_objects < 1:
            continue
        points = sorted({n_objects, *rng.sample(range(1, n_objects), min(2, n_objects - 1))})
        for k in points:
            here = place(folder / "killed", base.recipe, raw_root=Path(_raw_root(base)), **execution_fields(base))
            shutil.rmtree(here.store_uri, ignore_errors=True)
            copy_without(store, Path(here.store_uri), keys_from(list(undisturbed), key), run)
            died, left = kill_at(here, root, stage, k)
            here.run("--to", stage)
            got = here.digests().get(key)
            ok = got == undisturbed[key] and not left
            how = f"{'killed' if died else 'too late'}, {'equal' if got == undisturbed[key] else 'OTHER'}, {len(left)} left"
            proof.check(f"{key}: kill -9 at object {k} of {n_objects}", how, "equal digest, none left", ok)


def _raw_root(here: Place) -> str:
    return str(yaml.safe_load(here.execution.read_text())["raw_root"])


def keys_from(keys: list[str], key: str) -> list[str]:
    """`key` and the artifacts that are made after its stage."""
    order = ["snapshot", "extract", *COUNTED_FROM, "origins", *TRAINED]
    place_of = {stage: n for n, stage in enumerate(order)}
    first = place_of[key.partition("/")[0]]
    return [other for other in keys if other == key or place_of[other.partition("/")[0]] > first]


def copy_without(store: Path, target: Path, keys: list[str], run: Any) -> None:
    """A copy of the store by hard links, without the artifacts of `keys`, without runs."""
    left_out = {str(store / artifact_root(run.artifacts[key].stage, run.artifacts[key].fingerprint)) for key in keys}

    def ignore(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if os.path.join(folder, name) in left_out or (folder == str(store) and name == "runs")]

    shutil.copytree(store, target, ignore=ignore, copy_function=os.link)


def sabotage(proof: Proof, folder: Path, base: Place, corpus: Path, undisturbed: dict[str, str], seed: int) -> None:
    """A corpus with one record missing must not pass for the same; a child that outlives its flow must be seen."""
    recipe = yaml.safe_load(base.recipe.read_text())
    raw = folder / "cut-damaged"
    changed = cut_corpus(recipe, corpus, raw, 1, seed)
    cut = next(path for path in sorted((raw / "cut").rglob("*.jsonl.gz")))
    lines = gzip.decompress(cut.read_bytes()).split(b"\n")
    cut.write_bytes(gzip.compress(b"\n".join(lines[1:]), 6, mtime=0))
    path = folder / "recipe-damaged.yaml"
    path.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True))
    here = place(folder / "run-damaged", path, raw_root=raw, **execution_fields(base))
    here.run("--to", "dedup")
    ours = {key: digest for key, digest in undisturbed.items() if key.partition("/")[0] in ("documents", "dedup")}
    theirs = {key: digest for key, digest in here.digests().items() if key.partition("/")[0] in ("documents", "dedup")}
    proof.sabotage("one record missing", bool(same_but_for_origins(ours, theirs)), "a digest differs")
    mark = uuid.uuid4().hex
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: mark})
    time.sleep(0.2)
    proof.sabotage("a process left behind", processes_of(mark) == [orphan.pid], "it is seen")
    orphan.kill()
    orphan.wait()


def main() -> None:
    """Run the proof; by default on the small test recipe, whose stages are quick enough to be killed some forty times."""
    given = arguments(__doc__ or "", recipe=TEST_RECIPE)
    proof = Proof(4, "the same bytes for every cut, any number of workers, and after every kill")
    with work_folder("proof-4") as folder:
        base = place(folder / "base", given.recipe, raw_root=given.corpus)
        corpus = Path(_raw_root(base))
        undisturbed = cut_checks(proof, folder, base, corpus, given.seed)
        kill_checks(proof, folder, base, undisturbed, given.seed)
        sabotage(proof, folder, base, corpus, undisturbed, given.seed)
    proof.finish()


if __name__ == "__main__":
    main()
