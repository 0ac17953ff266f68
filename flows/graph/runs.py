"""A run: `runs/<name>/` in the store, a small file that points at artifacts, with the run's metrics, logs and report beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from storage.artifact import Manifest, find
from storage.errors import ConfigError, IntegrityError
from storage.hosts import is_gone, start_of, this_host
from storage.lease import Lease, LeaseHeld, hold
from storage.sealed import check_format, seal, unseal
from storage.store import Store

log = logging.getLogger(__name__)

FORMAT = 2
FILE = "run.json"
REPORT = "report.html"
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")
LEASE_TIMEOUT_S = 30.0  # a run of another machine that has not moved for so long is taken over
RENEW = "the next `caravan run` of its recipe makes it again from what is in the store"

State = Literal["new", "running", "finished", "failed", "cancelled", "partial"]


@dataclass(frozen=True)
class Pointer:
    """An artifact by name."""

    stage: str
    fingerprint: str
    digest: str

    @staticmethod
    def to(manifest: Manifest) -> Pointer:
        """The pointer to a manifest."""
        return Pointer(manifest.stage, manifest.fingerprint, manifest.digest)


@dataclass
class Run:
    """What `runs/<name>/run.json` holds. `artifacts` by key (`ingest/web`); recipe and execution are the resolved ones."""

    store: Store
    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    state: State = "new"
    artifacts: dict[str, Pointer] = field(default_factory=dict)
    started_at_s: float | None = None
    ended_at_s: float | None = None
    host: str = ""
    pid: int = 0
    pid_start: int = 0  # `processes.start_of` it; 0: not known
    flow_run: str = ""
    training: dict[str, str] = field(default_factory=dict)  # fingerprint by training stage that this start of it trained or began to
    error: str = ""
    report_of: str = ""  # hash of the artifacts that the report shows
    sums: dict[str, str] = field(default_factory=dict)  # sha256 (hex) of the run's other files, by name
    lease: Lease | None = field(default=None, repr=False, compare=False)  # of this process, while it runs the run
    is_damaged: bool = False  # the file did not verify, and nothing of it was believed

    @property
    def artifacts_hash(self) -> str:
        """A hash of what the run points at."""
        return hashlib.sha256(json.dumps({k: v.digest for k, v in self.artifacts.items()}, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def report_path(self) -> str:
        """Where the run's page is, in the store."""
        return f"{self.root}/{REPORT}"

    @property
    def report_is_fresh(self) -> bool:
        """Whether the page shows what the run points at, and is as it was written."""
        return self.report_of == self.artifacts_hash and self.verifies(REPORT)

    def verifies(self, name: str) -> bool:
        """Whether the run's file of that name is as it was written."""
        with contextlib.suppress(FileNotFoundError):
            return hashlib.sha256(self.store.read(f"{self.root}/{name}")).hexdigest() == self.sums.get(name)
        return False

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run. Its sum is in the run's file once that is saved."""
        self.store.write(f"{self.root}/{name}", data)
        self.sums[name] = hashlib.sha256(data).hexdigest()

    def write_report(self, page: bytes, shows: str) -> None:
        """Write the page. `shows`: the `artifacts_hash` of what the run pointed at when it was made."""
        self.write(REPORT, page)
        self.report_of = shows
        self.save()

    @property
    def root(self) -> str:
        """The run's folder in the store."""
        return f"runs/{self.name}"

    def work_dir(self, folder: str) -> Path:
        """The run's folder on this machine, for what grows while it runs."""
        return Path(folder) / self.name

    def save(self) -> None:
        """Write the run's file. Raises ConfigError when another process has taken the run over meanwhile."""
        if self.lease is not None and not self.lease.still_holds():
            raise ConfigError(f"run {self.name} was taken over by another process while this one stood still: that one goes on with it")
        values = {key: value for key, value in asdict(replace(self, lease=None)).items() if key not in NOT_SAVED}
        self.store.write(f"{self.root}/{FILE}", seal({"format": FORMAT, "name": self.name, **values}))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Run the run in this process alone, for the length of the block.

        Raises ConfigError at once while another process, of this machine or another, runs it: both would write its file, its logs and its
        state. A run of another machine that does not move is taken over after `LEASE_TIMEOUT_S`.
        """
        with contextlib.ExitStack() as held:
            try:
                self.lease = held.enter_context(hold(self.store, self.root, LEASE_TIMEOUT_S, refuse=True))
            except LeaseHeld as error:
                raise self._running(error.beat.host, error.beat.pid) from error
            try:
                yield
            finally:
                self.lease = None

    def _running(self, host: str, pid: int) -> ConfigError:
        where = "" if host == this_host() else f" on {host.partition(' ')[0]}"
        return ConfigError(
            f"run {self.name} is running already, as process {pid}{where}: wait for it, or give this one another name: --run"
        )

    def renew(self) -> None:
        """Take over what the run's file says now, where it was written since this was read."""
        now = open_or_renew(self.store, self.name)
        for name in (each.name for each in fields(Run) if each.name not in ("store", "name", "lease")):
            setattr(self, name, getattr(now, name))

    def begin(self, recipe: dict[str, Any], execution: dict[str, Any], flow_run: str) -> None:
        """The run is running, here, with these files."""
        if self.is_damaged:
            self.store.set_aside(f"{self.root}/{FILE}")
            self.is_damaged = False
        self.recipe, self.execution, self.flow_run = recipe, execution, flow_run
        self.state, self.started_at_s, self.ended_at_s, self.error, self.training = "running", time.time(), None, "", {}
        self.host, self.pid, self.pid_start = this_host(), os.getpid(), start_of(os.getpid()) or 0
        self.write_copies()

    def write_copies(self) -> None:
        """Write recipe and execution as YAML beside the run's file, for people, and save."""
        for name, value in (("recipe", self.recipe), ("execution", self.execution)):
            self.write(f"{name}.yaml", yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())
        self.save()

    def conclude(self, state: State, error: str = "") -> None:
        """The run has come to an end. Does not save."""
        self.state, self.ended_at_s, self.error = state, time.time(), error

    def end(self, state: State, error: str = "") -> None:
        """The run has ended."""
        self.conclude(state, error)
        self.save()

    def point(self, key: str, manifest: Manifest) -> bool:
        """Let `key` point at an artifact; returns whether it pointed elsewhere before. Does not save."""
        pointer = Pointer.to(manifest)
        changed = self.artifacts.get(key) != pointer
        self.artifacts[key] = pointer
        return changed

    def manifest(self, key: str) -> Manifest | None:
        """The manifest that `key` points at, or None. Raises IntegrityError."""
        pointer = self.artifacts.get(key)
        return None if pointer is None else find(self.store, pointer.stage, pointer.fingerprint)

    def need(self, key: str) -> Manifest:
        """The manifest that `key` points at. Raises ConfigError when the run has none yet."""
        if found := self.manifest(key):
            return found
        raise ConfigError(f"run {self.name} has no {key} yet: caravan run --to {key.partition('/')[0]}")

    def manifests(self, stage: str) -> dict[str, Manifest]:
        """Every manifest of a stage by label (`web` for `ingest/web`)."""
        keys = [key for key in self.artifacts if key.partition("/")[0] == stage]
        return {key.partition("/")[2]: found for key in sorted(keys) if (found := self.manifest(key))}

    @property
    def is_alive(self) -> bool:
        """Whether it says that it runs, and its process on this machine does; on another machine, whether it says so."""
        return self.state == "running" and not is_gone(self.host, self.pid, self.pid_start)

    def check_not_running(self) -> None:
        """Raises ConfigError while another process of this machine runs it. A look before any work; `held` is what excludes."""
        if self.host == this_host() and self.pid != os.getpid() and self.is_alive:
            raise self._running(self.host, self.pid)


NOT_SAVED = ("store", "name", "lease", "is_damaged")


def open_run(store: Store, name: str) -> Run:
    """The run of that name, or a new one. Raises ConfigError for a name that is none, IntegrityError for a damaged file."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"run name {name!r}: letters, digits, dot, dash and underscore, at most 100")
    try:
        return parse_run(store, name, store.read(f"runs/{name}/{FILE}"))
    except FileNotFoundError:
        return Run(store, name)


def parse_run(store: Store, name: str, data: bytes) -> Run:
    """The run of that name from the bytes of its file. Raises IntegrityError when they are damaged."""
    path = f"runs/{name}/{FILE}"
    check_format(data, FORMAT, path)
    raw = unseal(data, where=path, what="a run", remedy=RENEW)
    try:
        found, asked = f"format {raw.pop('format')}, name {raw.pop('name')}", f"format {FORMAT}, name {name}"
        if found != asked:
            raise IntegrityError(path, expected=asked, actual=found, remedy=RENEW)
        return Run(store, name, **{**raw, "artifacts": {key: Pointer(**value) for key, value in raw["artifacts"].items()}})
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(path, expected="a run", actual=str(error), remedy=RENEW) from error


def open_or_renew(store: Store, name: str) -> Run:
    """The run of that name, or a new one also where its file is damaged: what it points at is found again by walking the graph."""
    try:
        return open_run(store, name)
    except IntegrityError as error:
        log.warning("%s", error)
        return Run(store, name, is_damaged=True)


def existing_run(store: Store, name: str) -> Run:
    """The run of that name. Raises ConfigError, naming those that there are."""
    run = open_run(store, name)
    if run.state == "new":
        names = ", ".join(store.list_dirs("runs")) or "none"
        raise ConfigError(f"no run {name!r} in {store.uri}; there are: {names}")
    return run


def all_runs(store: Store) -> Iterator[Run]:
    """Every run of a store, by name."""
    for name in store.list_dirs("runs"):
        run = open_run(store, name)
        if run.state != "new":
            yield run
