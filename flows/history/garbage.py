"""What of a store no run needs: artifacts that no run's were made from, files of dead attempts, step checkpoints of finished training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.graph.runs import FILE, all_runs, open_run
from storage.artifact import find
from storage.errors import ConfigError
from storage.lease import held_by_a_living
from storage.store import SET_ASIDE, FileInfo, Store

# Small files beside the bytes that say how an artifact came about: group records are not needed once the manifest stands.
KEPT_NAMES = ("manifest.json",)
LEASE_WATCH_S = 30.0  # what `lease_timeout_s` of an execution is by default; only a trainer that was killed makes gc wait that long


@dataclass(frozen=True)
class Garbage:
    """Files that go together, and why."""

    what: str
    reason: str
    files: tuple[FileInfo, ...]

    @property
    def size_bytes(self) -> int:
        """Their size."""
        return sum(file.size_bytes for file in self.files)


def find_garbage(store: Store, *, watch_s: float = LEASE_WATCH_S) -> list[Garbage]:
    """What `caravan gc` would remove, by folder.

    Raises ConfigError while a run of the store is running, or a trainer that no run knows of: one whose lease moves within `watch_s`
    seconds.
    """
    used: set[tuple[str, str]] = set()
    for name in store.list_dirs("runs"):
        _refuse_forgotten(store, name)
    for run in all_runs(store):
        if run.is_alive:
            raise ConfigError(f"run {run.name} is running on {run.host} (pid {run.pid}): what it writes looks like garbage until it ends")
        used |= {(pointer.stage, pointer.fingerprint) for pointer in run.artifacts.values()}
    used |= _made_from(store, used)
    found = [*_artifacts(store, used)]
    unfinished = [item.what for item in found if not store.exists(f"{item.what}/manifest.json")]
    if held := held_by_a_living(store, unfinished, watch_s):
        raise ConfigError(f"{held} is being written: its lease moves. Wait until that ends")
    if leaked := tuple(store.list_temporaries("")):
        found.append(Garbage("temporary files", "left by processes that were killed", leaked))
    if aside := tuple(file for file in store.list_files("runs") if SET_ASIDE in file.path):
        found.append(Garbage("runs", "set aside because they did not verify", aside))
    again = tuple(store.list_files("again")) if "again" in store.list_dirs("") else ()
    if again:
        found.append(Garbage("again", "left by --force", again))
    return found


def _refuse_forgotten(store: Store, name: str) -> None:
    """Raises ConfigError for a run whose file was damaged and that has not been run since: what it pointed at looks unused."""
    aside = [file for file in store.list_files(f"runs/{name}") if file.path.startswith(f"runs/{name}/{FILE}{SET_ASIDE}")]
    if aside and open_run(store, name).state not in ("finished", "partial"):
        raise ConfigError(
            f"run {name}: its file was damaged, and nobody knows what it points at: run its recipe first (`caravan run --run {name}`),"
            f" or remove runs/{name} in the store to give the run up"
        )


def _artifacts(store: Store, used: set[tuple[str, str]]) -> Iterator[Garbage]:
    for stage in store.list_dirs("artifacts"):
        for fingerprint in store.list_dirs(f"artifacts/{stage}"):
            root = f"artifacts/{stage}/{fingerprint}"
            files = tuple(store.list_files(root))
            if not files:
                continue  # on a disk the folder of something that was removed stays
            if (stage, fingerprint) not in used:
                yield Garbage(root, _why_unused(store, stage, fingerprint), files)
                continue
            manifest = find(store, stage, fingerprint)
            if manifest is None:
                continue  # a run refers to it and it is gone: status will say so
            wanted = {f"{root}/{entry.path}" for entry in manifest.files} | {f"{root}/{name}" for name in KEPT_NAMES}
            rest = tuple(file for file in files if file.path not in wanted and not _says_who_wrote(file.path, root))
            if rest:
                yield Garbage(root, "working files of a finished stage; the artifact stays", rest)


def _made_from(store: Store, used: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What the artifacts in use were made from, at any depth: after a run in part, the checkpoint's selection is no longer the run's."""
    names = [(stage, fingerprint) for stage in store.list_dirs("artifacts") for fingerprint in store.list_dirs(f"artifacts/{stage}")]
    manifests = {name: manifest for name in names if (manifest := find(store, *name)) is not None}
    by_digest = dict[str, set[tuple[str, str]]]()
    for name, manifest in manifests.items():
        by_digest.setdefault(manifest.digest, set()).add(name)
    found, new = set[tuple[str, str]](), used & manifests.keys()
    while new:
        digests = {digest for name in new for digest in manifests[name].payload.get("inputs", {}).values()}
        new = {name for digest in digests for name in by_digest.get(digest, ())} - found - used
        found |= new
    return found


def _why_unused(store: Store, stage: str, fingerprint: str) -> str:
    """A run points at what is finished only, so what an interrupted one would go on from looks unused: say so before it is lost."""
    steps = [int(name) for name in store.list_dirs(f"artifacts/{stage}/{fingerprint}/steps") if name.isdigit()]
    if find(store, stage, fingerprint) is not None or not steps:
        return "no run refers to it"
    return f"unfinished: a run of its recipe would go on from step {max(steps):,}"


def _says_who_wrote(path: str, root: str) -> bool:
    """Leases stay: a late writer must still find that its own was taken over (RULE 10)."""
    return path.startswith(f"{root}/lease/")


def remove(store: Store, garbage: list[Garbage]) -> None:
    """Remove it. The manifest of an artifact goes first, so that no reader finds one without its files."""
    for item in garbage:
        manifests = [file.path for file in item.files if file.path.endswith("/manifest.json")]
        for path in manifests:
            store.remove(path)
        store.flush_names(manifests)  # a power cut may keep the manifest, or lose the files, but not both
        for file in item.files:
            store.remove(file.path)
