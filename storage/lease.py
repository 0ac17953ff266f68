"""The lease: at most one trainer writes to an artifact at a time, on any store, without a clock that machines share. RULE 10.

Files under an artifact's root: `lease/<n>`, n = 1, 2, 3, …, created with create-if-absent. The highest n is the lease that stands, and n
is the fencing token: what a holder publishes carries it, so that a reader can tell a late writer from the current one. The holder writes
its file with a counter; a waiter takes over, by creating `lease/<n+1>`, when the counter has not moved for `lease_timeout_s` on the
waiter's own monotonic clock, or at once when the holder has said that it is done, or was a process of the waiter's machine that has ended.
Nothing here ever deletes or lists a file.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from storage.errors import CaravanError, IntegrityError, RetryableError
from storage.hosts import is_gone, start_of, this_host
from storage.sealed import seal, unseal
from storage.store import Store

log = logging.getLogger(__name__)

DAMAGED = "?"
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
    start: int  # of the process, in clock ticks since boot; 0: not known

    @property
    def is_gone(self) -> bool:
        """Whether nobody will move it again: the holder let it go, or was a process of this machine that has ended."""
        return self.released or is_gone(self.host, self.pid, self.start)


@dataclass
class Lease:
    """A held lease. `token` is n of `lease/<n>`; `still_holds()` says whether nobody has taken over since."""

    store: Store
    root: str
    token: int
    holder: str
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def still_holds(self) -> bool:
        """Read the store: whether this is still the newest lease. To be asked before anything is published.

        Raises ConfigError when storage refuses us, RetryableError when it keeps failing.
        """
        if self.store.exists(lease_path(self.root, self.token + 1)):
            return False
        beat = read_heartbeat(self.store, self.root, self.token)
        if beat is not None and beat.holder == DAMAGED:  # nobody else writes this file: the next beat mends it
            return True
        return beat is not None and beat.holder == self.holder and not beat.released

    def _write(self, counter: int, *, released: bool = False) -> None:
        self.store.write(lease_path(self.root, self.token), _encode(_beat_of(self.holder, counter, released=released)))

    def _beat(self, interval_s: float) -> None:
        """Rewrite the file until told to stop. What fails is said once and tried again at the next beat: `still_holds` tells the rest."""
        counter, said = 1, ""
        while not self._stop.wait(interval_s):
            try:
                self._write(counter)
                counter, said = counter + 1, ""
            except Exception as error:
                before, said = said, str(error)
                if said != before:
                    log.warning("%s: its heartbeat could not be written: %s", lease_path(self.root, self.token), error)


def lease_path(root: str, token: int) -> str:
    """The file of lease `token` of the artifact at `root`."""
    return f"{root}/lease/{token}"


def read_heartbeat(store: Store, root: str, token: int) -> Heartbeat | None:
    """What the file of lease `token` says, or None when there is no such lease.

    A file that does not verify is the heartbeat of the holder `DAMAGED`, which does not move: a living holder writes it anew with its next
    beat, and a dead one's lease is taken over after its time.
    """
    path = lease_path(root, token)
    try:
        return parse_heartbeat(store.read(path), where=path)
    except FileNotFoundError:
        return None
    except IntegrityError:
        return Heartbeat(DAMAGED, 0, False, "", 0, 0)


def parse_heartbeat(data: bytes, *, where: str) -> Heartbeat:
    """A heartbeat from the bytes of its file. Raises IntegrityError when they are damaged."""
    raw = unseal(data, where=where, what="a heartbeat")
    try:
        return Heartbeat(**raw)
    except TypeError as error:
        raise IntegrityError(where, expected="a heartbeat", actual=str(error)) from error


def release(store: Store, root: str, token: int) -> None:
    """Write lease `token` anew, as one that nobody holds: for a damaged file, while nothing runs. It stays, for tokens have no gaps."""
    store.write(lease_path(root, token), _encode(_beat_of("", -1, released=True)))


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
        if beat is not None and not beat.is_gone:
            seen[root] = (token, beat)
    end = time.monotonic() + watch_s
    while seen and time.monotonic() < end:
        time.sleep(min(MAX_POLL_S, watch_s / (2 * BEATS_PER_TIMEOUT)))
        for root, (token, beat) in seen.items():
            if newest_token(store, root, token) > token or read_heartbeat(store, root, token) != beat:
                return root
    return None


@contextmanager
def hold(store: Store, root: str, lease_timeout_s: float, *, max_wait_s: float | None = None, refuse: bool = False) -> Iterator[Lease]:
    """Hold the lease of the artifact at `root` for the length of the block; waits for it first.

    The block still has to ask `still_holds()` before it publishes: a holder that was stopped for longer than `lease_timeout_s` (seconds)
    loses the lease without being told. Raises LeaseHeld when another holder is alive after `max_wait_s` seconds of waiting (None: wait
    as long as it lives), and with `refuse` as soon as it is seen to be alive.
    """
    lease = _acquire(store, root, lease_timeout_s, max_wait_s, refuse)
    thread = threading.Thread(target=lease._beat, args=(lease_timeout_s / BEATS_PER_TIMEOUT,), name=f"lease {root}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease._stop.set()
        thread.join()
        try:
            if lease.still_holds():
                lease._write(-1, released=True)
        except (CaravanError, OSError) as error:  # whoever waits for it finds that its holder has ended, or that it does not move
            log.warning("%s could not be let go: %s", lease_path(root, lease.token), error)


def _acquire(store: Store, root: str, lease_timeout_s: float, max_wait_s: float | None, refuse: bool) -> Lease:
    """Create the next lease as soon as the newest one is released, its holder has ended, or it has stopped moving."""
    holder, started, token = uuid.uuid4().hex, time.monotonic(), 0
    seen: tuple[int, Heartbeat | None] | None = None
    moved_at = started
    while True:
        token = newest_token(store, root, token)
        beat = read_heartbeat(store, root, token) if token else None
        now = time.monotonic()
        has_moved = seen is not None and seen != (token, beat)
        if seen != (token, beat):
            seen, moved_at = (token, beat), now
            if beat is not None and beat.holder == DAMAGED:
                log.warning("%s does not verify: it is taken for a holder that does not move", lease_path(root, token))
        if beat is None or beat.is_gone or now - moved_at >= lease_timeout_s:
            if lease := take(store, root, token + 1, holder):
                return lease
            continue
        is_alive = has_moved or beat.host == this_host()
        if (refuse and is_alive) or (max_wait_s is not None and now - started >= max_wait_s):
            raise LeaseHeld(lease_path(root, token), beat)
        time.sleep(min(MAX_POLL_S, lease_timeout_s / (2 * BEATS_PER_TIMEOUT)))


class LeaseHeld(RetryableError):
    """Another process holds the lease, and is alive. `beat` is what its file says."""

    def __init__(self, path: str, beat: Heartbeat) -> None:
        self.beat = beat
        super().__init__(f"{path} is held by process {beat.pid} on {beat.host.partition(' ')[0]}, which is alive")


def take(store: Store, root: str, token: int, holder: str) -> Lease | None:
    """Lease `token`, created now; None when somebody else was quicker."""
    if not store.put_if_absent(lease_path(root, token), _encode(_beat_of(holder, 0))):
        standing = read_heartbeat(store, root, token)
        if standing is None or standing.holder != holder:  # else ours got through, and the answer was lost
            return None
    return Lease(store, root, token, holder)


def _beat_of(holder: str, counter: int, *, released: bool = False) -> Heartbeat:
    return Heartbeat(holder, counter, released, this_host(), os.getpid(), start_of(os.getpid()) or 0)


def _encode(beat: Heartbeat) -> bytes:
    return seal(asdict(beat))
