"""The error tree: every message formats, and every error survives the way from a worker process."""

from __future__ import annotations

import pickle

import pytest

from storage.errors import CaravanError, ConfigError, DiskError, InputError, IntegrityError, RetryableError

ERRORS = [
    (ConfigError("seq_len is 3, allowed are powers of two"), "seq_len is 3, allowed are powers of two"),
    (InputError("invalid_utf8", file="a/b.jsonl", offset=17, detail="byte 3"), "a/b.jsonl at 17: invalid_utf8 (byte 3)"),
    (InputError("unreadable", file="a/b.parquet"), "a/b.parquet: unreadable"),
    (InputError("damaged", file="a", offset=0), "a at 0: damaged"),
    (RetryableError("store s3://x: timeout"), "store s3://x: timeout"),
    (IntegrityError("a/b", expected="sha256 1", actual="sha256 2"), "a/b: expected sha256 1, found sha256 2"),
    (IntegrityError("a", expected="1", actual="2", remedy="run again"), "a: expected 1, found 2; run again"),
    (
        DiskError("/s/a", folder="the store /s", problem="No space left on device", needed="5 bytes or more were to be written"),
        "/s/a (in the store /s): No space left on device; 5 bytes or more were to be written; what is finished is kept: mend it, and the"
        " same command goes on",
    ),
]


@pytest.mark.parametrize(("error", "message"), ERRORS, ids=lambda value: type(value).__name__)
def test_messages_and_pickling(error: CaravanError, message: str) -> None:
    assert isinstance(error, CaravanError)
    assert str(error) == message
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == message
    assert vars(again) == vars(error)
