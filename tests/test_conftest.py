"""What conftest.py promises to every test."""

from __future__ import annotations

import os
import socket

import pytest

from scripts.minio import Minio
from storage.store import Store


def test_another_machine_is_not_reached() -> None:
    """A connection to an address that is not this machine's fails at once."""
    with socket.socket() as client, pytest.raises(RuntimeError, match="tests need no network"):
        client.connect(("192.0.2.1", 80))


def test_this_machine_is_reached(minio: Minio) -> None:
    """Loopback works, and the AWS variables point at the tests' server."""
    host, _, port = minio.endpoint.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        assert os.environ["AWS_ENDPOINT_URL"] == minio.endpoint


def test_each_test_has_a_bucket_of_its_own(s3_store: Store) -> None:
    """The store starts empty and takes what is written."""
    assert list(s3_store.list_files("")) == []
    s3_store.write("a/b", b"c")
    assert [info.path for info in s3_store.list_files("")] == ["a/b"]


def test_prefect_does_not_touch_the_users_home() -> None:
    """PREFECT_HOME is a folder of this test session."""
    assert not os.environ["PREFECT_HOME"].startswith(os.path.expanduser("~/.prefect"))
