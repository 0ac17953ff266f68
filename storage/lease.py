"""The lease: at most one trainer writes to an artifact at a time, on any store, without a clock that machines share. RULE 10.

Files under an artifact's root: `lease/<n>`, n = 1, 2, 3, …, created with create-if-absent. The highest n is the lease that stands, and n
is the fencing token: what a holder publishes carries it, so that a reader can tell a late writer from the current one. The holder writes
its file with a counter; a waiter takes over, by creating `lease/<n+1>`, when the counter has not moved for `lease_timeout_s` on the
waiter's own monotonic clock, or at once when the holder has said that it is done. Nothing here ever deletes or lists a file.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from storage.errors import IntegrityError, RetryableError
from storage.store import Store

BEATS_PER_TIMEOUT = 5
MAX_POLL_S = 1.0


@dataclass(frozen=True)
class Heartbeat:
    """What a lease file says: who holds it, a counter that moves while the holder lives, and whether the holder let it go."""

    holder: str
    counter: int
    released: bool
    host: str
    pid: int


@dataclass
class Lease:
    """A held lease. `token` is n of `lease/<n>`; `still_holds()` says whether nobody has taken over since."""

    store: Store
    root: str
    token: int
    holder: str
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _failure: BaseException | None = field(default=None, repr=False)

    def still_holds(self) -> bool:
        """Read the store: whether this is still the newest lease. To be asked before anything is published.

        Raises whatever stopped the heartbeat (ConfigError when storage refuses us), RetryableError when storage keeps failing.
        """
        if self._failure is not None:
            raise self._failure
        if self.store.exists(lease_path(self.root, self.token + 1)):
            return False
        beat = read_heartbeat(self.store, self.root, self.token)
        return beat is not None and beat.holder == self.holder and not beat.released

    def _write(self, counter: int, *, released: bool = False) -> None:
        beat = Heartbeat(self.holder, counter, released, socket.gethostname(), os.getpid())
        self.store.write(lease_path(self.root, self.token), _encode(beat))

    def _beat(self, interval_s: float) -> None:
        """Rewrite the file until told to stop; a passing failure of storage is tried again at the next beat."""
        counter = 1
        while not self._stop.wait(interval_s):
            try:
                self._write(counter)
                counter += 1
            except RetryableError:
                continue
            except Exception as error:  # handed to the caller by still_holds()
                self._failure = error
                return


def lease_path(root: str, token: int) -> str:
    """The file of lease `token` of the artifact at `root`."""
    return f"{root}/lease/{token}"


def read_heartbeat(store: Store, root: str, token: int) -> Heartbeat | None:
    """What the file of lease `token` says, or None when there is no such lease. Raises IntegrityError when it is damaged."""
    path = lease_path(root, token)
    try:
        return Heartbeat(**json.loads(store.read(path)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise IntegrityError(path, expected="a heartbeat", actual=str(error)) from error


def newest_token(store: Store, root: str, known: int = 0) -> int:
    """The highest lease that exists, from `known` upwards; 0 when there is none. Tokens have no gaps, so no listing is needed."""
    while store.exists(lease_path(root, known + 1)):
        known += 1
    return known


def held_by_a_living(store: Store, roots: Iterable[str], watch_s: float) -> str | None:
    """The first of the artifacts at `roots` whose newest lease moves, or is let go, within `watch_s` seconds; None when nothing moves.

    Waits only where there is a lease that nobody has let go.
    """
    seen: dict[str, tuple[int, Heartbeat]] = {}
    for root in roots:
        token = newest_token(store, root)
        beat = read_heartbeat(store, root, token) if token else None
        if beat is not None and not beat.released:
            seen[root] = (token, beat)
    end = time.monotonic() + watch_s
    while seen and time.monotonic() < end:
        time.sleep(min(MAX_POLL_S, watch_s / (2 * BEATS_PER_TIMEOUT)))
        for root, (token, beat) in seen.items():
            if newest_token(store, root, token) > token or read_heartbeat(store, root, token) != beat:
                return root
    return None


@contextmanager
def hold(store: Store, root: str, lease_timeout_s: float, *, max_wait_s: float | None = None) -> Iterator[Lease]:
    """Hold the lease of the artifact at `root` for the length of the block; waits for it first.

    The block still has to ask `still_holds()` before it publishes: a holder that was stopped for longer than `lease_timeout_s` (seconds)
    loses the lease without being told. Raises RetryableError when another holder is alive after `max_wait_s` seconds of waiting
    (None: wait as long as it lives).
    """
    lease = _acquire(store, root, lease_timeout_s, max_wait_s)
    thread = threading.Thread(target=lease._beat, args=(lease_timeout_s / BEATS_PER_TIMEOUT,), name=f"lease {root}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease._stop.set()
        thread.join()
        if lease._failure is None and lease.still_holds():
            lease._write(-1, released=True)


def _acquire(store: Store, root: str, lease_timeout_s: float, max_wait_s: float | None) -> Lease:
    """Create the next lease as soon as the newest one is released or has stopped moving."""
    holder, started, token = uuid.uuid4().hex, time.monotonic(), 0
    seen: tuple[int, Heartbeat | None] | None = None
    moved_at = started
    while True:
        token = newest_token(store, root, token)
        beat = read_heartbeat(store, root, token) if token else None
        now = time.monotonic()
        if seen != (token, beat):
            seen, moved_at = (token, beat), now
        if beat is None or beat.released or now - moved_at >= lease_timeout_s:
            lease = Lease(store, root, token + 1, holder)
            first = Heartbeat(holder, 0, False, socket.gethostname(), os.getpid())
            if store.put_if_absent(lease_path(root, lease.token), _encode(first)):
                return lease
            continue
        if max_wait_s is not None and now - started >= max_wait_s:
            raise RetryableError(f"{lease_path(root, token)} is held by process {beat.pid} on {beat.host}, which is alive")
        time.sleep(min(MAX_POLL_S, lease_timeout_s / (2 * BEATS_PER_TIMEOUT)))


def _encode(beat: Heartbeat) -> bytes:
    return json.dumps(asdict(beat), sort_keys=True).encode()
