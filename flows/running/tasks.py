"""One thin Prefect task per stage: names, retries where a retry can mend, artifacts. The result cache is off: manifests decide.

A task takes a callable and gives manifests back; it knows nothing of data. Groups of work run in worker processes of this machine, or
as Prefect tasks on Dask, where the execution file says so.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import httpx
from prefect import Task, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from flows.graph.walk import STAGES
from flows.recipe.recipe import TRAINING_STAGES
from flows.running.driver import use_credentials
from flows.running.terminal import Report, progress_of
from flows.running.workers import Workers
from storage.artifact import Manifest
from storage.errors import RetryableError

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_DELAYS_S: list[float] = [2, 10]
PROGRESS_INTERVAL_S = 2.0  # an update costs 73 ms
SHOWN_COUNTS = 200

Work = Callable[[], list[Manifest]]


def shown(publish: Callable[[], T]) -> T | None:
    """Publish what people look at in Prefect. A server that does not answer is said, and costs no work: it may be starting again."""
    try:
        return publish()
    except httpx.TransportError as error:
        log.warning("Prefect's server does not answer (%s): something is not shown there; the work goes on", type(error).__name__)
        return None


class Here:
    """Work that stays in this process: on Dask, Prefect pickles the parameters of the task that submits groups along with each group."""

    def __init__(self, work: Work | None) -> None:
        self.work = work

    def __reduce__(self) -> tuple[type[Here], tuple[None]]:
        return (Here, (None,))


def may_retry(_task: Task[..., Any], _run: Any, state: State[Any]) -> bool:
    """Whether a failed task is worth another try: only what another try can mend."""
    return isinstance(state.result(raise_on_failure=False), RetryableError)


@task(
    name="stage",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
)
def stage_task(stage: str, title: str, here: Here) -> list[Manifest]:
    """Make the artifacts of one stage and publish what they count."""
    started = time.monotonic()
    assert here.work is not None
    manifests = here.work()
    get_run_logger().info("%s: %d artifact(s) in %.1f s", title, len(manifests), time.monotonic() - started)
    rows = [{"artifact": m.stage, "fingerprint": m.fingerprint, "digest": m.digest[:16], **counts_of(m)} for m in manifests]
    shown(lambda: create_table_artifact(key=artifact_key(stage), table=rows, description=f"{title}: what it made"))
    return manifests


# One per stage, so that each has its name in the interface and can be told apart in the API. Training has its launcher's attempts.
TASKS: dict[str, Task[[str, str, Here], list[Manifest]]] = {
    name: stage_task.with_options(
        name=name, description=f"The stage {name} of the path.", retries=0 if name in TRAINING_STAGES else len(RETRY_DELAYS_S)
    )
    for name in STAGES
}


def run_task(stage: str, title: str, work: Work) -> list[Manifest]:
    """Run `work` as the Prefect task of a stage; `title` names the task run."""
    named = TASKS[stage].with_options(task_run_name=title.replace("{", "{{").replace("}", "}}"))
    return named(stage, title, Here(work))


def artifact_key(name: str) -> str:
    """A name as Prefect takes it for an artifact: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def counts_of(manifest: Manifest) -> dict[str, int]:
    """The counts of a manifest for a table (a checkpoint has none that people read)."""
    return dict(sorted(manifest.counts.items())[:SHOWN_COUNTS])


@contextlib.contextmanager
def watched(stage: str, title: str, unit: str) -> Iterator[Report]:
    """Progress on the terminal and as a Prefect artifact."""
    key, description = f"{artifact_key(stage)}-progress", f"{title}: {unit}"
    artifact: Any = shown(lambda: create_progress_artifact(0.0, key=key, description=description))

    def update(percent: float) -> None:
        if artifact is not None:
            shown(lambda: update_progress_artifact(artifact, progress=percent))

    last = time.monotonic()
    with progress_of(title, unit) as bar:

        def report(done: int, total: int, beside: str = "", /) -> None:
            nonlocal last
            bar(done, total, beside)
            if total and time.monotonic() - last >= PROGRESS_INTERVAL_S:
                last = time.monotonic()
                update(100.0 * done / total)

        yield report
        update(100.0)


def publish_markdown(name: str, text: str, description: str) -> None:
    """A markdown artifact of the current run."""
    shown(lambda: create_markdown_artifact(key=artifact_key(name), markdown=text, description=description))


class ThreadGroups:
    """`run_groups` in worker processes of this machine, with progress."""

    def __init__(self, workers: Workers, progress: Report) -> None:
        self._workers, self._progress = workers, progress

    def __call__(self, function: Callable[[Any], Any], groups: Sequence[Any], /) -> list[Any]:
        """Run every group; results in the order of groups."""
        return self._workers.run_groups(function, groups, self._progress)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
)
def group_task(job: bytes, credentials_block: str | None) -> Any:
    """One group of work on a Dask worker. `job`: pickled (function, group), so that Prefect does not walk through it."""
    _use_credentials_once(credentials_block)
    function, group = pickle.loads(job)
    return function(group)


@functools.cache
def _use_credentials_once(block: str | None) -> None:
    """A Dask worker has no variables of the flow's process: it reads the block itself, once."""
    use_credentials(block, "")


class DaskGroups:
    """`run_groups` on a Dask cluster, a Prefect task for each group. Dask runs the groups of a dead worker again by itself."""

    def __init__(self, runner: Any, stage: str, progress: Report, credentials_block: str | None) -> None:
        self._runner, self._progress, self._credentials_block = runner, progress, credentials_block
        self._task = group_task.with_options(name=f"{stage} group")

    def __call__(self, function: Callable[[Any], Any], groups: Sequence[Any], /) -> list[Any]:
        """Run every group; results in the order of groups."""
        jobs = [{"job": pickle.dumps((function, group)), "credentials_block": self._credentials_block} for group in groups]
        futures = [self._runner.submit(self._task, parameters=job) for job in jobs]
        results = []
        for done, future in enumerate(futures):
            self._progress(done, len(groups))
            results.append(future.result())
        self._progress(len(groups), len(groups))
        return results


@contextlib.contextmanager
def dask_cluster(address: str | None, workers: int) -> Iterator[Any]:
    """Prefect's Dask task runner on the cluster at `address`, or on one of `workers` processes that ends with the block."""
    from prefect_dask.task_runners import DaskTaskRunner

    local = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=local) as runner:
        yield runner
