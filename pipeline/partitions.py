"""The one driver of the data stages: plan, work, finish. DESIGN decision 7, RULE 9.

A stage is a list of steps. A step plans groups of work (small picklable values) from the results of the step before;
`work(group, output)` writes files through `output` and returns counts. Each finished group leaves a record in the store, so that a later
attempt skips it; groups depend on the inputs alone, never on the number of workers, and a record's name holds a hash of what its group
covers: after a change of how work is cut, what is left of an older attempt is not taken for something else. The files of the steps marked
`final` make the artifact.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from storage.artifact import Attempt, FileEntry, HashingWriter, Manifest, find, identity, verify_entry
from storage.errors import IntegrityError
from storage.sealed import seal, unseal
from storage.store import Store
from storage.strict import Strict
from storage.tables import write_table

log = logging.getLogger(__name__)

COVERS_DIGITS = 12


@dataclass(frozen=True)
class GroupResult:
    """What a group of work left: its files, its counts, and a little JSON (`note`) for the next step's plan. `root` is the artifact's
    folder."""

    step: str
    n: int
    root: str
    files: tuple[FileEntry, ...]
    counts: dict[str, int]
    note: Any = None

    def entry(self, name: str) -> FileEntry:
        """The file with logical name `name`. Raises KeyError."""
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(name)


@dataclass
class Output:
    """Where a group writes: files by logical name, counts, and a JSON note for the next step's plan."""

    attempt: Attempt
    entries: list[FileEntry] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    note: Any = None

    def create(self, name: str) -> AbstractContextManager[HashingWriter]:
        """Write the file `name` as bytes, in a `with` block."""
        return self.attempt.create(name, self.entries)

    def table(self, name: str, table: pa.Table) -> None:
        """Write the Parquet table `name`."""
        write_table(self.attempt, name, table, self.entries)


Work = Callable[[Any, Output], None]
Results = dict[str, list[GroupResult]]


@dataclass(frozen=True)
class Step:
    """One step: `plan(results of earlier steps, by step name) -> groups`, and the work on a group. `final` files make the artifact."""

    name: str
    plan: Callable[[Results], Sequence[Any]]
    work: Work
    final: bool = True


T = TypeVar("T")
R = TypeVar("R")


class RunGroups(Protocol):
    """Runs a picklable function on every group, like `map`; the order of results is the order of groups."""

    def __call__(self, function: Callable[[Any], Any], groups: Sequence[Any], /) -> Iterable[Any]: ...


def map_groups(function: Callable[[T], R], groups: Sequence[T], /) -> Iterator[R]:
    """Run the groups here, one after the other."""
    return map(function, groups)


def run_stage(
    *,
    store: Store,
    stage: str,
    version: int,
    config: Strict,
    inputs: Mapping[str, Manifest],
    steps: Sequence[Step],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
    check: Callable[[Results], None] | None = None,
) -> Manifest:
    """Make the artifact, or return it when it is there already.

    `check` looks at all results before anything is published and may raise (ConfigError, InputError). The counts of all steps are summed
    into the manifest; counts of the form `reason:<name>` are reasons. `info` is recorded beside them.
    """
    fingerprint, payload = identity(stage, version, config, {name: manifest.digest for name, manifest in inputs.items()})
    if standing := find(store, stage, fingerprint):
        return standing
    attempt, results = Attempt(store, stage, fingerprint), Results()
    try:
        for step in steps:
            groups = list(step.plan(results))
            done = run_groups(partial(_run_group, attempt, step.name, step.work), list(enumerate(groups)))
            results[step.name] = list(done)
    except IntegrityError:
        if standing := find(store, stage, fingerprint):  # another attempt finished meanwhile, and removed the files between the steps
            return standing
        raise
    if check is not None:
        check(results)
    final = [result for step in steps if step.final for result in results[step.name]]
    counts: Counter[str] = Counter()
    for step in steps:
        for result in results[step.name]:
            counts.update(result.counts)
    files = [file for result in final for file in result.files]
    _check_names(attempt.root, files)
    manifest = attempt.publish(payload, files, counts=dict(sorted(counts.items())), info=dict(info or {}))
    _remove_intermediate(store, attempt.root, manifest, results)
    return manifest


def _run_group(attempt: Attempt, step: str, work: Work, numbered: tuple[int, Any]) -> GroupResult:
    n, group = numbered
    covers = hashlib.sha256(repr(group).encode()).hexdigest()[:COVERS_DIGITS]
    record = f"{attempt.root}/groups/{step}-{n:05d}-{covers}.json"
    while True:
        if done := _finished(attempt, record):
            return done
        output = Output(attempt)
        work(group, output)
        result = GroupResult(step, n, attempt.root, tuple(output.entries), dict(output.counts), output.note)
        data = seal(asdict(result))
        attempt.settle(result.files)
        if attempt.store.put_if_absent(record, data):
            return parse_record(data, record, attempt.root)  # what a later attempt reads, so that a plan cannot tell the two apart


def _finished(attempt: Attempt, record: str) -> GroupResult | None:
    """What a group of that record left, its files read through; None when it has to be done, or done again.

    A record that does not verify, or whose files do not, is set aside. Raises IntegrityError when the artifact stands: whoever made it
    has removed the files between the steps.
    """
    store = attempt.store
    try:
        done = parse_record(store.read(record), record, attempt.root)
        for entry in done.files:
            verify_entry(store, attempt.root, entry)
    except FileNotFoundError:
        return None
    except IntegrityError as error:
        if find(store, attempt.stage, attempt.fingerprint):
            raise
        is_gone = isinstance(error.__cause__, FileNotFoundError)  # as files between the steps are, where an artifact was set aside
        if not is_gone:
            log.warning("%s: that group of work is done again", str(error).partition(";")[0])
        store.set_aside(record)
        return None
    return done


def parse_record(data: bytes, path: str, root: str) -> GroupResult:
    """The result of a group from the bytes of its record, which lies at `path`. Raises IntegrityError when they are damaged."""
    raw = unseal(data, where=path, what="a group record")
    try:
        return GroupResult(**{**raw, "root": root, "files": tuple(FileEntry(**entry) for entry in raw["files"])})
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(path, expected="a group record", actual=str(error)) from error


def _check_names(root: str, files: Sequence[FileEntry]) -> None:
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    assert not twice, f"{root}: two groups wrote {twice[:3]}"


def _remove_intermediate(store: Store, root: str, manifest: Manifest, results: Results) -> None:
    """Remove files between the steps: the manifest stands, so nobody will read them again."""
    wanted = {file.path for file in manifest.files}
    for result in (result for step in results.values() for result in step):
        for file in result.files:
            if file.path not in wanted:
                store.remove(f"{root}/{file.path}")
