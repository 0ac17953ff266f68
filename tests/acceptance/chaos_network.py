"""MinIO killed and started again while a run goes on, behind a proxy that drops, resets and delays connections; and MinIO gone for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from scripts.minio import HOST, Minio, running_minio
from tests.acceptance.chaos_run import start
from tests.acceptance.common import Place

DROPPED = 0.05  # of connections
RESET = 0.02  # of connections, after some bytes of an answer
DELAYED = 0.02  # of connections
DELAY_S = 2.0
PAUSE_S = 1.0  # that MinIO is away
PIECE_BYTES = 64 << 10


@dataclass
class Faults:
    """What the proxy did."""

    connections: int = 0
    dropped: int = 0
    reset: int = 0
    delayed: int = 0


@dataclass
class Proxy:
    """A TCP proxy on loopback, in a thread of its own, before the server at `port`."""

    port: int
    rng: random.Random
    faults: Faults = field(default_factory=Faults)
    address: str = ""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve for the length of the block."""
        started = threading.Event()
        thread = threading.Thread(target=self._serve, args=(started,), name="proxy", daemon=True)
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connection, HOST, 0))
        self.address = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        started.set()
        self._loop.run_forever()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.faults.connections += 1
        drawn = self.rng.random()
        if drawn < DROPPED:
            self.faults.dropped += 1
            writer.transport.abort()
            return
        is_reset = drawn < DROPPED + RESET
        if DROPPED + RESET <= drawn < DROPPED + RESET + DELAYED:
            self.faults.delayed += 1
            await asyncio.sleep(DELAY_S)
        try:
            above_reader, above_writer = await asyncio.open_connection(HOST, self.port)
        except OSError:  # MinIO is away
            writer.transport.abort()
            return
        limit = self.rng.randint(100, 200_000) if is_reset else None
        tasks = [asyncio.ensure_future(_pass(reader, above_writer, None)), asyncio.ensure_future(_pass(above_reader, writer, limit))]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self.faults.reset += is_reset and any(task.result() for task in done)
        for task in waiting:
            task.cancel()
        for side in (writer, above_writer):
            side.transport.abort()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter, limit: int | None) -> bool:
    """Pass bytes on until there are none, or `limit` of them; whether the limit ended it."""
    n_passed = 0
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            target.write(piece)
            await target.drain()
            n_passed += len(piece)
            if limit is not None and n_passed >= limit:
                return True
    return False


class Restarted:
    """A MinIO server that can be killed and started again at its port, on its data."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder, self._opened = folder, opened
        self.server: Minio = opened.enter_context(running_minio(folder))
        self.n_killed = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(urlsplit(self.server.endpoint).port or 0)

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.n_killed += 1

    def start(self) -> None:
        """Start it again, as it was."""
        time.sleep(0.2)
        self.server = self._opened.enter_context(running_minio(self._folder, port=self.port, password=self.server.secret_key))


def run_through_faults(
    here: Place, minio: Restarted, proxy: Proxy, n_kills: int, rng: random.Random, env: Mapping[str, str]
) -> tuple[int, str]:
    """`caravan run` on MinIO behind the proxy, which is killed and comes back `n_kills` times meanwhile: exit code and output.

    Where the run ends sooner, the rest of the kills are not done: their number is `minio.n_killed`.
    """
    command = start(here, env={**env, **minio.server.environment(), "AWS_ENDPOINT_URL": proxy.address})
    while command.process.poll() is None:
        time.sleep(rng.uniform(1.0, 6.0))
        if minio.n_killed < n_kills and command.process.poll() is None:
            minio.kill()
            time.sleep(PAUSE_S)
            minio.start()
    return command.process.returncode, command.output()
