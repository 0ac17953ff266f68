"""The same digests however the input is cut, with 1 worker or 2, and after kill -9 in every stage.

A point is the k-th new object of a stage seen in the store from outside, drawn over the stage's artifacts (the seed is printed); the last
object before a manifest is always one. That kill takes the run's own Prefect server with it; the others talk to one server, as on a
cluster, which spares each its start. The same on s3:// for a data stage and a training stage. Two commands go side by side.
"""

from __future__ import annotations

import gzip
import os
import queue
import random
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from flows.graph.runs import Run
from flows.running.driver import set_up_prefect
from scripts.minio import running_minio
from tests.acceptance.common import TEST_RECIPE, Checks, Place, arguments, different, place, work_folder
from tests.acceptance.cuts_and_kills_cutting import cut_corpus
from tests.acceptance.cuts_and_kills_killing import TRIES, Outcome, Point, forget, kill_and_resume, points_of
from tests.acceptance.processes import MARK, processes_of

AT_A_TIME = 2
AS_CUT = ("snapshot", "extract", "origins")  # what says where a record was
AS_THEY_ARE = "the raw files as they are"
ON_S3 = ("dedup", "pretrain")
BUCKET = "caravan-acceptance"


def same_but_for_origins(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Keys from the documents on whose digests differ."""
    return [key for key in different(ours, theirs) if key.partition("/")[0] not in AS_CUT]


def cut_place(folder: Path, base: Place, corpus: Path, n_files: int, seed: int, workers: int) -> Place:
    """A place for the recipe of `base` on its corpus cut into `n_files` files a source, records shuffled."""
    raw, path = folder / f"cut-{n_files}", folder / f"recipe-{n_files}.yaml"
    changed = cut_corpus(yaml.safe_load(base.recipe.read_text()), corpus, raw, n_files, seed + n_files)
    path.write_text(yaml.safe_dump(changed, sort_keys=False, allow_unicode=True))
    here = place(folder / f"run-{n_files}", path, raw_root=raw, **{**execution_fields(base), "workers": workers})
    return replace(here, env={**here.env, **server_of(base)})


def server_of(here: Place) -> dict[str, str]:
    """The variable that names the place's Prefect server, when it has one."""
    return {key: value for key, value in here.env.items() if key == "PREFECT_API_URL"}


def execution_fields(here: Place) -> dict[str, Any]:
    """How a place runs, without where."""
    raw = yaml.safe_load(here.execution.read_text())
    return {key: value for key, value in raw.items() if key not in ("store", "raw_root", "work_dir")}


def cut_name(n_files: int, workers: int) -> str:
    """What a cut is called in the output."""
    return f"{n_files} file(s) a source, shuffled, {workers} worker(s)"


def cut_checks(checks: Checks, folder: Path, base: Place, corpus: Path, seed: int) -> None:
    """The corpus as it is, and in one, three and seven files, shuffled, with 1 and 2 workers."""
    cuts = {cut_name(n, workers): cut_place(folder, base, corpus, n, seed, workers) for n, workers in ((1, 2), (3, 1), (7, 2))}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        runs = {pool.submit(here.run): name for name, here in {AS_THEY_ARE: base, **cuts}.items()}
        for done in as_completed(runs):
            checks.note(f"the run of {runs[done]}", f"{done.result().wall_s:.0f} s")
    undisturbed = base.digests()
    checks.note(f"artifacts of the run of {AS_THEY_ARE}", len(undisturbed))
    for name, here in cuts.items():
        found = same_but_for_origins(undisturbed, here.digests())
        figure = f"differs: {found[0]}" if found else "equal"
        checks.check(f"digests of {name}", figure, f"those of {AS_THEY_ARE}", not found)


@dataclass(frozen=True)
class Kill:
    """One kill to do: at a point, in a store under `store_uri` ("" = a folder), with the run's own Prefect server or the shared one."""

    point: Point
    store_uri: str
    has_own_server: bool


def kills_of(run: Run, seed: int, s3: str) -> list[Kill]:
    """Three points of every stage on a folder, two of a data stage and of a training stage on `s3`."""
    rng, stages = random.Random(seed), list(dict.fromkeys(key.partition("/")[0] for key in run.artifacts))
    kills = []
    for stage in stages:
        points = points_of(run, [key for key in run.artifacts if key.partition("/")[0] == stage], rng)
        kills += [Kill(point, "", has_own_server=n == 0) for n, point in enumerate(points)]
        if stage in ON_S3:
            kills += [Kill(point, f"{s3}/{stage}-{n}", has_own_server=False) for n, point in enumerate(points[:2])]
    return kills


def kill_checks(checks: Checks, folder: Path, base: Place, seed: int, s3: str) -> None:
    """Every kill, two at a time; then again, and the digests of the undisturbed run, of that stage and of what follows."""
    run, server = base.state(), server_of(base)
    homes: queue.SimpleQueue[str] = queue.SimpleQueue()  # Prefect databases, used again: a new one takes seconds
    for n in range(AT_A_TIME):
        homes.put(str(folder / f"prefect-{n}"))

    def do(kill: Kill) -> Outcome:
        """A kill and the run after it. On a busy machine the command may end between a look and the kill: then it is tried again."""
        for n in range(TRIES):
            outcome = once(kill, n)
            if outcome.was_killed or outcome.different or outcome.left:
                break
        return outcome

    def once(kill: Kill, n: int) -> Outcome:
        """One try, in a folder of its own."""
        home = homes.get()
        where = {"store_uri": f"{kill.store_uri}-{n}"} if kill.store_uri else {}
        here = place(folder / f"kill-{uuid.uuid4().hex[:8]}", base.recipe, raw_root=raw_root(base), **where, **execution_fields(base))
        here = replace(here, env={"PREFECT_HOME": home})
        try:
            return kill_and_resume(run, here, kill.point, killed_env={} if kill.has_own_server else server, resumed_env=server)
        finally:
            homes.put(home)
            forget(here)

    kills = kills_of(run, seed, s3)
    print("  kill -9 of `caravan run` when the k-th of the n files of an artifact is in the store; then the same command again", flush=True)
    before_manifest = 0
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        waiting = {pool.submit(do, kill): kill for kill in kills}
        for done in as_completed(waiting):
            kill, error = waiting[done], done.exception()
            name = f"{'s3: ' if kill.store_uri else ''}{kill.point.key}: kill -9 at file {kill.point.k} of {kill.point.n}"[-58:]
            if error is not None:
                checks.note(f"{name}: the run after it failed", error)
            ok = error is None and done.result().holds
            checks.check(name, "failed" if error else done.result(), "killed; equal digests, no process left", ok)
            before_manifest += error is None and done.result().before_manifest
    checks.note("kills before the artifact was finished", f"{before_manifest} of {len(kills)}")


def raw_root(here: Place) -> Path:
    """The folder of raw files of a place."""
    return Path(yaml.safe_load(here.execution.read_text())["raw_root"])


def sabotage(checks: Checks, folder: Path, base: Place, corpus: Path, seed: int) -> None:
    """A corpus with one record missing must not pass for the same; a child that outlives its flow must be seen."""
    here = cut_place(folder / "damaged", base, corpus, 1, seed, AT_A_TIME)
    cut = sorted(raw_root(here).joinpath("cut").rglob("*.jsonl.gz"))[0]
    lines = gzip.decompress(cut.read_bytes()).split(b"\n")
    cut.write_bytes(gzip.compress(b"\n".join(lines[1:]), 6, mtime=0))
    here.run("--to", "dedup")
    stages = ("documents", "dedup")
    ours, theirs = ({k: v for k, v in digests.items() if k.partition("/")[0] in stages} for digests in (base.digests(), here.digests()))
    checks.sabotage("one record missing", bool(same_but_for_origins(ours, theirs)), "a digest differs")
    mark = uuid.uuid4().hex
    orphan = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: mark})
    time.sleep(0.2)
    checks.sabotage("a process left behind", processes_of(mark) == [orphan.pid], "it is seen")
    orphan.kill()
    orphan.wait()


@contextmanager
def shared_server(folder: Path) -> Iterator[dict[str, str]]:
    """A Prefect server for the length of the block; the variable that names it."""
    os.environ["PREFECT_HOME"] = str(folder / "prefect")
    os.environ.pop("PREFECT_API_URL", None)
    os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "600"  # to wait is better than to fail on a busy machine
    set_up_prefect()
    from prefect.settings import PREFECT_API_URL

    from flows.running.server import prefect_server

    with prefect_server(folder / "prefect-server.log"):
        yield {"PREFECT_API_URL": str(PREFECT_API_URL.value())}


def main() -> None:
    """Run the acceptance; by default on the small test recipe, whose stages are quick enough to be killed some fifty times."""
    given = arguments(__doc__ or "", ("recipe", "corpus", "seed"), recipe=TEST_RECIPE)
    checks = Checks("cuts-and-kills", __doc__ or "")
    with work_folder("cuts-and-kills") as folder, shared_server(folder) as server:
        base = place(folder / "base", given.recipe, raw_root=given.corpus)
        base = replace(base, env={**base.env, **server})
        corpus = raw_root(base)
        cut_checks(checks, folder, base, corpus, given.seed)
        sabotage(checks, folder, base, corpus, given.seed)
        with tempfile.TemporaryDirectory() as data, running_minio(Path(data)) as minio:
            os.environ |= minio.environment()
            minio.create_bucket(BUCKET)
            kill_checks(checks, folder, base, given.seed, f"s3://{BUCKET}")
    checks.finish()


if __name__ == "__main__":
    main()
