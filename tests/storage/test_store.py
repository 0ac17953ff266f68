"""The store: the same behaviour over a folder and over s3://, and errors sorted by who must act."""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointResolutionError, ParamValidationError  # type: ignore[import-untyped]

from storage import store as module
from storage.disk import TEMPORARY_PREFIX
from storage.errors import ConfigError, DiskError, RetryableError
from storage.store import Store

Make = Callable[[], Store]


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        found: Store = request.getfixturevalue("s3_store")
        return found
    return Store(f"file://{tmp_path}/a [store]")


def names(files: Any) -> list[tuple[str, int]]:
    return [(file.path, file.size_bytes) for file in files]


def test_what_is_written_is_read(store: Store) -> None:
    store.write("a/b.bin", b"0123456789")
    assert store.read("a/b.bin") == b"0123456789"
    assert store.read_range("a/b.bin", 2, 5) == b"234"
    assert store.read_range("a/b.bin", 8, 50) == b"89"
    assert store.size("a/b.bin") == 10
    with store.open("a/b.bin") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
    store.write("a/b.bin", b"")
    assert store.read("a/b.bin") == b""


def test_exists_is_of_files(store: Store) -> None:
    store.write("a/b", b"x")
    assert store.exists("a/b")
    assert not store.exists("a")
    assert not store.exists("a/c")
    assert not store.exists("a/b/c")


def test_what_is_missing_is_file_not_found(store: Store) -> None:
    for action in (store.read, store.size, store.open):
        with pytest.raises(FileNotFoundError):
            action("no/such")
    with pytest.raises(FileNotFoundError):
        store.read_range("no/such", 0, 1)


def test_reading_an_object_is_one_request_also_when_it_is_missing(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_store.write("a", b"x")
    asked, call = [], s3_store.fs._call_s3

    async def noted(method: str, *arguments: Any, **named: Any) -> Any:
        asked.append(method)
        return await call(method, *arguments, **named)

    monkeypatch.setattr(s3_store.fs, "_call_s3", noted)
    assert s3_store.read("a") == b"x"
    with pytest.raises(FileNotFoundError):
        s3_store.read("b")
    assert asked == ["get_object", "get_object"]


def test_remove_takes_away_and_forgives_what_is_not_there(store: Store) -> None:
    store.write("a/b", b"x")
    store.write("a/c/d", b"x")
    store.remove("a/b")
    store.remove("a/b")
    store.remove_tree("a")
    store.remove_tree("a")
    assert list(store.list_files("")) == []


def test_listings_are_fresh_sorted_and_relative(store: Store) -> None:
    for path in ("b/2", "a/1", "b/c/3"):
        store.write(path, path.encode())
    assert names(store.list_files("")) == [("a/1", 3), ("b/2", 3), ("b/c/3", 5)]
    assert names(store.list_files("b")) == [("b/2", 3), ("b/c/3", 5)]
    assert list(store.list_files("no")) == []
    assert store.list_dirs("b") == ["c"]
    assert store.list_dirs("") == ["a", "b"]
    assert store.list_dirs("no") == []
    store.write("b/0", b"")
    assert names(store.list_files("b"))[0] == ("b/0", 0)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "d/b.txt", "d/e/c.txt"]),
        ("d/**", ["d/b.txt", "d/e/c.txt"]),
        ("d/?.txt", ["d/b.txt"]),
        ("d/[a-c].txt", ["d/b.txt"]),
        ("d/b.txt", ["d/b.txt"]),
        ("*.bin", []),
    ],
)
def test_glob(store: Store, pattern: str, expected: list[str]) -> None:
    for path in ("a.txt", "d/b.txt", "d/e/c.txt"):
        store.write(path, b"x")
    assert [file.path for file in store.glob(pattern)] == expected


def test_a_version_changes_when_a_file_is_written_again(store: Store) -> None:
    store.write("a", b"1")
    (before,) = store.glob("*")
    (same,) = store.list_files("")
    store.write("a", b"2")
    (after,) = store.glob("*")
    assert before.version == same.version
    assert before.version != after.version


def test_put_if_absent_creates_once(store: Store) -> None:
    assert store.put_if_absent("a/b", b"first")
    assert not store.put_if_absent("a/b", b"second")
    assert store.read("a/b") == b"first"


def test_put_if_absent_has_one_winner_among_many(store: Store) -> None:
    def put(n: int) -> bool:
        return store.put_if_absent("contended", b"%d" % n)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(put, range(16)))
    assert sum(won) == 1
    assert store.read("contended") == b"%d" % won.index(True)


def test_upload_moves_a_local_file(store: Store, tmp_path: Path) -> None:
    local = tmp_path / "local"
    data = random.Random(0).randbytes(100_000)
    local.write_bytes(data)
    store.upload(local, "a/uploaded")
    assert store.read("a/uploaded") == data
    assert not local.exists()


def test_a_store_survives_pickling(store: Store) -> None:
    store.write("a", b"x")
    again: Store = pickle.loads(pickle.dumps(store))
    assert again == store
    assert again.read("a") == b"x"


@pytest.mark.parametrize("uri", ["s3://user:secret@host/bucket", "s3://user:sec/ret@host/bucket", "file://user@x/y"])
def test_a_uri_holds_no_credentials(uri: str) -> None:
    with pytest.raises(ConfigError, match="no credentials"):
        Store(uri)


@pytest.mark.parametrize("uri", ["gs://bucket", "http://host/x"])
def test_another_scheme_is_refused_by_name(uri: str) -> None:
    with pytest.raises(ConfigError, match=f"the scheme is '{uri.partition(':')[0]}', allowed are file and s3"):
        Store(uri)


@pytest.mark.parametrize("uri", ["/data/x", "file:///data/x"])
def test_local_paths(uri: str) -> None:
    assert Store(uri).is_local
    assert Store(uri).full_path("a/b") == "/data/x/a/b"
    assert Store("s3://bucket/prefix/").full_path("a") == "bucket/prefix/a"
    assert Store("s3://bucket").full_path("") == "bucket"


def test_a_store_that_is_no_folder_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = Store(str(tmp_path / "file"))
    for action in (
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: store.write("a", b"x"),
        lambda: store.put_if_absent("a", b"x"),
    ):
        with pytest.raises(ConfigError, match=r"store.*(not a folder|cannot be written)"):
            action()


@pytest.mark.parametrize("action", ["write", "put_if_absent"])
def test_a_failed_local_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    store = Store(str(tmp_path))
    (tmp_path / "target").mkdir()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DiskError, match=r"/a/b \(in the store .*\): No space left on device; 1 bytes or more .*, [0-9,]+ bytes"):
        getattr(store, action)("a/b", b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_temporary_files_are_in_no_listing(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (tmp_path / f"{TEMPORARY_PREFIX}x").write_bytes(b"half")
    store.write("whole", b"x")
    assert names(store.list_files("")) == names(store.glob("**")) == [("whole", 1)]


def test_a_wrong_credential_is_the_users_to_mend(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    actions: list[Callable[[], object]] = [
        lambda: s3_store.read("a"),
        lambda: s3_store.write("a", b"x"),
        lambda: s3_store.exists("a"),
        lambda: s3_store.put_if_absent("a", b"x"),
        lambda: s3_store.glob("*"),
        lambda: list(s3_store.list_files("")),
    ]
    for action in actions:
        with pytest.raises(ConfigError, match=r"store s3://.*check the bucket and the AWS_\* variables"):
            action()


def test_a_missing_bucket_is_the_users_to_mend(s3_store: Store) -> None:
    missing = Store("s3://no-such-bucket-here/x")
    for action in (lambda: missing.write("a", b"x"), lambda: missing.put_if_absent("a", b"x")):
        with pytest.raises(ConfigError, match="no-such-bucket-here"):
            action()


class Flaky:
    """Fails so many times with an error, then gives a value."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.left, self.error, self.calls = failures, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "value"


@pytest.mark.parametrize("error", [TimeoutError("slow"), ConnectionResetError(104, "reset"), OSError(5, "SlowDown")])
def test_what_may_pass_is_tried_again_and_then_retryable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    waits = list[float]()
    monkeypatch.setattr(time, "sleep", waits.append)
    store = Store("s3://bucket/x")
    passing = Flaky(module.RETRIES, error)
    assert store._try(passing) == "value"
    assert passing.calls == module.RETRIES + 1
    base_s = [module.RETRY_BASE_S * 2**n for n in range(module.RETRIES)]  # it backs off, with some chance in it
    assert all(0.5 * base <= wait <= 1.5 * base for base, wait in zip(base_s, waits, strict=True))
    with pytest.raises(RetryableError, match=type(error).__name__):
        store._try(Flaky(module.RETRIES + 1, error))


@pytest.mark.parametrize("error", [FileNotFoundError("a"), FileExistsError("a"), PermissionError(13, "denied")])
def test_what_no_retry_can_mend_is_tried_once(error: Exception) -> None:
    flaky = Flaky(9, error)
    with pytest.raises((FileNotFoundError, FileExistsError, ConfigError)):
        Store("s3://bucket/x")._try(flaky)
    assert flaky.calls == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Invalid endpoint: x"),
        ParamValidationError(report='Invalid bucket name "b"'),
        EndpointResolutionError(msg="Custom endpoint `x`\nwas not a valid URI"),
    ],
)
def test_what_is_never_sent_is_the_users_to_mend(error: Exception) -> None:
    """In one line, at once."""
    flaky = Flaky(9, error)
    with pytest.raises(ConfigError, match=r"^store s3://bucket/x: .*; check the bucket and the AWS_\* variables$"):
        Store("s3://bucket/x")._try(flaky)
    assert flaky.calls == 1


def test_a_connection_that_fails_over_a_value_error_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind an error is none of ours; what was raised counts."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    error = ConnectionResetError(104, "reset")
    error.__context__ = ValueError("of a line of the answer")
    assert Store("s3://bucket/x")._try(Flaky(1, error)) == "value"


@pytest.mark.parametrize("uri", ["s3://b?c/x", "s3://bü/x", "s3://b c/x", "s3://b%20c", "s3://b*c/x", "s3://ab/x", "s3://-abc", "s3://..."])
def test_a_bucket_that_no_request_can_name_is_refused(uri: str) -> None:
    """At construction, in one line that says what a name may hold."""
    with pytest.raises(ConfigError, match="is no bucket's name: it has to be 3 or more letters"):
        Store(uri)


@pytest.mark.parametrize("uri", ["s3://abc", "s3://my.bucket-1/x y/ü", "s3://Old_Bucket/x", f"s3://{'b' * 63}/x"])
def test_any_bucket_of_s3_is_taken(uri: str) -> None:
    assert Store(uri).uri == uri


def test_local_errors_come_as_they_are(tmp_path: Path) -> None:
    flaky = Flaky(9, OSError(5, "bad disk"))
    with pytest.raises(OSError, match="bad disk"):
        Store(str(tmp_path))._try(flaky)
    assert flaky.calls == 1


STRANGE = ["x?1", "y*", "[a]", "%41 b", "a#b", "a+b", "übung 東京", "{x,y}", "a&b=c", "!x", "**"]


@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("prefix", STRANGE)
def test_a_prefix_is_exact_whatever_characters_it_has(kind: str, prefix: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every operation reaches the store's own files and no other's, though the prefix, as a pattern, matches that of the other stores."""
    root = request.getfixturevalue("s3_store").uri if kind == "s3" else str(tmp_path)
    store = Store(f"{root}/gl/{prefix}")
    others = [Store(f"{root}/gl/{name}") for name in ("xa1", "yz", "y", "a", "b", "A b", "x", "übung 東京2", f"{prefix}2", "a b")]
    everything = [store, *others]
    for place in everything:
        place.write("d/f.txt", place.uri.encode())
    store.write(f"{prefix}/{prefix}.bin", b"1")
    assert store.put_if_absent("d/new", b"2")
    assert not store.put_if_absent("d/new", b"3")
    assert [file.path for file in store.list_files("")] == sorted([f"{prefix}/{prefix}.bin", "d/f.txt", "d/new"])
    assert [file.path for file in store.list_files(prefix)] == [f"{prefix}/{prefix}.bin"]
    assert store.list_dirs("") == sorted([prefix, "d"])
    assert [file.path for file in store.glob("**/*.txt")] == [file.path for file in store.glob("d/f.txt")] == ["d/f.txt"]
    assert [file.path for file in store.glob("*/*")] == sorted([f"{prefix}/{prefix}.bin", "d/f.txt", "d/new"])
    assert store.exists(f"{prefix}/{prefix}.bin")
    assert store.size("d/f.txt") == len(store.uri.encode())
    store.remove("d/new")
    store.remove_tree(prefix)
    assert [file.path for file in store.list_files("")] == ["d/f.txt"]
    assert [place.read("d/f.txt") for place in everything] == [place.uri.encode() for place in everything]
    store.remove_tree("")
    assert list(store.list_files("")) == []
    assert [place.read("d/f.txt") for place in others] == [place.uri.encode() for place in others]


def test_a_folder_of_more_files_than_one_request_removes_goes_whole(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS_PER_DELETE", 2)
    for n in range(5):
        s3_store.write(f"a/{n}", b"x")
    s3_store.remove_tree("a")
    assert list(s3_store.list_files("")) == []


def test_a_prefix_that_s3fs_would_cut_is_refused() -> None:
    """s3fs would read and write `x` instead."""
    with pytest.raises(ConfigError, match="versionId"):
        Store("s3://bucket/x?versionId=3")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t\n", "AWS_SECRET_ACCESS_KEY holds a line feed"),
        ("AWS_ACCESS_KEY_ID", "\ts3cr3t", "AWS_ACCESS_KEY_ID holds white space"),
        ("AWS_ACCESS_KEY_ID", "s3cr3t\r\n", "AWS_ACCESS_KEY_ID holds a line feed"),
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t key", "AWS_SECRET_ACCESS_KEY holds white space"),
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t\ufeff", "AWS_SECRET_ACCESS_KEY holds a character that is not printable ASCII"),
        ("AWS_SESSION_TOKEN", "s3cr3t\n", "AWS_SESSION_TOKEN holds a line feed"),
        ("AWS_REGION", "us-east-1\n", "AWS_REGION holds a line feed"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "AWS_ENDPOINT_URL does not begin with http"),
        ("AWS_ENDPOINT_URL", "localhost:9000", "AWS_ENDPOINT_URL does not begin with http"),
        ("AWS_ENDPOINT_URL", "s3://127.0.0.1:9000", "AWS_ENDPOINT_URL does not begin with http"),
        ("AWS_ENDPOINT_URL", "http://", "AWS_ENDPOINT_URL names no host"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:port", "AWS_ENDPOINT_URL is no URL"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9?x=1", "AWS_ENDPOINT_URL holds a query or a fragment"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9#x", "AWS_ENDPOINT_URL holds a query or a fragment"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:0", "AWS_ENDPOINT_URL names port 0"),
        ("AWS_ENDPOINT_URL", "https://.", "AWS_ENDPOINT_URL names a host that can be none"),
        ("AWS_ENDPOINT_URL", "http://exa_mple:9", "AWS_ENDPOINT_URL names a host that can be none"),
        ("AWS_ENDPOINT_URL", "http://a..b:9", "AWS_ENDPOINT_URL names a host that can be none"),
        ("AWS_ENDPOINT_URL", "http://-a:9", "AWS_ENDPOINT_URL names a host that can be none"),
        ("AWS_ENDPOINT_URL", f"http://{'a' * 64}:9", "AWS_ENDPOINT_URL names a host that can be none"),
        ("AWS_ENDPOINT_URL", "http://[::1:9", "AWS_ENDPOINT_URL is no URL"),
        ("AWS_ENDPOINT_URL_S3", "http://me:s3cr3t@127.0.0.1:9000", "AWS_ENDPOINT_URL_S3 holds credentials"),
    ],
)
def test_a_variable_that_no_request_can_be_made_with_is_named(
    name: str, value: str, message: str, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first use, in one line, at once (no retry would mend it), and without the value."""
    monkeypatch.setenv(name, value)
    for action in (lambda: s3_store.read("a"), lambda: s3_store.exists("a"), lambda: s3_store.write("a", b"x"), lambda: s3_store.glob("*")):
        with pytest.raises(ConfigError, match=f"^{message}") as caught:
            action()
        assert "s3cr3t" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000", "https://s3.example.org", "http://[::1]:9000", "http://localhost.:9", "http://a-b/x"]
)
def test_an_endpoint_that_can_be_one_is_taken(url: str) -> None:
    assert module._wrong_endpoint(url) is None


def test_a_region_that_is_none_is_the_users_to_mend(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it was tried again"))
    monkeypatch.setenv("AWS_REGION", "us_east!")
    with pytest.raises(ConfigError, match=r"check the bucket and the AWS_\* variables"):
        s3_store.write("a", b"x")


def test_s3_on_loopback_is_reached_without_the_proxy(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment, which answers nothing here, is not asked."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("no_proxy", "")
    module._file_system.cache_clear()
    s3_store.write("a", b"x")
    assert s3_store.read("a") == b"x"
    assert os.environ["NO_PROXY"].split(",")[0] == "example.org"
