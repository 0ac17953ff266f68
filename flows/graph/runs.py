"""A run: `runs/<name>/` in the store, a small file that points at artifacts, with the run's metrics, logs and report beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from flows.processes import start_of
from storage.artifact import Manifest, find
from storage.errors import ConfigError, IntegrityError
from storage.store import Store

FORMAT = 1
METRICS = "metrics.jsonl"  # of a training stage, in its folder of logs
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}")

State = Literal["new", "running", "finished", "failed", "partial"]


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

    @property
    def artifacts_hash(self) -> str:
        """A hash of what the run points at."""
        return hashlib.sha256(json.dumps({k: v.digest for k, v in self.artifacts.items()}, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def report_path(self) -> str:
        """Where the run's page is, in the store."""
        return f"{self.root}/report.html"

    @property
    def report_is_fresh(self) -> bool:
        """Whether the page shows what the run points at."""
        return self.report_of == self.artifacts_hash and self.store.exists(self.report_path)

    @property
    def root(self) -> str:
        """The run's folder in the store."""
        return f"runs/{self.name}"

    def work_dir(self, folder: str) -> Path:
        """The run's folder on this machine, for what grows while it runs."""
        return Path(folder) / self.name

    def save(self) -> None:
        """Write run.json, and the recipe and the execution as YAML beside it."""
        values = {key: value for key, value in asdict(self).items() if key not in ("store", "name")}
        self.store.write(
            f"{self.root}/run.json", json.dumps({"format": FORMAT, "name": self.name, **values}, indent=1, sort_keys=True).encode()
        )

    def begin(self, recipe: dict[str, Any], execution: dict[str, Any], flow_run: str) -> None:
        """The run is running, here, with these files."""
        self.recipe, self.execution, self.flow_run = recipe, execution, flow_run
        self.state, self.started_at_s, self.ended_at_s, self.error, self.training = "running", time.time(), None, "", {}
        self.host, self.pid, self.pid_start = socket.gethostname(), os.getpid(), start_of(os.getpid()) or 0
        for name, value in (("recipe", recipe), ("execution", execution)):
            self.store.write(f"{self.root}/{name}.yaml", yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode())
        self.save()

    def end(self, state: State, error: str = "") -> None:
        """The run has ended."""
        self.state, self.ended_at_s, self.error = state, time.time(), error
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
        if self.state != "running":
            return False
        if self.host != socket.gethostname() or not os.path.isdir("/proc"):
            return True
        start = start_of(self.pid)
        return start is not None and self.pid_start in (start, 0)

    def check_not_running(self) -> None:
        """Raises ConfigError while another process of this machine runs it: both would write its file, its logs and its state.

        Of another machine nobody can say; there the lease keeps trainers apart (RULE 10).
        """
        if self.host == socket.gethostname() and self.pid != os.getpid() and self.is_alive:
            raise ConfigError(
                f"run {self.name} is running already, as process {self.pid}: wait for it, or give this one another name: --run"
            )


def logs_of(run: str, stage: str, fingerprint: str) -> str:
    """The folder in the store of a training stage's metrics, logs of what was fed and output, by the run that trained it. RULE 8."""
    return f"runs/{run}/{stage}-{fingerprint[:12]}"


def open_run(store: Store, name: str) -> Run:
    """The run of that name, or a new one. Raises ConfigError for a name that is none, IntegrityError for a damaged file."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"run name {name!r}: letters, digits, dot, dash and underscore, at most 100")
    path = f"runs/{name}/run.json"
    try:
        raw = json.loads(store.read(path))
        if raw.pop("format") != FORMAT or raw.pop("name") != name:
            raise ValueError("another format or name")
        return Run(store, name, **{**raw, "artifacts": {key: Pointer(**value) for key, value in raw["artifacts"].items()}})
    except FileNotFoundError:
        return Run(store, name)
    except (ValueError, TypeError, KeyError) as error:
        raise IntegrityError(path, expected="a run", actual=str(error)) from error


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
