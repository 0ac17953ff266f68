"""Reads a store and says what in it is not as it was written, and what to do: `caravan verify`.

What can be made again is made again by the next run once its file is out of the way: `repair` gives it another name, and removes nothing
but caches and pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from flows.graph.logs import FILES, forget, parse_files
from flows.graph.runs import FILE, LEASE_TIMEOUT_S, RENEW, REPORT, open_run
from pipeline.partitions import parse_record
from pipeline.snapshot import parse_cache
from storage.artifact import MADE_AGAIN, Manifest, artifact_root, find
from storage.errors import IntegrityError
from storage.lease import held_by_a_living, parse_heartbeat, release
from storage.store import SET_ASIDE, Store
from storage.verify import damage

CACHE_REMEDY = "it is made anew by the next run"
LOG_REMEDY = "the report goes without it; a run copies it again where work_dir has it"
LEASE_WATCH_S = LEASE_TIMEOUT_S
GROUP_REMEDY = "the next run does that group of work again"
LEASE_REMEDY = "a trainer or a run waits until it is sure that nobody holds it, and takes over"
REPORT_REMEDY = "`caravan report` writes it anew"
COPY_REMEDY = "it is for people, and written anew from run.json, which holds the same"
STEP_REMEDY = "training goes on from the checkpoint before it"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written: where, what was expected and found, what comes once it is out of the way, and what takes it
    there (None: nothing has to)."""

    path: str
    problem: str
    remedy: str
    repair: Callable[[], object] | None


def find_damage(store: Store, run: str | None = None, *, deep: bool = False, progress: Progress = lambda what: None) -> Iterator[Damage]:
    """All damage of a store, or of what one run refers to. `deep` reads every byte; else the sizes of large files count.

    `progress` is told what is being read.
    """
    if run is None:
        for name in store.list_dirs("runs"):
            progress(f"runs/{name}")
            yield from _of_run(store, name, deep)
        for stage in store.list_dirs("artifacts"):
            for fingerprint in store.list_dirs(f"artifacts/{stage}"):
                progress(f"artifacts/{stage}/{fingerprint}")
                yield from _of_artifact(store, stage, fingerprint, deep)
        yield from _of_caches(store)
        return
    yield from _of_run(store, run, deep)
    for pointer in open_run(store, run).artifacts.values():
        progress(artifact_root(pointer.stage, pointer.fingerprint))
        yield from _of_artifact(store, pointer.stage, pointer.fingerprint, deep, asked=True)


def _damage(store: Store, error: IntegrityError, remedy: str, repair: Callable[[], object] | None) -> Damage:
    return Damage(error.file, f"expected {error.expected}, found {error.actual}", remedy, repair)


def _of_artifact(store: Store, stage: str, fingerprint: str, deep: bool, *, asked: bool = False) -> Iterator[Damage]:
    """Of one artifact: its manifest, its files, its groups' records, its step checkpoints, its leases."""
    root = artifact_root(stage, fingerprint)
    manifest_path = f"{root}/manifest.json"
    set_aside = partial(store.set_aside, manifest_path)
    try:
        manifest = find(store, stage, fingerprint)
    except IntegrityError as error:
        yield _damage(store, error, MADE_AGAIN, set_aside)
        manifest, deep = None, False  # what its groups left may be gone with good reason
    else:
        if manifest is None and asked:
            yield Damage(manifest_path, "expected a manifest, found no such file", "the next run makes the artifact again", None)
        for found in damage(store, root, manifest.files if manifest else (), deep=deep):
            yield _damage(store, found, MADE_AGAIN, set_aside)
    names = [file.path.removeprefix(f"{root}/") for file in store.list_files(root)]
    for name in names:
        if SET_ASIDE in name:
            continue
        if name.startswith("groups/"):
            yield from _of_group(store, root, name, deep and manifest is None)
        elif name.startswith("lease/") and name.removeprefix("lease/").isdigit():
            yield from _of_lease(store, root, name)
        elif name.startswith("steps/") and name.endswith("/manifest.json"):
            yield from _of_step(store, f"{root}/{name}", deep)


def _of_group(store: Store, root: str, name: str, deep: bool) -> Iterator[Damage]:
    """Of one group's record; with `deep` of its files too, which are gone or the artifact's own where that is finished."""
    path = f"{root}/{name}"
    set_aside = partial(store.set_aside, path)
    try:
        result = parse_record(store.read(path), path, root)
    except IntegrityError as error:
        yield _damage(store, error, GROUP_REMEDY, set_aside)
        return
    there = [entry for entry in result.files if store.exists(f"{root}/{entry.path}")] if deep else []  # one that is gone is made again
    for found in damage(store, root, there, deep=True, remedy=GROUP_REMEDY):
        yield _damage(store, found, GROUP_REMEDY, set_aside)


def _of_lease(store: Store, root: str, name: str) -> Iterator[Damage]:
    path = f"{root}/{name}"
    try:
        parse_heartbeat(store.read(path), where=path)
    except IntegrityError as error:
        yield _damage(store, error, LEASE_REMEDY, partial(release, store, root, int(name.rpartition("/")[2])))


def _of_step(store: Store, path: str, deep: bool) -> Iterator[Damage]:
    """Of one step's checkpoint. Its files may be the artifact's, which are looked at with that."""
    set_aside = partial(store.set_aside, path)
    try:
        manifest = Manifest.from_json(store.read(path), where=path)
    except IntegrityError as error:
        yield _damage(store, error, STEP_REMEDY, set_aside)
        return
    for found in damage(store, path.rpartition("/")[0], manifest.files, deep=deep):
        yield _damage(store, found, STEP_REMEDY, set_aside)


def _of_caches(store: Store) -> Iterator[Damage]:
    for file in list(store.list_files("cache")):
        try:
            parse_cache(store.read(file.path), where=file.path)
        except IntegrityError as error:
            yield _damage(store, error, CACHE_REMEDY, partial(store.remove, file.path))


def _of_run(store: Store, name: str, deep: bool) -> Iterator[Damage]:
    """Of one run: its file, what is beside it, its training stages' logs, its leases."""
    try:
        run = open_run(store, name)
    except IntegrityError as error:
        yield _damage(store, error, RENEW, partial(store.set_aside, f"runs/{name}/{FILE}"))
        return
    for file, sha256 in sorted(run.sums.items()) if run.state != "running" else ():  # one that was killed may have written one file of two
        path = f"{run.root}/{file}"
        if not run.verifies(file) and (file != REPORT or store.exists(path)):  # a page that is gone is written anew
            remedy, repair = (REPORT_REMEDY, partial(store.remove, path)) if file == REPORT else (COPY_REMEDY, run.write_copies)
            yield Damage(path, f"expected sha256 {sha256}, found another", remedy, repair)
    for info in list(store.list_files(run.root)):
        relative = info.path.removeprefix(f"{run.root}/")
        if relative.startswith("lease/") and relative.removeprefix("lease/").isdigit():
            yield from _of_lease(store, run.root, relative)
        elif relative.endswith(f"/{FILES}"):
            yield from _of_logs(store, info.path, deep)


def _of_logs(store: Store, path: str, deep: bool) -> Iterator[Damage]:
    """Of the logs that one list names."""
    root = path.rpartition("/")[0]
    try:
        entries = parse_files(store.read(path), where=path)
    except IntegrityError as error:
        yield _damage(store, error, LOG_REMEDY, partial(store.set_aside, path))
        return
    names = {f"{root}/{entry.path}": name for name, entry in entries.items()}
    for found in damage(store, root, entries.values(), deep=deep, remedy=LOG_REMEDY):
        yield _damage(store, found, LOG_REMEDY, partial(forget, store, root, names[found.file]))


def repair(found: Damage) -> bool:
    """Do what is safe about it; whether anything was done."""
    if found.repair is None:
        return False
    found.repair()
    return True


def in_use(store: Store) -> str | None:
    """A run of the store whose lease is held, as far as can be told in `LEASE_WATCH_S`; None when there is none."""
    return held_by_a_living(store, [f"runs/{name}" for name in store.list_dirs("runs")], LEASE_WATCH_S)
