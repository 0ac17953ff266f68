"""Makes what the walk asks for: data stages in groups of work, torch stages in a child process, training under the launcher. RULE 11."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flows.graph.logs import METRICS, keep_logs, logs_of
from flows.graph.walk import Job, Sources
from flows.recipe.execution import TrainingStage
from flows.recipe.recipe import TrainedConfig
from flows.running.driver import Plan
from flows.running.launch import Attempt, TorchrunHere, run_attempts
from flows.running.making import ReportFile, make
from flows.running.tasks import DaskGroups, ThreadGroups, run_task, watched
from flows.running.terminal import Report, console
from flows.running.workers import Workers
from pipeline.partitions import RunGroups
from pipeline.snapshot import snapshot
from storage.artifact import BEGAN, Began, Manifest, artifact_root, find, fingerprint_of
from storage.disk import refusals
from storage.errors import CaravanError, ConfigError, IntegrityError
from storage.store import Store
from training.config import ROOM_BYTES, ROOM_FOR_RESULT, ArtifactRef, TrainSpec, expand_phases

# What bears on bytes when nothing else changed.
LIBRARIES = (
    "datasketch",
    "datatrove",
    "fasttext-numpy2-wheel",
    "fastwarc",
    "numpy",
    "pyarrow",
    "resiliparse",
    "turbohtml",
    "safetensors",
    "tokenizers",
    "torch",
    "trafilatura",
    "transformers",
)
AGAIN = "again"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Redirected(Store):
    """A store whose folder `old` lies at `new`: an artifact is executed again beside the one that stands."""

    old: str = ""
    new: str = ""

    def _moved(self, path: str) -> str:
        inside = path == self.old or path.startswith(f"{self.old}/")
        return self.new + path[len(self.old) :] if inside else path

    def local_path(self, path: str) -> Path:
        """The path in the local file system of `path`."""
        return super().local_path(self._moved(path))

    def full_path(self, path: str) -> str:
        """The path of `path` as fsspec takes it."""
        return super().full_path(path if self.is_local else self._moved(path))


def environment() -> dict[str, Any]:
    """Versions that bear on bytes."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "machine": platform.machine(), "libraries": versions}


@dataclass
class Performer:
    """Makes artifacts, each stage as a Prefect task. `dask`: the cluster's task runner, or None for workers of this machine."""

    plan: Plan
    workers: Workers
    dask: Any = None

    def __call__(self, jobs: Sequence[Job]) -> list[Manifest]:
        """The artifacts of one stage's jobs, in order."""
        title = jobs[0].key if len(jobs) == 1 else f"{jobs[0].key.rpartition('/')[0]} ({len(jobs)})"
        return run_task(jobs[0].stage.name, title, lambda: self._make(jobs, title, self.plan.store))

    def again(self, job: Job, standing: Manifest) -> None:
        """Execute a job whose artifact stands, beside it, and compare.

        Raises ConfigError when it stands from another execution, IntegrityError when the bytes differ.
        """
        if job.stage.name == "snapshot":
            return
        self._refuse_other_execution(job, standing)
        root = artifact_root(job.stage.artifact, job.fingerprint)
        aside = f"{AGAIN}/{uuid.uuid4().hex[:12]}"
        store = Redirected(self.plan.store.uri, old=root, new=aside)
        (made,) = run_task(job.stage.name, f"{job.key} again", lambda: self._make([job], f"{job.key} again", store))
        if made.digest != standing.digest:
            files = sorted(entry.name for entry in made.files if (entry.name, entry.sha256) not in _sums(standing))
            where = f"{root}/manifest.json (other bytes in {', '.join(files[:3]) or 'its files'}, kept in {aside})"
            raise IntegrityError(where, expected=f"digest {standing.digest}", actual=f"digest {made.digest}")
        self.plan.store.remove_tree(aside)
        console.print(f"  {job.key}: executed again, equal digest {made.digest[:16]}")

    def _refuse_other_execution(self, job: Job, standing: Manifest) -> None:
        now = self._info(job)
        for part in ("environment", "execution"):
            before = standing.info.get(part)
            if before is None and part == "execution":
                continue
            for field, new in sorted(now[part].items()):  # the trainer records more of its execution than bears on bytes
                old = (before or {}).get(field)
                if old != new:
                    was = f"{part}.{field} was {old} and is {new} now"
                    raise ConfigError(f"--force {job.stage.name}: {was}, so equal bytes are not promised")

    def _info(self, job: Job) -> dict[str, Any]:
        """What the manifest records beside the result."""
        return {"run": self.plan.run.name, "environment": environment(), "execution": self._execution(job)}

    def _execution(self, job: Job) -> dict[str, Any]:
        """The part of the execution under which equal bytes are promised."""
        if job.stage.where == "torchrun":
            place = self.plan.execution.place(_training_stage(job))
            return place.model_dump(mode="json", include={"parallel", "micro_batch_size", "device", "threads_per_rank"})
        if job.stage.name in ("export", "evaluate"):
            return self.plan.execution.evaluation.model_dump(mode="json")
        return {}

    def _make(self, jobs: Sequence[Job], title: str, store: Store) -> list[Manifest]:
        stage, raw = jobs[0].stage, self.plan.raw
        if stage.name == "snapshot":
            assert isinstance(jobs[0].config, Sources)
            return [snapshot(raw, store, jobs[0].config.sources)]
        if stage.where == "torchrun":
            return [self._train(job, store) for job in jobs]
        with watched(stage.name, title, stage.reports_in or "groups") as progress:
            groups = self._groups(stage.name, progress)
            if stage.where == "here":
                return [make(store, raw, self._info(job), job, groups) for job in jobs]
            return self._in_children(jobs, store, groups, progress)

    def _groups(self, stage: str, progress: Report) -> RunGroups:
        """Who runs groups of work: Dask, or workers of this machine."""
        if self.dask is None:
            return ThreadGroups(self.workers, progress)
        return DaskGroups(self.dask, stage, progress, self.plan.execution.credentials_block)

    def _in_children(self, jobs: Sequence[Job], store: Store, groups: RunGroups, progress: Report) -> list[Manifest]:
        info = self._info(jobs[0])
        if jobs[0].stage.name not in ("export", "evaluate"):
            work: Callable[[Job], Manifest] = partial(make, store, self.plan.raw, info)
            return list(groups(work, jobs))
        place = self.plan.execution.evaluation
        variables = {"OMP_NUM_THREADS": str(place.threads), **({} if place.device == "cuda" else {"CUDA_VISIBLE_DEVICES": ""})}
        return [self._in_child(job, store, {**info, BEGAN: Began.now()}, variables, progress) for job in jobs]

    def _in_child(self, job: Job, store: Store, info: dict[str, Any], variables: Mapping[str, str], progress: Report) -> Manifest:
        """One stage in a worker of its own, which says how far it is where the stage does."""
        work = partial(make, store, self.plan.raw, info, job)
        if not job.stage.reports_in:
            return self.workers.call(work, environment=variables)
        folder = self.plan.run.work_dir(self.plan.execution.work_dir)
        folder.mkdir(parents=True, exist_ok=True)
        report = ReportFile(folder / f"{job.stage.name}-{uuid.uuid4().hex[:8]}.progress")

        def watch() -> None:
            if (said := report.read()) is not None:
                progress(*said)

        try:
            return self.workers.call(partial(work, report=report), environment=variables, watch=watch)
        finally:
            report.path.unlink(missing_ok=True)

    def _train(self, job: Job, store: Store) -> Manifest:
        """One training stage under the launcher, its logs and metrics copied to the run."""
        began, again = Began.now(), isinstance(store, Redirected)
        if again:  # beside the one that stands, so as another
            payload = {**job.payload, AGAIN: uuid.uuid4().hex}
            job = replace(job, fingerprint=fingerprint_of(payload), payload=payload)
        name, fingerprint = _training_stage(job), job.fingerprint
        place = self.plan.execution.place(name)
        self._refuse_early(job, place.first_step)
        folder = self.plan.run.work_dir(self.plan.execution.work_dir) / f"{name}-{fingerprint[:12]}"
        assert isinstance(job.config, TrainedConfig)
        if not again:
            self.plan.run.training[name] = fingerprint
        metrics = folder / METRICS
        begin = metrics.stat().st_size if metrics.exists() else 0  # what an earlier call left says nothing of this one's progress
        n_steps = sum(phase.n_steps for phase in expand_phases(job.config.training.schedule))
        n_before = min(self._newest_checkpoint(job.stage.artifact, fingerprint), n_steps)  # an average is saved after the last step

        def prepare(_: int) -> Attempt:
            attempt = folder / f"attempt-{uuid.uuid4().hex[:8]}"
            with refusals("work_dir", attempt, ROOM_BYTES):
                return started(attempt)

        def started(attempt: Path) -> Attempt:
            attempt.mkdir(parents=True)
            spec = self._spec(job, folder, attempt, began)
            (attempt / "spec.json").write_text(spec.model_dump_json(indent=1))
            (attempt / ROOM_FOR_RESULT).write_bytes(os.urandom(ROOM_BYTES))
            variables = {"OMP_NUM_THREADS": str(place.threads_per_rank)}
            return Attempt(("-m", "training.run", "--spec", str(attempt / "spec.json")), place.parallel.world_size, attempt, variables)

        with watched(name, f"{name} ({place.parallel})", "steps") as progress:

            def watch() -> None:
                done, words = newest_step(metrics, begin, n_before)
                progress(done, n_steps, words)

            try:
                run_attempts(
                    TorchrunHere(),
                    prepare,
                    max_attempts=self.plan.execution.max_attempts,
                    timeout_s=self.plan.execution.attempt_timeout_s,
                    watch=watch,
                )
            finally:
                if not again:
                    self._keep_logs(logs_of(self.plan.run.name, name, fingerprint), folder)
        manifest = find(self.plan.store, job.stage.artifact, fingerprint)
        if manifest is None:
            raise IntegrityError(f"artifacts/{name}/{fingerprint}", expected="a manifest, as the trainer said", actual="none")
        if again:
            self.plan.store.remove_tree(artifact_root(job.stage.artifact, fingerprint))
        return manifest

    def _keep_logs(self, root: str, folder: Path) -> None:
        """Copy logs to the store; that this cannot be done is said, and ends nothing: how training ended counts."""
        try:
            keep_logs(self.plan.store, root, folder)
        except (CaravanError, OSError) as error:
            log.warning("the logs in %s could not be copied to the store: %s", folder, error)

    def _spec(self, job: Job, folder: Path, attempt: Path, began: Began) -> TrainSpec:
        assert isinstance(job.config, TrainedConfig)
        name = _training_stage(job)
        refs = {key: ArtifactRef(stage=value.stage, fingerprint=value.fingerprint) for key, value in job.inputs.items()}
        return TrainSpec(
            stage=name,
            store_uri=self.plan.store.uri,
            durable=self.plan.store.durable,
            fingerprint=job.fingerprint,
            payload=job.payload,
            model=job.config.model,
            training=job.config.training,
            execution=self.plan.execution.place(name).execution,
            tokens=refs["tokens"],
            plan=refs["plan"],
            parent=refs.get("checkpoint"),
            first_step=self.plan.execution.place(name).first_step,
            info={key: value for key, value in self._info(job).items() if key != "execution"} | {BEGAN: began},
            run_dir=str(folder),
            attempt_dir=str(attempt),
        )

    def _refuse_early(self, job: Job, first_step: int) -> None:
        newest = self._newest_checkpoint(job.stage.artifact, job.fingerprint)
        if newest < first_step:
            raise ConfigError(
                f"execution.training.{job.stage.name}.first_step: this mesh serves steps from {first_step:,}, and the newest checkpoint is "
                f"of step {newest:,}: run the steps before with another execution file"
            )

    def _newest_checkpoint(self, artifact: str, fingerprint: str) -> int:
        """After how many steps the newest step checkpoint was saved; 0 where there is none."""
        root = f"{artifact_root(artifact, fingerprint)}/steps"
        steps = sorted((step for step in self.plan.store.list_dirs(root) if step.isdigit()), key=int, reverse=True)
        return next((int(step) for step in steps if self.plan.store.exists(f"{root}/{step}/manifest.json")), 0)


def _sums(manifest: Manifest) -> set[tuple[str, str]]:
    return {(entry.name, entry.sha256) for entry in manifest.files}


def _training_stage(job: Job) -> TrainingStage:
    name: Any = job.stage.name
    return name  # type: ignore[no-any-return]  # only training stages run under the launcher


def newest_step(metrics: Path, begin: int = 0, n_before: int = 0) -> tuple[int, str]:
    """How many optimizer steps the last line from byte `begin` on has seen, and its loss and speed in words.

    Before the first line: the `n_before` steps of the checkpoint that training goes on from, and that it starts or goes on.
    """
    before = n_before, "going on" if n_before else "starting"
    try:
        with metrics.open("rb") as file:
            file.seek(max(begin, file.seek(0, 2) - 8192))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return before
    for line in reversed(lines):
        try:
            row = json.loads(line)
            return int(row["step"]) + 1, f"loss {row['loss']:.3f}, {row['tokens_per_s']:,.0f} tokens/s"
        except (ValueError, KeyError, TypeError):
            continue  # a line that is being written, or one of another kind
    return before
