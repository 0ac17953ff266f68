"""One flipped bit in any file of a store: found by `caravan verify`, refused by who reads the file, mended without another digest."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flows.graph.logs import FILES, logged, parse_files, read_log
from flows.graph.runs import FILE, REPORT, Run, open_run
from flows.history.damage import find_damage
from pipeline.partitions import parse_record
from pipeline.snapshot import parse_cache
from storage.artifact import Manifest, find, read_entry
from storage.errors import IntegrityError
from storage.lease import parse_heartbeat
from storage.store import Store
from tests.acceptance.chaos_run import copy_store, digests_of, roots_of
from tests.acceptance.common import Finished, Place, caravan, different, raises


def kind_of(path: str) -> str:
    """What kind of file of a store this is."""
    parts = path.split("/")
    name, folder = parts[-1], parts[-2]
    if parts[0] == "cache":
        return "cache"
    if parts[0] == "runs":
        if folder == "lease":
            return "lease of a run"
        return {FILE: "run", REPORT: "page", FILES: "list of logs"}.get(name, "copy of a recipe" if len(parts) == 3 else "log")
    if folder in ("lease", "groups"):
        return {"lease": "lease of a trainer", "groups": "record of a group"}[folder]
    where = "step checkpoint" if "steps" in parts else parts[1]
    return (
        f"manifest of a {where}"
        if name == "manifest.json" and where == "step checkpoint"
        else ("manifest" if name == "manifest.json" else f"file of {where}")
    )


def use(store: Store, path: str) -> object:
    """Read a file as whoever needs it does. Raises IntegrityError when it is not believed."""
    parts, data = path.split("/"), store.read(path)
    root = "/".join(parts[:3])
    match kind_of(path):
        case "cache":
            return parse_cache(data, where=path)
        case "lease of a run" | "lease of a trainer":
            return parse_heartbeat(data, where=path)
        case "run":
            return open_run(store, parts[1])
        case "page" | "copy of a recipe":
            run = open_run(store, parts[1])
            if not run.verifies(parts[2]):
                raise IntegrityError(path, expected="the run's page", actual="another: it is stale")
            return run
        case "list of logs":
            return parse_files(data, where=path)
        case "log":
            names = {entry.path: name for name, entry in logged(store, root).items()}
            return read_log(store, root, names["/".join(parts[3:])])
        case "record of a group":
            return parse_record(data, path, root)
        case "manifest of a step checkpoint":
            return Manifest.from_json(data, where=path)
        case "manifest":
            return find(store, parts[1], parts[2])
        case "file of step checkpoint":
            step = "/".join(parts[:5])
            manifest = Manifest.from_json(store.read(f"{step}/manifest.json"), where=step)
            return read_entry(store, step, next(entry for entry in manifest.files if f"{step}/{entry.path}" == path))
        case _:
            found = find(store, parts[1], parts[2])
            assert found is not None
            return read_entry(store, root, next(entry for entry in found.files if f"{root}/{entry.path}" == path))


def flip(store: Store, path: str, rng: random.Random) -> Callable[[], None]:
    """Flip one bit of a file; returns what undoes it."""
    data = store.read(path)
    at = rng.randrange(len(data))
    store.write(path, data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    return lambda: store.write(path, data)


@dataclass(frozen=True)
class Flips:
    """How many files of each kind were flipped, which flips `verify` missed, which a reader believed, what else it named."""

    kinds: Counter[str]
    missed: list[str]
    believed: list[str]
    sound_named: list[str]


def flips(store: Store, n: int, rng: random.Random) -> Flips:
    """`n` flips in a store, one at a time, kinds in turn; each undone."""
    by_kind: dict[str, list[str]] = {}
    for file in store.list_files(""):
        if file.size_bytes and file.path.startswith(("artifacts/", "runs/", "cache/")):  # `again/` is what --force left: nobody reads it
            by_kind.setdefault(kind_of(file.path), []).append(file.path)
    found = Flips(Counter(), [], [], [])
    for number in range(n):
        kind = sorted(by_kind)[number % len(by_kind)]
        path = rng.choice(by_kind[kind])
        if "of" in kind and _is_unlisted(store, path):  # a file of an attempt that came to nothing is read by nobody
            continue
        undo = flip(store, path, rng)
        named = {damage.path for damage in find_damage(store, deep=True)}
        found.kinds[kind] += 1
        found.missed.extend([path] if path not in named else [])
        found.sound_named.extend(sorted(named - {path} - _same_file(store, path)))
        found.believed.extend([] if raises(lambda path=path: use(store, path), IntegrityError) else [path])  # type: ignore[misc]
        undo()
    return found


def _is_unlisted(store: Store, path: str) -> bool:
    return kind_of(path).startswith("file of") and path not in set(_listed(store, path))


def _listed(store: Store, path: str) -> Iterator[str]:
    """Files that the manifest over this one names."""
    parts = path.split("/")
    root = "/".join(parts[:5] if "steps" in parts else parts[:3])
    manifest = Manifest.from_json(store.read(f"{root}/manifest.json"), where=root)
    yield from (f"{root}/{entry.path}" for entry in manifest.files)


def _same_file(store: Store, path: str) -> set[str]:
    """Other names under which damage of this file may be told: the last step's checkpoint is the artifact's."""
    return {path.rpartition("/")[0]} if "steps" in path else set()


@dataclass(frozen=True)
class Scene:
    """A flip that a real command meets. `picks`: in which files. `unfinished`: stages that are to be made again.

    `said`: what the command says when it mends it by itself ("" = nothing); None: it names the file and stops.
    """

    name: str
    picks: Callable[[str], bool]
    unfinished: tuple[str, ...] = ()
    said: str | None = None


def scenes(run: Run) -> list[Scene]:
    """A flip of each kind that a command reads."""
    (trained,) = roots_of(run, "pretrain")
    last, grouped = max(path.rpartition("/")[0] for path in _steps(run)), whole_groups(run)
    return [
        Scene("documents that a stage reads", lambda path: path in _files(run, "documents", ".parquet"), ("dedup",)),
        Scene("counts of tokens that mix reads", lambda path: path in _files(run, "tokenize", "counts.json"), ("mix",)),
        Scene("a checkpoint that export reads", lambda path: path in _files(run, "anneal", ".distcp"), ("export",)),
        Scene("a manifest", lambda path: path == f"{roots_of(run, 'select')[0]}/manifest.json"),
        Scene("the newest step's checkpoint", lambda path: path.startswith(f"{last}/") and path.endswith(".distcp"), ("pretrain",), ""),
        Scene("a trainer's lease", lambda path: path.startswith(f"{trained}/lease/"), ("pretrain",), ""),
        Scene("a record of a group", lambda path: path in grouped, tuple({path.split("/")[1] for path in grouped}), "is done again"),
        Scene("a run's file", lambda path: path == f"{run.root}/{FILE}", (), f"{run.root}/{FILE}"),
        Scene("a run's page", lambda path: path == f"{run.root}/{REPORT}", (), ""),
        Scene("a cache", lambda path: path.startswith("cache/"), ("mix",), "every raw file is hashed again"),
    ]


def whole_groups(run: Run) -> set[str]:
    """The records of one stage whose groups' files are all there still: a run that goes on from them makes none of them again."""
    for stage in ("select", "tokenize", "quality", "domains", "coverage", "documents", "origins"):
        for root in roots_of(run, stage):
            there = {file.path for file in run.store.list_files(root)}
            records = {path for path in there if path.startswith(f"{root}/groups/")}
            groups = [parse_record(run.store.read(path), path, root) for path in records]
            if groups and all(f"{root}/{entry.path}" in there for group in groups for entry in group.files):
                return records
    raise AssertionError("every stage has steps between whose files are gone")


def _steps(run: Run) -> list[str]:
    (root,) = roots_of(run, "pretrain")
    return [file.path for file in run.store.list_files(f"{root}/steps") if file.path.endswith("manifest.json")]


def _files(run: Run, stage: str, end: str) -> set[str]:
    """Files of the artifacts of one kind whose names end so."""
    found = run.manifests(stage).values()
    return {f"{manifest.root}/{entry.path}" for manifest in found for entry in manifest.files if entry.name.endswith(end)}


def play(run: Run, here: Place, scene: Scene, rng: random.Random) -> str:
    """A copy of the finished store with one flip, and the command: what went wrong, or nothing.

    Where the command stops, the file is named, `caravan verify --repair` sets it aside, and the command is run again.
    """
    store = Store(here.store_uri)
    copy_store(run.store.local_path(""), store.local_path(""))
    for stage in scene.unfinished:
        for root in roots_of(run, stage):
            store.remove(f"{root}/manifest.json")
    picked = [file.path for file in store.list_files("") if scene.picks(file.path) and file.size_bytes]
    path = rng.choice(sorted(picked))
    flip(store, path, rng)
    first = here.run(check=False)
    if scene.said is not None:
        if first.code or scene.said not in first.output:
            return f"{path}: exit {first.code}, not mended by itself: {first.output[-300:]}"
    else:
        if not first.code or path not in first.output:
            return f"{path}: not named: exit {first.code}: {first.output[-300:]}"
        repaired = verify(here, "--deep", "--repair")
        if repaired.code:
            return f"{path}: verify --repair ended with {repaired.code}: {repaired.output[-300:]}"
        again = here.run(check=False)
        if again.code:
            return f"{path}: the run after the repair ended with {again.code}: {again.output[-300:]}"
    if found := different(digests_of(run), here.digests()):
        return f"{path}: another digest of {found[0]}"
    verify(here, "--deep", "--repair")  # a record that nobody needs any more is damaged still
    after = verify(here, "--deep")
    shutil.rmtree(store.local_path(""), ignore_errors=True)
    return f"{path}: damage is left: {after.output[-300:]}" if after.code else ""


def verify(here: Place, *arguments: str) -> Finished:
    """`caravan verify` in a place."""
    return caravan(["verify", "--execution", str(here.execution), *arguments], env=here.env, check=False)
