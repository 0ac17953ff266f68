"""The lease: one holder, a counted fencing token, takeover on the waiter's own clock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.errors import ConfigError, IntegrityError, RetryableError
from storage.lease import Lease, LeaseHeld, hold, lease_path, newest_token, parse_heartbeat, read_heartbeat
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


def test_a_damaged_lease_file_is_a_holder_that_does_not_move(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and taken over after its time, not before."""
    store.write(lease_path(ROOT, 1), b"{")
    started = time.monotonic()
    with hold(store, ROOT, 0.3) as lease:
        assert lease.token == 2
        assert time.monotonic() - started >= 0.3
    assert "lease/1 does not verify: it is taken for a holder that does not move" in caplog.messages[0]
    assert len(caplog.messages) == 1


def test_a_holder_whose_file_is_damaged_writes_it_anew(store: Store) -> None:
    """Nobody else writes it, so the lease is still its own."""
    with hold(store, ROOT, 0.2) as lease:
        store.write(lease_path(ROOT, 1), b"{")
        assert lease.still_holds()
        deadline = time.monotonic() + 20
        while (beat := read_heartbeat(store, ROOT, 1)) is None or beat.holder != lease.holder:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_no_flipped_bit_of_a_heartbeat_is_believed(store: Store) -> None:
    with hold(store, ROOT, 3600.0):
        data = store.read(lease_path(ROOT, 1))
    for at in range(len(data)):
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(IntegrityError, match=r"^x: expected a heartbeat"):
            parse_heartbeat(flipped, where="x")


def test_the_lease_of_a_process_of_this_machine_that_has_ended_is_taken_at_once(store: Store) -> None:
    """Its number and its start say that it is gone: nobody has to wait until the counter has not moved for its time."""
    code = f"from storage.lease import take; from storage.store import Store; assert take(Store({store.uri!r}), {ROOT!r}, 1, 'ghost')"
    subprocess.run([sys.executable, "-c", code], check=True)
    started = time.monotonic()
    with hold(store, ROOT, 3600.0) as lease:
        assert lease.token == 2
    assert time.monotonic() - started < 60.0


def test_who_refuses_to_wait_is_told_at_once_who_holds_it(store: Store) -> None:
    said = f"lease/1 is held by process {os.getpid()} on"
    with hold(store, ROOT, 3600.0), pytest.raises(LeaseHeld, match=said) as caught, hold(store, ROOT, 3600.0, refuse=True):
        pass
    assert caught.value.beat.pid == os.getpid()


def test_of_many_that_refuse_to_wait_one_gets_it(store: Store) -> None:
    """A look and then a write would let two in."""
    barrier, inside = threading.Barrier(8), threading.Event()

    def contend(_: int) -> bool:
        barrier.wait()
        try:
            with hold(store, ROOT, 30.0, refuse=True):
                inside.wait(20)
                return True
        except LeaseHeld:
            return False

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(contend, n) for n in range(8)]
        while sum(future.done() for future in waiting) < 7:
            time.sleep(0.01)
        inside.set()
        assert sum(future.result() for future in waiting) == 1


def test_a_heartbeat_that_could_not_be_written_is_said_once_and_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk was full for a while: the lease is held on, and let go at the end."""
    failed = list[int]()

    def refuse(self: Store, path: str, data: bytes) -> None:
        failed.append(1)
        raise ConfigError("AccessDenied")

    with hold(store, ROOT, 0.05) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", refuse)
            deadline = time.monotonic() + 20
            while len(failed) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert lease.still_holds()
        stopped = read_heartbeat(store, ROOT, 1)
        while read_heartbeat(store, ROOT, 1) == stopped:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert sum("its heartbeat could not be written: AccessDenied" in line for line in caplog.messages) == 1
    released = read_heartbeat(store, ROOT, 1)
    assert released is not None
    assert released.released


def test_a_lease_that_cannot_be_let_go_ends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What ended the block counts: Ctrl-C while storage is away stays Ctrl-C."""

    def away(self: Store, path: str) -> bool:
        raise RetryableError("503")

    def stopped_while_storage_is_away(patch: pytest.MonkeyPatch) -> None:
        with hold(store, ROOT, 3600.0):
            patch.setattr(Store, "exists", away)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_while_storage_is_away(patch)
    assert "could not be let go: 503" in caplog.text


def test_the_lease_on_s3(s3_store: Store) -> None:
    """The same protocol over create-if-absent of an object store."""
    dead = abandon(s3_store)
    with hold(s3_store, ROOT, 0.5) as lease:
        assert lease.token == 2
        assert lease.still_holds()
        assert not dead.still_holds()
    with hold(s3_store, ROOT, 3600.0) as lease:
        assert lease.token == 3
