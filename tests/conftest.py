"""What every test can use: a real MinIO server, stores on it, a Hypothesis profile that does not depend on the machine's speed."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from scripts.minio import Minio, running_minio
from storage.store import Store

# A plain `pytest` must behave as `make test` does, and leave the user's ~/.prefect alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
_PREFECT_HOME = tempfile.mkdtemp(prefix="caravan-prefect-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)
os.environ["PREFECT_HOME"] = _PREFECT_HOME

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in a shell's background: all that tests start would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

pytest_plugins = ["tests.finished_run"]
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the project."""
    return PROJECT


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Tests reach this machine only: a connection to another one fails at once, and names the address."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        is_remote = self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK
        if is_remote and self.type & socket.SOCK_STREAM:
            raise RuntimeError(f"a test tried to connect to {address}: tests need no network")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minio]:
    """A MinIO server of this test session on a free loopback port; the AWS variables point at it while it runs."""
    with running_minio(tmp_path_factory.mktemp("minio")) as server, pytest.MonkeyPatch.context() as patch:
        for key, value in server.environment().items():
            patch.setenv(key, value)
        for key in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
            patch.delenv(key, raising=False)
        yield server


@pytest.fixture
def s3_store(minio: Minio, request: pytest.FixtureRequest) -> Store:
    """A store on MinIO in a bucket of its own, named after the test."""
    slug = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:30].strip("-")
    bucket = f"{slug}-{uuid.uuid4().hex[:8]}"
    minio.create_bucket(bucket)
    return Store(f"s3://{bucket}/caravan")
