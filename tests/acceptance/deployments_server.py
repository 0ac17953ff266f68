"""A Prefect server and a worker as a user starts them, under a folder and on a free port of their own, to try deployments on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterType, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from flows.processes import death_signal_setter
from flows.running.perform import newest_step
from flows.running.tasks import artifact_key
from tests.acceptance.common import PROJECT, Finished, Place, command_stage
from tests.acceptance.processes import MARK, processes_of

HOST = "127.0.0.1"
T = TypeVar("T")

START_TIMEOUT_S = 300.0
GONE_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 3600.0
POLL_S = 0.3
SAY_INTERVAL_S = 30.0
WHOLE_PATH = "data-to-checkpoint/whole-path"
STEPS_BEFORE_CANCEL = 2
# What a run in training consists of, by a part of each command line.
PROCESSES = {
    "flow": "prefect.engine",
    "of the workers": "flows.running.nursery",
    "agent": "torch.distributed.run",
    "rank(s)": "-u -m training.run",
}
POOL = "caravan"  # as in prefect.yaml


@dataclass
class Deployed:
    """The running pair. Every process that the worker starts carries `mark` in its environment; the server carries another."""

    folder: Path
    env: Mapping[str, str]
    client: SyncPrefectClient
    mark: str
    server: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes] = field(init=False)

    def prefect(self, *arguments: str, check: bool = True) -> Finished:
        """`prefect …` as a user types it. Raises RuntimeError with the end of its output when it fails and `check` is set."""
        started = time.monotonic()
        done = subprocess.run(
            [_prefect(), "--no-prompt", *arguments],
            cwd=PROJECT,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_TIMEOUT_S,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"prefect {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return Finished(done.returncode, done.stdout, time.monotonic() - started)

    def deployments(self) -> list[str]:
        """`flow/deployment` of every deployment that the server has."""
        flows = {flow.id: flow.name for flow in self.client.read_flows()}
        return sorted(f"{flows[found.flow_id]}/{found.name}" for found in self.client.read_deployments())

    def start(self, deployment: str, *, variables: Mapping[str, str] | None = None, **parameters: Any) -> UUID:
        """A run of a deployment. `variables` are set in its processes. Raises PrefectHTTPStatusError where the server refuses it."""
        found = self.client.read_deployment_by_name(deployment)
        job = {"env": dict(variables)} if variables else {}
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters, job_variables=job).id

    def refusal(self, deployment: str, **parameters: Any) -> str:
        """What the server says to a run with these parameters; empty when it takes it."""
        try:
            self.cancel(self.start(deployment, **parameters))
        except PrefectHTTPStatusError as error:
            return str(error.response.json()["detail"])
        return ""

    def wait(self, run: UUID) -> FlowRun:
        """The run in its final state; says every half minute what it is at."""
        said = time.monotonic()

        def final() -> FlowRun | None:
            """The run once it has ended."""
            nonlocal said
            found = self.client.read_flow_run(run)
            if found.state is not None and found.state.is_final():
                return found
            if time.monotonic() - said > SAY_INTERVAL_S:
                said = time.monotonic()
                running = [name for name, state in self.tasks(run).items() if state == "Running"]
                print(f"        {found.name}: {found.state_name}, {', '.join(running) or 'between stages'}", flush=True)
            return None

        return wait_until(final, RUN_TIMEOUT_S, f"flow run {run}; see {self.folder / 'worker.log'}")

    def cancel(self, run: UUID) -> None:
        """What the button and `prefect flow-run cancel` do."""
        self.client.set_flow_run_state(run, State(type=StateType.CANCELLING))

    def artifacts(self, run: UUID, kind: str) -> dict[str, Any]:
        """The data of a run's artifacts of one kind (table, progress, markdown), by key; the last of those that share one."""
        found = self.client.read_artifacts(
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=[kind])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
        )
        return {str(artifact.key): artifact.data for artifact in sorted(found, key=lambda artifact: str(artifact.created))}

    def tasks(self, run: UUID) -> dict[str, str]:
        """State of every task run of a run, by name."""
        found = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
        return {task.name: str(task.state_name) for task in found}

    def children(self) -> dict[int, str]:
        """Command line of every process that the worker's runs started, or that they left behind."""
        return {pid: command_line(pid) for pid in processes_of(self.mark) if pid != self.worker.pid}

    def unpublished(self, run: UUID, here: Place) -> list[str]:
        """Artifacts that a run of the whole path owes its server and that are not there: a table and a progress per stage, the summary."""
        stages = {command_stage(key.partition("/")[0]) for key in here.state().artifacts}
        owed = {
            "table": {artifact_key(stage) for stage in {*stages, "report"}},
            "progress": {f"{artifact_key(stage)}-progress" for stage in stages - {"snapshot"}},
            "markdown": {f"{artifact_key(here.state().name)}-summary"},
        }
        return sorted(f"{kind} {key}" for kind, keys in owed.items() for key in keys - self.artifacts(run, kind).keys())

    def left_behind(self) -> dict[int, str]:
        """What a run that has ended has left, after some seconds of grace."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.children(), GONE_TIMEOUT_S, "the children of the worker")
        return self.children()


def _prefect() -> str:
    return str(Path(sys.executable).parent / "prefect")


def command_line(pid: int) -> str:
    """A process as it was started; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def wait_until(found: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """The first true answer of `found()`. Raises TimeoutError, naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: waited {timeout_s:.0f} s")
        time.sleep(POLL_S)
    return answer


def _start(arguments: list[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`prefect …` in the background. It dies with this process, and SIGINT is not ignored (FACTS.md: else SIGTERM never stops a worker)."""
    dies_with_us = death_signal_setter(signal.SIGTERM)

    def before_exec() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        dies_with_us()

    with log.open("ab") as output:
        return subprocess.Popen(
            [_prefect(), "--no-prompt", *arguments],
            cwd=PROJECT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=before_exec,
        )


def _alive(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"{log.stem} ended with {process.returncode}:\n{log.read_text(errors='replace')[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GONE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def server_and_worker(folder: Path) -> Iterator[Deployed]:
    """A server, and a worker of the pool `caravan`, until the block ends. Nothing is deployed yet. Raises RuntimeError or TimeoutError."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    mark = uuid.uuid4().hex
    env = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PWD": str(PROJECT),  # what a shell sets: prefect.yaml's pull step reads it
    }
    server_log, worker_log = folder / "server.log", folder / "worker.log"
    server = _start(["server", "start", "--host", HOST, "--port", str(port), "--no-ui"], {**env, MARK: f"{mark}-server"}, server_log)
    try:
        with SyncPrefectClient(env["PREFECT_API_URL"]) as client:
            found = Deployed(folder, env, client, mark, server)
            wait_until(lambda: _answers(found, server_log), START_TIMEOUT_S, "the Prefect server")
            found.worker = _start(["worker", "start", "--pool", POOL, "--type", "process"], {**env, MARK: mark}, worker_log)
            try:
                wait_until(lambda: _has_pool(found, worker_log), START_TIMEOUT_S, "the worker")
                yield found
            finally:
                _stop(found.worker)
    finally:
        _stop(server)


def _answers(found: Deployed, log: Path) -> bool:
    _alive(found.server, log)
    return found.client.api_healthcheck() is None


def _has_pool(found: Deployed, log: Path) -> bool:
    _alive(found.worker, log)
    try:
        found.client.read_work_pool(POOL)
    except ObjectNotFound:
        return False
    return True


def endless(here: Place, times: int) -> Place:
    """The place with a pretraining that many times as long, so that there is time to cancel it."""

    def change(raw: dict[str, Any]) -> None:
        schedule = raw["pretrain"]["schedule"]
        budget = "n_steps" if schedule.get("n_steps") else "n_tokens"
        schedule[budget] *= times
        raw["pretrain"]["max_epochs"] *= times

    return here.with_recipe(change, f"endless-{times}.yaml")


def cancel_in_training(
    deployed: Deployed, here: Place, *, times: int = 1000, variables: Mapping[str, str] | None = None
) -> tuple[FlowRun, dict[int, str], dict[str, Any]]:
    """Start a pretraining `times` as long as the recipe's, from mix on, and cancel it after two optimizer steps.

    Returns the run at its end, the processes that it had when it was cancelled, and its progress artifacts then. The data stages must be
    in the store, and `times` must be new there: training that is resumed cannot be told from training that was.
    """
    long = endless(here, times)
    work_dir = Path(yaml.safe_load(here.execution.read_text())["work_dir"]) / here.state().name
    before = set(work_dir.glob("pretrain-*"))
    files = {"recipe": str(long.recipe), "execution": str(long.execution)}
    run = deployed.start(WHOLE_PATH, variables=variables, **files, from_stage="mix", to_stage="pretrain")

    def trains() -> bool:
        found = deployed.client.read_flow_run(run)
        if found.state is not None and found.state.is_final():
            raise RuntimeError(f"the run to be cancelled ended by itself: {found.state.name}: {found.state.message}")
        return any(newest_step(folder / "metrics.jsonl")[0] >= STEPS_BEFORE_CANCEL for folder in set(work_dir.glob("pretrain-*")) - before)

    wait_until(trains, RUN_TIMEOUT_S, "training")
    had, progress = deployed.children(), deployed.artifacts(run, "progress")
    deployed.cancel(run)
    return deployed.wait(run), had, progress
