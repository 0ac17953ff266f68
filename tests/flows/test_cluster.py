"""Work elsewhere: groups on a Dask cluster give the digests of this machine's workers, and credentials from a Prefect block stay secret."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from flows.graph.runs import open_run
from flows.graph.walk import StageName
from flows.processes import death_signal_setter
from flows.report.build import build_report
from flows.running.driver import use_credentials
from flows.running.prefect_flows import whole_path
from scripts.minio import Minio, running_minio
from storage.errors import ConfigError
from storage.store import Store
from tests.acceptance.common import TEST_RECIPE, Place, place

pytestmark = pytest.mark.timeout(900)  # every group is a Prefect task here: slow on a loaded machine
START_TIMEOUT_S = 120
BIN = Path(sys.executable).parent
BLOCK = "caravan-test-s3"


def without_aws() -> dict[str, str]:
    """The environment, without what says where S3 is."""
    return {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}


def in_background(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process that dies with this one; it has no credentials."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            env=without_aws(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=death_signal_setter(signal.SIGTERM),
        )


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A Dask scheduler with two workers of one thread, as `dask scheduler` and `dask worker` start them."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    processes = [in_background(["dask", "scheduler", *common, "--port", "0"], folder / "scheduler.log")]
    deadline = time.monotonic() + START_TIMEOUT_S
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker = ["dask", "worker", *common, "--nworkers", "2", "--nthreads", "1", "--local-directory", str(folder)]
    processes.append(in_background(worker, folder / "worker.log"))
    with Client(scheduler_file=str(file), set_as_default=False) as client:  # type: ignore[no-untyped-call]
        client.wait_for_workers(2, START_TIMEOUT_S)
        yield client
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


def kill_one_at_work(dask: Client, killed: list[int], stop: threading.Event) -> None:
    """kill -9 a worker while it works on a group."""
    pids: dict[str, int] = dask.run(os.getpid)
    while not killed and not stop.wait(0.01):
        working: dict[str, list[str]] = dask.processing()  # type: ignore[no-untyped-call]
        busy = [address for address, keys in working.items() if keys]
        if busy:
            os.kill(pids[busy[0]], signal.SIGKILL)
            killed.append(pids[busy[0]])


def run_to(here: Place, stage: StageName) -> dict[str, str]:
    """Run to a stage by the flow; the digests."""
    whole_path(str(here.recipe), str(here.execution), None, to_stage=stage)
    return here.digests()


def on_dask(dask: Client) -> dict[str, Any]:
    """The fields of an execution file that send groups to a cluster."""
    return {"runner": "dask", "dask_address": dask.scheduler_info()["address"]}


def test_a_dask_cluster_gives_the_same_digests_though_a_worker_is_killed(
    prefect_server: None, dask: Client, finished_folder: Path, tmp_path: Path
) -> None:
    """From extraction to the decision; the groups of the killed worker are run again."""
    ours = {key: pointer.digest for key, pointer in open_run(Store(str(finished_folder / "store")), "test").artifacts.items()}
    here = place(tmp_path, TEST_RECIPE, raw_root=finished_folder / "raw", **on_dask(dask))
    killed, stop = list[int](), threading.Event()
    killer = threading.Thread(target=kill_one_at_work, args=(dask, killed, stop))
    killer.start()
    try:
        theirs = run_to(here, "select")
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 1
    assert {"extract/pages/pages-0.warc.gz", "documents/pages", "dedup", "quality", "domains", "select"} <= theirs.keys()
    assert theirs == {key: ours[key] for key in theirs}
    assert killed[0] not in dask.run(os.getpid).values()
    assert not (tmp_path / "work/test/workers.log").exists(), "no group was run by workers of this machine"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """A MinIO server of which no variable tells, whose user's name stands nowhere else: the session's is called caravan."""
    with running_minio(tmp_path_factory.mktemp("secret-minio"), user=f"user{secrets.token_hex(8)}") as server:
        server.create_bucket("secret")
        yield server


@pytest.fixture
def block(prefect_server: None, s3: Minio, monkeypatch: pytest.MonkeyPatch) -> str:
    """A block on the Prefect server with all that is needed to reach `s3`; the variables of this process are unset."""
    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    for key in s3.environment():  # what the flow sets in this process is undone after the test
        monkeypatch.setenv(key, "")
        monkeypatch.delenv(key)
    Secret(value=json.dumps(s3.environment())).save(BLOCK, overwrite=True)
    return f"secret/{BLOCK}"


def holds(data: bytes, s3: Minio) -> bool:
    """Whether a credential is in it."""
    return s3.secret_key.encode() in data or s3.access_key.encode() in data


def in_prefect() -> bytes:
    """All that the server tells about flow runs, task runs, logs and artifacts, and its deployments' parameters."""
    with get_client(sync_client=True) as client:
        found: list[Any] = [*client.read_flow_runs(), *client.read_task_runs(), *client.read_artifacts(), *client.read_logs()]
        assert found
    return b"\n".join(item.model_dump_json().encode() for item in found)


def test_credentials_from_a_block_reach_every_process_and_no_record(
    block: str, s3: Minio, dask: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line and its workers, then a flow on Dask, run on S3 with nothing but the block's name; grep finds no credential."""
    fields: dict[str, Any] = {"credentials_block": block, "store_uri": "s3://secret/command"}
    here = place(tmp_path / "here", TEST_RECIPE, **fields)
    variables = {**without_aws(), "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    command = [str(BIN / "caravan"), "run", *here.arguments, "--to", "ingest"]
    done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]

    fields |= {"store_uri": "s3://secret/dask", **on_dask(dask)}
    there = place(tmp_path / "there", TEST_RECIPE, raw_root=tmp_path / "here/raw", **fields)
    theirs = run_to(there, "ingest")
    assert theirs == here.digests()

    store = Store("s3://secret")
    report = build_report(open_run(Store(here.store_uri), "test")).encode()
    records = {info.path: store.read(info.path) for info in store.list_files("")}
    records |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"command/runs/test/run.json", "dask/runs/test/execution.yaml"} <= records.keys()
    assert block.encode() in records["command/runs/test/execution.yaml"]
    records |= {"output": done.stdout + done.stderr, "report": report, "server": in_prefect()}
    assert [name for name, data in records.items() if holds(data, s3)] == []
    assert holds(yaml.safe_dump(s3.environment()).encode(), s3), "the search would find one"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"'secret/caravan-no-block': ValueError; expected secret/<name>"),
        ("hunter2-no-json", r"ValueError; expected secret/<name>, a Prefect secret block that holds a JSON object"),
        ('{"AWS_REGION": "x", "PATH": "hunter2"}', r"holds 'PATH'; only AWS_\* variables, as text"),
        ('{"AWS_SECRET_ACCESS_KEY": ["hunter2"]}', r"holds 'AWS_SECRET_ACCESS_KEY'; only AWS_\* variables, as text"),
    ],
)
def test_a_block_that_is_none_or_holds_something_else_is_refused(
    prefect_server: None, tmp_path: Path, value: str | None, message: str
) -> None:
    """By its name, never with what it holds; nothing is set."""
    name = "caravan-no-block" if value is None else "caravan-wrong-block"
    if value is not None:
        Secret(value=value).save(name, overwrite=True)
    before = dict(os.environ)
    with pytest.raises(ConfigError, match=message) as caught:
        use_credentials(f"secret/{name}", str(tmp_path))
    assert "hunter2" not in str(caught.value)
    assert {key for key in os.environ if key.startswith("AWS_")} == {key for key in before if key.startswith("AWS_")}
