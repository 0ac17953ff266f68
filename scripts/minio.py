"""A MinIO server on this machine: for tests and benchmarks (`running_minio`), and by hand (`python -m scripts.minio`, `make minio`)."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import s3fs

from scripts.setup import minio_path
from storage.proxies import reach_loopback_directly

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Minio:
    """A running server: its endpoint, the credentials of its owner, its process id."""

    endpoint: str
    access_key: str
    secret_key: str
    pid: int

    def environment(self) -> dict[str, str]:
        """The variables by which `storage.Store`, s3fs and every AWS client find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def create_bucket(self, name: str) -> None:
        """Create the bucket `name` (at least 3 characters) unless it is there."""
        reach_loopback_directly()
        fs = s3fs.S3FileSystem(
            key=self.access_key, secret=self.secret_key, endpoint_url=self.endpoint, use_listings_cache=False, skip_instance_cache=True
        )
        if not fs.exists(name):
            fs.mkdir(name)


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before exec so that the kernel kills it when this process dies, even by kill -9. None where there is no prctl."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return before_exec


def _available(port: int | None) -> int:
    """`port`, or a free one. Raises OSError when the port is taken: a server that already answers there would pass for the one we start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that ended a moment ago does not count as one
        probe.bind((HOST, port or 0))
        return int(probe.getsockname()[1])


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/minio/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(data: Path, port: int, user: str, password: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it serves. Raises RuntimeError with the end of its log when it does not."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("MINIO_")}
    env |= {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password, "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [minio_path(), "server", "--quiet", "--address", f"{HOST}:{port}", data],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent(),
        )
    give_up = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < give_up:
        if _is_ready(port):
            return process
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise RuntimeError(f"MinIO did not start on {HOST}:{port}:\n{log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def running_minio(folder: Path, *, port: int | None = None, user: str = "caravan", password: str | None = None) -> Iterator[Minio]:
    """A server that keeps its data under `folder`, listens on loopback only, and is gone when the block or this process ends.

    Raises FileNotFoundError when the server was not built (`make setup`), OSError when `port` is taken, RuntimeError when the server
    does not start.
    """
    if not minio_path().is_file():
        raise FileNotFoundError(f"the MinIO server is not at {minio_path()}: run `make setup`")
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    secret = password or secrets.token_hex(16)
    chosen = _available(port)
    process = _start(data, chosen, user, secret, folder / "minio.log")
    try:
        yield Minio(f"http://{HOST}:{chosen}", user, secret, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _kept_password(path: Path) -> str:
    """The password kept in `path`, made there the first time, readable by its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"password": secrets.token_hex(16)}, file)
    return str(json.loads(path.read_text())["password"])


def main() -> None:
    """Serve ./.minio in the foreground until Ctrl-C, with a bucket `caravan` in it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".minio"), help="where the data and the password are kept")
    parser.add_argument("--port", type=int, default=9000, help="the port on 127.0.0.1")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options.port = _available(options.port)
    except OSError as error:
        parser.exit(1, f"port {options.port}: {error.strerror}. Choose another: python -m scripts.minio --port N\n")
    with running_minio(options.folder, port=options.port, password=_kept_password(options.folder / "password.json")) as server:
        server.create_bucket("caravan")
        print("# MinIO serves the bucket s3://caravan until Ctrl-C. In another shell, first:")
        print("\n".join(f"export {key}={value}" for key, value in server.environment().items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
