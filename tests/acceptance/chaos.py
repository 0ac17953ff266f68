"""The same digests through kills, flipped bits, power cuts, a failing network, full disks and two at once.

By default on the small test recipe, whose stages are quick enough to be killed a hundred times. What needs a mount of its own (disks that
are full or read-only) runs in a mount namespace: as root, or where unprivileged user namespaces are allowed.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar
from unittest import mock

from flows.graph.runs import Run
from scripts.minio import running_minio
from storage.artifact import FileEntry
from storage.store import Store
from tests.acceptance.chaos_disk import INSIDE, TROUBLES, enter_namespace, meet, on_disk
from tests.acceptance.chaos_flips import flips, play, scenes
from tests.acceptance.chaos_kills import Kill, draw, strike_stage, table
from tests.acceptance.chaos_network import Proxy, Restarted, run_through_faults
from tests.acceptance.chaos_power import cut_power, variables
from tests.acceptance.chaos_run import VICTIMS, apart, copy_store, digests_of, forget, kinds_of
from tests.acceptance.chaos_starts import start_in_pairs, stop_past_the_lease
from tests.acceptance.common import TEST_RECIPE, Checks, Place, arguments, different, place, work_folder
from tests.acceptance.cuts_and_kills import execution_fields, raw_root, server_of, shared_server
from tests.acceptance.cuts_and_kills_killing import copy_without

T = TypeVar("T")
R = TypeVar("R")

KILLS, FLIPS, CUTS, MINIO_KILLS, PAIRS = 100, 300, 50, 10, 20
ON_S3 = (("dedup", ("parent", "worker")), ("pretrain", ("parent", "rank", "agent")))
FLIPS_ON_S3 = 20
AT_A_TIME = 2
BUCKET = "caravan-chaos"
SHOWN = 4
PAIRED = "select"


def in_lanes(action: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results for the items, in order, some at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(action, items))


def a_place(base: Place, folder: Path, *, store_uri: str | None = None) -> Place:
    """Another place for the recipe of `base`, with nothing in it."""
    where = {"store_uri": store_uri} if store_uri else {}
    return apart(place(folder, base.recipe, raw_root=raw_root(base), **where, **execution_fields(base)), folder)


def all_hold(checks: Checks, name: str, problems: list[str], figure: str, asked: str) -> None:
    """One check of many things; what went wrong is shown."""
    checks.check(name, figure if not problems else f"{len(problems)} wrong", asked, not problems)
    for line in problems[:SHOWN]:
        checks.note(" ".join(line.split())[:400], "")


def kill_checks(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """A hundred kills over all stages."""
    kills = draw(run, KILLS, rng)

    def strike(stage: str) -> tuple[Counter[Kill], list[str]]:
        here = a_place(base, folder / f"kills-{stage}")
        copy_store(run.store.local_path(""), Store(here.store_uri).local_path(""), without=("runs/",))
        found = strike_stage(run, here, stage, [kill.victim for kill in kills if kill.stage == stage], rng, server_of(base))
        forget(here)
        return found.hits, found.problems

    hits, problems = Counter[Kill](), list[str]()
    for found, wrong in in_lanes(strike, kinds_of(run)):
        hits += found
        problems += wrong
    for line in table(hits):
        print(f"        {line}", flush=True)
    unhit = [victim for victim in VICTIMS if not any(kill.victim == victim for kill in hits)]
    stages = {kill.stage for kill in hits}
    checks.check("kinds of processes hit at work", f"{len(VICTIMS) - len(unhit)} of {len(VICTIMS)}", "all", not unhit)
    checks.check("stages hit at work", f"{len(stages)} of {len(kinds_of(run))}", "all", len(stages) == len(kinds_of(run)))
    asked = "same digests, no process after 15 s, no temporary file"
    all_hold(checks, f"kills at work: {sum(hits.values())}", problems, "all equal, nothing left", asked)


def kill_checks_on_s3(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """Some more on MinIO."""

    def strike(item: tuple[str, tuple[str, ...]]) -> tuple[int, list[str]]:
        stage, victims = item
        here = a_place(base, folder / f"s3-{stage}", store_uri=f"s3://{BUCKET}/kills-{stage}")
        copy_without(run, Store(here.store_uri), stage)
        found = strike_stage(run, here, stage, victims, rng, server_of(base))
        forget(here)
        return sum(found.hits.values()), found.problems

    results = in_lanes(strike, ON_S3)
    n_hits, problems = sum(n for n, _ in results), [line for _, wrong in results for line in wrong]
    all_hold(checks, f"kills at work on s3://: {n_hits}", problems, "all equal, nothing left", "the same")


def flip_checks(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """Flips by reading functions, on a folder and on MinIO; then by real commands."""
    copied = Store(str(folder / "flips"))
    copy_store(run.store.local_path(""), copied.local_path(""))
    on_s3 = Store(f"s3://{BUCKET}/flips")
    for file in run.store.list_files(""):
        on_s3.write(file.path, run.store.read(file.path))
    for store, n, where in ((copied, FLIPS, "a folder"), (on_s3, FLIPS_ON_S3, "s3://")):
        found = flips(store, n, rng)
        total = sum(found.kinds.values())
        if store.is_local:
            checks.note("flips by kind of file", ", ".join(f"{kind} {count}" for kind, count in sorted(found.kinds.items())))
        all_hold(checks, f"flips in {where} that `caravan verify` names", found.missed, f"{total} of {total}", f"all, of {n} drawn")
        all_hold(checks, f"flips in {where} that a reader believes", found.believed, "0", "none")
        all_hold(checks, f"sound files that `caravan verify` names in {where}", found.sound_named, "0", "none")

    def act(numbered: tuple[int, int]) -> str:
        number, seed = numbered
        scene = scenes(run)[number]
        here = a_place(base, folder / f"scene-{number}")
        problem = play(run, _with_server(here, base), scene, random.Random(seed))
        forget(here)
        return f"{scene.name}: {problem}" if problem else ""

    numbered = [(number, rng.randrange(1 << 30)) for number in range(len(scenes(run)))]
    problems = [problem for problem in in_lanes(act, numbered) if problem]
    asked = "each named before use, or made again; the same digests"
    all_hold(checks, "flips that a real run meets", problems, f"{len(numbered)} of {len(numbered)}", asked)


def _with_server(here: Place, base: Place) -> Place:
    return Place(here.recipe, here.execution, here.store_uri, {**here.env, **server_of(base)})


def power_checks(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """Power cuts in whole paths, then the next run."""
    lanes = [(number, CUTS // AT_A_TIME, rng.randrange(1 << 30)) for number in range(AT_A_TIME)]

    def cut(lane: tuple[int, int, int]) -> tuple[int, int, list[str], list[str]]:
        number, n, seed = lane
        here = a_place(base, folder / f"power-{number}")
        found = cut_power(here, n, random.Random(seed), server_of(base))
        ended = _with_server(here, base).run(check=False)
        wrong = [*found.problems, *([ended.output[-400:]] if ended.code else [])]
        wrong += [f"another digest of {key}" for key in different(digests_of(run), here.digests())[:1]]
        forget(here)
        return found.n, found.n_lost, found.damaged, wrong

    results = in_lanes(cut, lanes)
    n_lost = sum(lost for _, lost, _, _ in results)
    checks.note("names and files that power cuts lost, cut off or made old", f"{n_lost:,}")
    all_hold(checks, "published and damaged after a power cut", [line for _, _, damaged, _ in results for line in damaged], "0", "none")
    figure = f"{sum(n for n, _, _, _ in results)}, equal"
    all_hold(
        checks, "power cuts", [line for _, _, _, wrong in results for line in wrong], figure, f"{CUTS}; the same digests after the next run"
    )


def network_checks(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """MinIO that comes and goes, behind a bad network; and MinIO gone."""
    with ExitStack() as opened:
        minio = Restarted(folder / "minio-faults", opened)
        minio.server.create_bucket(BUCKET)
        here = a_place(base, folder / "faults", store_uri=f"s3://{BUCKET}/faults")
        proxy = opened.enter_context(Proxy(minio.port, rng).running())
        code, output = run_through_faults(here, minio, proxy, MINIO_KILLS, rng, server_of(base))
        faults = proxy.faults
        said = f"{faults.connections:,} connections: {faults.dropped} dropped, {faults.reset} reset, {faults.delayed} slow"
        checks.note("the proxy", said)
        checks.check("MinIO killed and started again in a run", f"{minio.n_killed} times", f"{MINIO_KILLS}", minio.n_killed == MINIO_KILLS)
        with mock.patch.dict(os.environ, minio.server.environment()):
            wrong = different(digests_of(run), here.digests()) if not code else [output[-600:]]
        all_hold(checks, "the run through all that", wrong, "equal", "completes, with the same digests")
        minio.kill()
        gone = a_place(base, folder / "gone", store_uri=f"s3://{BUCKET}/gone")
        variables_of = {**minio.server.environment(), **server_of(base)}
        ended = Place(gone.recipe, gone.execution, gone.store_uri, {**gone.env, **variables_of}).run(check=False)
        lines = [line for line in ended.output.splitlines() if line.strip()]
        told = ended.code == 1 and "Traceback" not in ended.output and lines[-1].startswith("RetryableError store s3://")
        checks.check("MinIO gone", f"exit {ended.code}, {len(lines)} line(s)", "one line that names the store", told)


def disk_checks(checks: Checks, folder: Path, base: Place, run: Run) -> None:
    """Full and read-only disks, in data stages and in training."""
    if not checks.check(
        "a mount namespace", "permitted" if os.environ.get(INSIDE) else "refused", "permitted", bool(os.environ.get(INSIDE))
    ):
        return
    for number, trouble in enumerate(TROUBLES):
        here = on_disk(a_place(base, folder / f"disk-{number}"), folder / f"disk-{number}")
        problems = meet(run, _with_server(here, base), trouble)
        all_hold(checks, str(trouble), problems, "one line, resumed", "one line with path and folder; resumed when mended")
        forget(here)


def start_checks(checks: Checks, folder: Path, base: Place, run: Run) -> None:
    """Two starts of one run; a trainer that wakes up late."""

    def pairs(lane: int) -> tuple[int, list[str]]:
        here = a_place(base, folder / f"pairs-{lane}")
        found = start_in_pairs(run, here, PAIRED, PAIRS // AT_A_TIME, server_of(base))
        forget(here)
        return found.one_refused, found.others

    results = in_lanes(pairs, range(AT_A_TIME))
    others = [line for _, lines in results for line in lines]
    all_hold(checks, "pairs of starts of which one was refused", others, f"{sum(n for n, _ in results)} of {PAIRS}", "all")
    here = a_place(base, folder / "late")
    late = stop_past_the_lease(run, here, server_of(base))
    all_hold(checks, "a rank stopped past its lease, then continued", late, "refused, one artifact", "refused, one artifact")


def sabotages(checks: Checks, folder: Path, base: Place, run: Run, rng: random.Random) -> None:
    """A reader that checks nothing, a publish without a flush, a lease without its last look."""
    copied = Store(str(folder / "believing"))
    copy_store(run.store.local_path(""), copied.local_path(""))

    def read_unchecked(store: Store, root: str, entry: FileEntry) -> bytes:
        return store.read(f"{root}/{entry.path}")

    with mock.patch("tests.acceptance.chaos_flips.read_entry", read_unchecked):
        believed = flips(copied, 40, rng).believed
    checks.sabotage("a reader that skips the digest check", bool(believed), f"{len(believed)} flips are believed")
    here = a_place(base, folder / "unflushed")
    here.execution.write_text(here.execution.read_text() + "durable: false\n")
    found = cut_power(here, 4, rng, server_of(base))
    checks.sabotage("a publish without a flush", bool(found.damaged), f"{len(found.damaged)} published and damaged")
    here = a_place(base, folder / "blind")
    late = stop_past_the_lease(run, here, {**server_of(base), **variables(None, "no last look")})
    checks.sabotage("a lease without its last look", any("was not refused" in line for line in late), "the late trainer was not refused")
    shutil.rmtree(folder / "blind", ignore_errors=True)


def main() -> None:
    """Run the acceptance."""
    enter_namespace()
    given = arguments(__doc__ or "", ("recipe", "corpus", "seed"), recipe=TEST_RECIPE)
    checks, rng = Checks("chaos", __doc__ or ""), random.Random(given.seed)
    with work_folder("chaos") as folder, shared_server(folder) as server:
        base = place(folder / "base", given.recipe, raw_root=given.corpus)
        base = Place(base.recipe, base.execution, base.store_uri, {**base.env, **server})
        checks.note("the undisturbed run", f"{base.run().wall_s:.0f} s")
        run = base.state()
        with running_minio(folder / "minio") as minio, mock.patch.dict(os.environ, minio.environment()):
            minio.create_bucket(BUCKET)
            kill_checks(checks, folder, base, run, rng)
            kill_checks_on_s3(checks, folder, base, run, rng)
            flip_checks(checks, folder, base, run, rng)
        power_checks(checks, folder, base, run, rng)
        network_checks(checks, folder, base, run, rng)
        disk_checks(checks, folder, base, run)
        start_checks(checks, folder, base, run)
        sabotages(checks, folder, base, run, rng)
    checks.finish()


if __name__ == "__main__":
    main()
