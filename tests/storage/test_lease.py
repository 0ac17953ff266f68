"""The lease: one holder, a counted fencing token, takeover on the waiter's own clock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import ConfigError, IntegrityError, RetryableError
from storage.lease import Lease, hold, lease_path, newest_token, read_heartbeat
from storage.store import Store

ROOT = "artifacts/pretrain/f00d"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def abandon(store: Store, holder: str = "ghost") -> Lease:
    """A lease whose holder died: created, never moved, never released."""
    lease = Lease(store, ROOT, newest_token(store, ROOT) + 1, holder)
    lease._write(0)
    return lease


def test_tokens_count_up_and_a_released_lease_is_taken_at_once(store: Store) -> None:
    tokens = []
    for _ in range(3):
        with hold(store, ROOT, 3600.0) as lease:
            assert lease.still_holds()
            tokens.append(lease.token)
    assert tokens == [1, 2, 3]
    assert newest_token(store, ROOT) == 3


def test_a_dead_holder_is_taken_over_and_then_no_longer_holds(store: Store) -> None:
    dead = abandon(store)
    assert dead.still_holds()
    with hold(store, ROOT, 0.2) as lease:
        assert lease.token == 2
        assert lease.still_holds()
        assert not dead.still_holds()


def test_a_living_holder_is_not_taken_over(store: Store) -> None:
    with hold(store, ROOT, 0.2) as lease:
        with pytest.raises(RetryableError, match=r"lease/1 is held by process \d+"), hold(store, ROOT, 0.6, max_wait_s=1.2):
            pass
        assert lease.still_holds()


def test_the_counter_moves_while_the_holder_lives(store: Store) -> None:
    with hold(store, ROOT, 0.1):
        first = read_heartbeat(store, ROOT, 1)
        deadline = time.monotonic() + 20
        while read_heartbeat(store, ROOT, 1) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_late_heartbeat_of_the_fenced_holder_changes_nothing(store: Store) -> None:
    """A holder that was stopped, lost the lease and wakes up writes only its own file."""
    late = abandon(store)
    with hold(store, ROOT, 0.05) as lease:
        late._write(99)
        assert not late.still_holds()
        assert lease.still_holds()


def test_a_fenced_holder_does_not_release(store: Store) -> None:
    with hold(store, ROOT, 3600.0) as first:
        abandon(store, "thief")
        assert not first.still_holds()
    standing = read_heartbeat(store, ROOT, 1)
    assert standing is not None
    assert not standing.released


def test_many_waiters_get_one_token_each(store: Store) -> None:
    """Mutual exclusion: the blocks of eight contenders never overlap, and no token is given twice."""
    inside, tokens, overlap = threading.Semaphore(1), list[int](), list[int]()

    def contend(_: int) -> None:
        with hold(store, ROOT, 30.0) as lease:
            if not inside.acquire(blocking=False):
                overlap.append(lease.token)
                return
            tokens.append(lease.token)
            time.sleep(0.01)
            inside.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(contend, range(8)))
    assert overlap == []
    assert sorted(tokens) == list(range(1, 9))


def test_an_error_in_the_block_releases_the_lease(store: Store) -> None:
    with pytest.raises(ValueError, match="training broke"), hold(store, ROOT, 3600.0):
        raise ValueError("training broke")
    standing = read_heartbeat(store, ROOT, 1)
    assert standing is not None
    assert standing.released


def test_a_damaged_lease_file_is_named(store: Store) -> None:
    store.write(lease_path(ROOT, 1), b"{")
    with pytest.raises(IntegrityError, match="lease/1"), hold(store, ROOT, 0.1):
        pass


def test_what_stops_the_heartbeat_is_raised_by_still_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Store, path: str, data: bytes) -> None:
        raise ConfigError("AccessDenied")

    with hold(store, ROOT, 0.05) as lease:
        monkeypatch.setattr(Store, "write", refuse)
        deadline = time.monotonic() + 20
        while lease._failure is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ConfigError, match="AccessDenied"):
            lease.still_holds()


def test_the_lease_on_s3(s3_store: Store) -> None:
    """The same protocol over create-if-absent of an object store."""
    dead = abandon(s3_store)
    with hold(s3_store, ROOT, 0.5) as lease:
        assert lease.token == 2
        assert lease.still_holds()
        assert not dead.still_holds()
    with hold(s3_store, ROOT, 3600.0) as lease:
        assert lease.token == 3
