"""scripts/minio.py: the server that tests and users start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3fs

from scripts import minio as minio_script
from scripts.minio import Minio, running_minio

GONE_WITHIN_S = 20.0


def is_alive(pid: int) -> bool:
    """Whether the process `pid` is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_the_server_dies_with_its_starter(tmp_path: Path, project: Path) -> None:
    """kill -9 of the process that started the server leaves no server behind."""
    code = (
        "import sys, time, pathlib; from scripts.minio import running_minio\n"
        "with running_minio(pathlib.Path(sys.argv[1])) as server: print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=project, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
        os.kill(starter.pid, signal.SIGKILL)
    give_up = time.monotonic() + GONE_WITHIN_S
    while is_alive(pid) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_the_server_ends_with_its_block(tmp_path: Path) -> None:
    """After the block the server is gone and what it kept is still there for the next one."""
    with running_minio(tmp_path, password="at least eight") as server:
        server.create_bucket("kept")
        server.create_bucket("kept")  # idempotent
    assert not is_alive(server.pid)
    with running_minio(tmp_path, password="at least eight") as again:
        fs = s3fs.S3FileSystem(key=again.access_key, secret=again.secret_key, endpoint_url=again.endpoint, skip_instance_cache=True)
        assert fs.ls("") == ["kept"]


def test_a_wrong_password_is_refused_by_the_server(minio: Minio) -> None:
    """The server of the tests checks credentials, so that tests of wrong ones mean something."""
    fs = s3fs.S3FileSystem(key=minio.access_key, secret="not the password", endpoint_url=minio.endpoint, skip_instance_cache=True)
    with pytest.raises(PermissionError):
        fs.ls("some-bucket")


def test_a_server_that_was_not_built_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the binary the message names the place and `make setup`."""
    monkeypatch.setattr(minio_script, "minio_path", lambda: tmp_path / "minio")
    with pytest.raises(FileNotFoundError, match="make setup"), running_minio(tmp_path):
        pass


def test_a_taken_port_is_refused(tmp_path: Path, minio: Minio) -> None:
    """A second server on the port of another is refused: the first one's answers must not pass for the second one's."""
    taken = int(minio.endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), running_minio(tmp_path, port=taken):
        pass


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The error holds the server's own words."""
    with pytest.raises(RuntimeError, match=r"(?s)did not start.*at least 8 characters"), running_minio(tmp_path, password="short"):
        pass


def test_the_kept_password_stays_and_is_private(tmp_path: Path) -> None:
    """`make minio` has the same password each time, in a file that only its owner reads."""
    path = tmp_path / "folder" / "password.json"
    first = minio_script._kept_password(path)
    assert minio_script._kept_password(path) == first
    assert path.stat().st_mode & 0o077 == 0
