"""The walk over the graph: what is fresh, what is not and by which field, what is asked for, what runs.

One graph (`flows/data_to_checkpoint.py`) is walked in three ways: to run it, to say what would run (dry run), to say how things stand
(status). What does not exist yet is `Pending`, so the walk goes on behind it. RULE 11.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

from flows.graph.differences import causes, root_of
from flows.graph.runs import Run
from flows.recipe.recipe import Recipe
from pipeline.ingest.config import SourceConfig
from pipeline.snapshot import Listing, listing_identity, look, read_listing
from storage.artifact import Manifest, find, identity
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict

# In the order of the path: `--from` and `--to` mean places in this list.
StageName = Literal[
    "snapshot",
    "ingest",
    "dedup",
    "quality",
    "domains",
    "select",
    "coverage",
    "train_tokenizer",
    "tokenize",
    "build_tasks",
    "mix",
    "pretrain",
    "extend_context",
    "anneal",
    "export",
    "evaluate",
    "report",
]
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True)
class Stage:
    """A node of the graph: its `name` on the command line, the `module` whose `run` makes the artifact, where that runs.

    here: the module's `run` in the flow's process, its groups in workers. child: all of it in a worker. torchrun: under the launcher.
    """

    name: StageName
    module: str
    where: Literal["here", "child", "torchrun"] = "here"
    run: str = "run"
    prefix: str = ""  # of the module's NAME and VERSION, where one module makes two artifacts
    takes_inputs: bool = True
    takes_raw: bool = False  # whether `run` takes `raw`, the store of raw_root
    reports_in: str = ""  # the unit in which `run` tells a `report` how far it is; "": it takes none

    @property
    def artifact(self) -> str:
        """The stage's name in the store."""
        return str(constants(self.module).get(f"{self.prefix}NAME", self.name))

    @property
    def version(self) -> int:
        """Bumped by a person when the stage's output changes for the same input."""
        return int(constants(self.module)[f"{self.prefix}VERSION"])


def constants(module: str) -> dict[str, str | int]:
    """The names and versions in a module's source: they must not cost the import of torch.

    Not by `ast.parse`: in a flow it once ended in "SystemError: AST constructor recursion depth mismatch" (3.11.7); the cause is a guess.
    """
    if module not in _CONSTANTS:
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"no module {module}"
        assert spec.origin is not None, f"no source of {module}"
        found = CONSTANT.findall(Path(spec.origin).read_text(encoding="utf-8"))
        _CONSTANTS[module] = {name: text or int(number) for name, text, number in found}
    return _CONSTANTS[module]


CONSTANT = re.compile(r'^(\w*(?:NAME|VERSION)) = (?:"(\w+)"|(\d+))(?:  #.*)?$', re.MULTILINE)
_CONSTANTS: dict[str, dict[str, str | int]] = {}


@dataclass(frozen=True)
class Pending:
    """An artifact that does not exist yet: of which stage, and why, as the field or input that differs.

    `root`: what began it, upstream; `begins`: the first stage that has to run for it.
    """

    stage: StageName
    key: str
    reason: str
    root: str
    begins: StageName


class Untouched(Store):
    """A store that is only read: what a dry run would note down is dropped."""

    def write(self, path: str, data: bytes) -> None:
        """Write nothing."""


def stage_name(name: str) -> StageName:
    """`name` as a stage. Raises ConfigError, naming those that there are."""
    for stage in STAGES:
        if stage == name:
            return stage
    raise ConfigError(f"no stage {name!r}; the stages are: {', '.join(STAGES)}")


Artifact = Manifest | Pending


class Sources(Strict):
    """What the snapshot is asked for."""

    sources: tuple[SourceConfig, ...]


State = Literal["fresh", "stale", "ran", "again", "damaged"]


@dataclass(frozen=True)
class Job:
    """An artifact that is asked for."""

    stage: Stage
    key: str
    config: BaseModel
    inputs: Mapping[str, Manifest]
    fingerprint: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class Visit:
    """What the walk found at one artifact. `reason` is empty when it is fresh; `asked` says whether the walk may run it.

    A walk finds no artifact `damaged`: whoever shows it looks (`flows/graph/soundness.py`).
    """

    key: str
    stage: StageName
    state: State
    reason: str
    asked: bool
    manifest: Manifest | None


@dataclass(frozen=True)
class Asked:
    """What is asked for: from a stage to a stage (both included), and whether fresh ones execute again."""

    first: StageName = STAGES[0]
    last: StageName = STAGES[-1]
    force: bool = False

    def __post_init__(self) -> None:
        if STAGES.index(self.first) > STAGES.index(self.last):
            raise ConfigError(f"nothing to do: {self.first} comes after {self.last}")

    def includes(self, stage: StageName) -> bool:
        """Whether `stage` is asked for."""
        return STAGES.index(self.first) <= STAGES.index(stage) <= STAGES.index(self.last)


Perform = Callable[[Sequence[Job]], Sequence[Manifest]]
Again = Callable[[Job, Manifest], None]


@dataclass
class Walk:
    """Visits the artifacts in the graph's order. Without `perform` nothing runs and nothing is written.

    `perform(jobs)` makes the artifacts of one stage; `again(job, standing)` executes one that stands and compares (RULE 11).
    """

    store: Store
    raw: Store
    run: Run
    asked: Asked = field(default_factory=Asked)
    perform: Perform | None = None
    again: Again | None = None
    visits: list[Visit] = field(default_factory=list)
    _changed: bool = False  # whether the run points elsewhere than its file says

    def __call__(self, stage: Stage, config: BaseModel, inputs: Mapping[str, Artifact], label: str = "") -> Artifact:
        """The artifact of a stage, run if it has to be and may be. `label` tells apart several artifacts of one stage."""
        return self.each(stage, {label: config}, inputs)[label]

    def look(self, stage: Stage, recipe: Recipe) -> Listing:
        """The listing of the raw files: looked up anew each time, published when that may run."""
        asked = self.asked.includes(stage.name)
        listing = look(self.raw, self.store if self.perform else Untouched(self.store.uri), recipe.sources)
        fingerprint, payload = listing_identity(listing)
        job = Job(stage, stage.artifact, Sources(sources=recipe.sources), {}, fingerprint, payload)
        if standing := find(self.store, stage.artifact, fingerprint):
            self._visited(job, "fresh", "", standing)
        elif asked and self.perform is not None:
            (manifest,) = self.perform([job])
            self._visited(job, "ran", "", manifest)
        else:
            self._pending(stage, stage.artifact, self._why_listing(stage, listing), asked)
        self._save()
        return listing

    def _why_listing(self, stage: Stage, listing: Listing) -> str:
        previous = self.run.manifest(stage.artifact)
        if previous is None:
            return "not made yet"
        before, lines = read_listing(self.store, previous), []
        for source in sorted({*before, *listing}):
            old, new = dict.fromkeys(before.get(source, ())), dict.fromkeys(listing.get(source, ()))
            added, gone = [file for file in new if file not in old], [file for file in old if file not in new]
            for what, files in (("new or changed", added), ("gone or changed", gone)):
                if files:
                    lines.append(f"{source}: {len(files)} of its files {what} ({files[0].path}{', …' if files[1:] else ''})")
        return "; ".join(lines) or "its artifact is gone"

    def each(self, stage: Stage, configs: Mapping[str, BaseModel], inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """Several artifacts of one stage that have the same inputs, by label; those that have to run, run together."""
        found: dict[str, Artifact] = {}
        jobs: dict[str, Job] = {}
        for label, config in configs.items():
            key = f"{stage.artifact}/{label}" if label else stage.artifact
            result = self._look(stage, config, inputs, key)
            if isinstance(result, Job):
                jobs[label] = result
            else:
                found[label] = result
        for (label, job), manifest in zip(jobs.items(), self.perform(list(jobs.values())) if self.perform and jobs else (), strict=True):
            found[label] = self._visited(job, "ran", "", manifest)
        self._save()
        return {label: found[label] for label in configs}

    def _look(self, stage: Stage, config: BaseModel, inputs: Mapping[str, Artifact], key: str) -> Manifest | Pending | Job:
        asked = self.asked.includes(stage.name)
        pending = {name: value for name, value in inputs.items() if isinstance(value, Pending)}
        ready = {name: value for name, value in inputs.items() if isinstance(value, Manifest)}
        if pending:
            self._refuse_unasked(stage, pending, asked)
            name, first = next(iter(pending.items()))
            begins = min((value.begins for value in pending.values()), key=STAGES.index)
            return self._pending(stage, key, f"input {name}: {first.root}", asked, root=first.root, begins=begins)
        fingerprint, payload = identity(stage.artifact, stage.version, config, {name: value.digest for name, value in ready.items()})
        job = Job(stage, key, config, ready, fingerprint, payload)
        if standing := find(self.store, stage.artifact, fingerprint):
            if asked and self.asked.force and self.again is not None:
                self.again(job, standing)
                return self._visited(job, "again", "", standing)
            return self._visited(job, "fresh", "", standing)
        if asked and self.perform is not None:
            return job
        return self._pending(stage, key, self._why(job), asked)

    def _refuse_unasked(self, stage: Stage, pending: Mapping[str, Pending], asked: bool) -> None:
        """RULE 11: a stage that is asked for does not run on inputs that are stale and not asked for."""
        for name, value in pending.items():
            if asked and not self.asked.includes(value.stage) and STAGES.index(value.stage) < STAGES.index(self.asked.first):
                raise ConfigError(f"{stage.name}: its input {name} is stale ({value.root}); run it too: --from {value.begins}")

    def note(self, visit: Visit) -> None:
        """Remember what was found at an artifact."""
        self.visits.append(visit)

    def _visited(self, job: Job, state: State, reason: str, manifest: Manifest) -> Manifest:
        self._changed |= self.run.point(job.key, manifest)
        self.note(Visit(job.key, job.stage.name, state, reason, self.asked.includes(job.stage.name), manifest))
        return manifest

    def _save(self) -> None:
        """Write the run's file when it points elsewhere than before: once for all artifacts of a stage, of which there may be thousands."""
        if self._changed and self.perform is not None:
            self.run.save()
        self._changed = False

    def _pending(self, stage: Stage, key: str, reason: str, asked: bool, root: str = "", begins: StageName | None = None) -> Pending:
        self.note(Visit(key, stage.name, "stale", reason, asked, None))
        root = root or root_of(key, stage.name, reason)
        return Pending(stage.name, key, reason, root, begins or stage.name)

    def _why(self, job: Job) -> str:
        previous = self.run.manifest(job.key)
        if previous is None:
            return "not made yet"
        return "; ".join(causes(self.store, previous.payload, job.payload, job.stage.name)) or "its artifact is gone"
