"""Artifacts: fingerprints, digests, attempts, and the manifest that makes them exist. RULES 6 to 9."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from storage.artifact import (
    BEGAN,
    Attempt,
    Began,
    FileEntry,
    HashingWriter,
    Manifest,
    canonical_json,
    digest_of,
    find,
    fingerprint_of,
    identity,
    read_entry,
    read_verified,
)
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.strict import Strict


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        found: Store = request.getfixturevalue("s3_store")
        return found
    return Store(str(tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.randoms())
def test_canonical_json_has_one_form(value: Any, rng: Any) -> None:
    """The order of keys does not matter, the value comes back, and so does the form."""

    def mixed(item: Any) -> Any:
        if isinstance(item, dict):
            keys = list(item)
            rng.shuffle(keys)
            return {key: mixed(item[key]) for key in keys}
        return [mixed(x) for x in item] if isinstance(item, list) else item

    try:
        form = canonical_json(value)
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        return
    assert canonical_json(mixed(value)) == form
    assert json.loads(form) == value
    assert canonical_json(json.loads(form)) == form


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), ((1, 2), [1, 2]), (-0.0, 0), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
def test_equal_things_have_equal_forms(a: Any, b: Any) -> None:
    assert canonical_json(a) == canonical_json(b)


@pytest.mark.parametrize(("a", "b"), [(1, "1"), (1, True), (0, False), (None, ""), ([], {}), (0.1, 0.2), ({"a": None}, {})])
def test_other_things_have_other_forms(a: Any, b: Any) -> None:
    assert canonical_json(a) != canonical_json(b)


@pytest.mark.parametrize("value", [{1, 2}, len, object(), {1: "a"}, b"bytes", Path("x"), [{"a": {3}}]])
def test_what_has_no_stable_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no stable form"):
        canonical_json(value)


class WithSet(Strict):
    names: frozenset[str] = frozenset("ab")


def test_a_model_hides_no_set() -> None:
    """pydantic would make a list of it, in any order."""
    with pytest.raises(TypeError, match=r"config\.names: frozenset has no stable form"):
        identity("dedup", 1, WithSet(), {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


class Config(Strict):
    threshold: float = Field(0.5, description="x")
    names: tuple[str, ...] = ("a",)


def test_a_fingerprint_is_of_stage_version_config_and_inputs_alone() -> None:
    base, payload = identity("dedup", 1, Config(), {"documents": "d1"})
    assert payload == {"stage": "dedup", "version": 1, "config": {"threshold": 0.5, "names": ["a"]}, "inputs": {"documents": "d1"}}
    assert identity("dedup", 1, {"names": ["a"], "threshold": 0.5}, {"documents": "d1"})[0] == base
    others = [
        identity("quality", 1, Config(), {"documents": "d1"}),
        identity("dedup", 2, Config(), {"documents": "d1"}),
        identity("dedup", 1, Config(threshold=0.6), {"documents": "d1"}),
        identity("dedup", 1, Config(), {"documents": "d2"}),
        identity("dedup", 1, Config(), {"clusters": "d1"}),
    ]
    assert len({base, *(fingerprint for fingerprint, _ in others)}) == 6


def test_golden_fingerprint_and_digest() -> None:
    """The encodings that every stored artifact depends on."""
    assert identity("dedup", 1, Config(), {"documents": "d1"})[0] == "42e6a1bc6fd0488b27e0ccbf9a487444"
    assert (
        digest_of([FileEntry("b", "x/b", 2, "22"), FileEntry("a", "x/a", 1, "11")])
        == "0007a421a164d2eeb5a23b1213f6f4ffdd2261d75468da70177d52ed499a07fc"
    )


def test_a_digest_is_of_names_sizes_and_bytes_alone() -> None:
    one, two = FileEntry("a", "attempt1/a", 1, "11"), FileEntry("b", "attempt1/b", 2, "22")
    base = digest_of([one, two])
    assert digest_of([FileEntry("b", "other/b", 2, "22"), FileEntry("a", "other/a", 1, "11")]) == base
    assert len({base, digest_of([one]), digest_of([one, FileEntry("b", "", 3, "22")]), digest_of([one, FileEntry("c", "", 2, "22")])}) == 4


PAYLOAD = {"stage": "stage"}
FINGERPRINT = fingerprint_of(PAYLOAD)


def make(store: Store, files: dict[str, bytes], payload: dict[str, Any] = PAYLOAD, info: dict[str, Any] | None = None) -> Manifest:
    attempt, entries = Attempt(store, "stage", fingerprint_of(payload)), list[FileEntry]()
    for name, data in files.items():
        with attempt.create(name, entries) as file:
            for start in range(0, len(data), 3):
                file.write(data[start : start + 3])
    return attempt.publish(payload, entries, counts={"n": 1}, info=info or {})


def test_an_artifact_exists_when_its_manifest_does(store: Store) -> None:
    attempt, entries = Attempt(store, "stage", FINGERPRINT), list[FileEntry]()
    with attempt.create("a/b", entries) as file:
        file.write(b"content")
    assert find(store, "stage", FINGERPRINT) is None
    made = attempt.publish(PAYLOAD, entries, counts={"n": 2}, info={"host": "here"})
    found = find(store, "stage", FINGERPRINT)
    assert found == made
    assert made.names() == made.names("a/") == ["a/b"]
    assert made.file("a/b") == FileEntry("a/b", f"{attempt.name}/a/b", 7, hashlib.sha256(b"content").hexdigest())
    assert read_verified(store, made, "a/b") == b"content"
    with pytest.raises(KeyError, match="has no file 'c'"):
        made.file("c")


def test_timings_counts_and_attempts_enter_no_digest(store: Store) -> None:
    one, two = make(store, {"a": b"x"}, {"n": 1}, {"wall_s": 1}), make(store, {"a": b"x"}, {"n": 2}, {"wall_s": 2})
    assert one.digest == two.digest


def test_a_stage_that_waited_for_a_process_counts_from_when_it_was_asked_for(store: Store) -> None:
    made = make(store, {"a": b"x"}, info={BEGAN: Began(1_000.0, time.monotonic() - 500.0)})
    assert made.info["started_at_s"] == 1_000.0
    assert 500.0 <= made.info["wall_s"] < 800.0
    assert BEGAN not in made.info


def test_a_clock_that_jumps_changes_no_duration(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a date that is set; durations are of a clock that nobody sets."""
    attempt = Attempt(store, "stage", FINGERPRINT)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    made = attempt.publish(PAYLOAD, [], counts={}, info={})
    assert 0.0 <= made.info["wall_s"] < 300.0
    assert made.info["started_at_s"] == round(attempt.began.at_s, 3) > 1e9


def test_the_first_manifest_stands(store: Store) -> None:
    first, second = make(store, {"a": b"x"}), make(store, {"a": b"x"})
    assert second == first
    assert second.info["attempt"] == first.info["attempt"]
    with pytest.raises(IntegrityError, match=r"manifest\.json: expected digest [0-9a-f]+, found digest"):
        make(store, {"a": b"y"})
    assert find(store, "stage", FINGERPRINT) == first


def test_attempts_at_once_publish_one_manifest(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: make(store, {"a": b"x"}), range(6)))
    assert len({manifest.info["attempt"] for manifest in made}) == 1


def test_a_file_that_was_not_finished_is_not_there(store: Store) -> None:
    attempt, entries = Attempt(store, "stage", FINGERPRINT), list[FileEntry]()

    def half() -> None:
        with attempt.create("a", entries) as file:
            file.write(b"half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        half()
    assert entries == []
    assert list(store.list_files("")) == []
    if store.is_local:
        assert [path for path in store.local_path("").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_bytes_that_do_not_match_their_manifest_stop(store: Store, damage: str) -> None:
    made = make(store, {"a": b"content"})
    path = f"{made.root}/{made.file('a').path}"
    if damage == "remove":
        store.remove(path)
    else:
        store.write(path, b"cOntent" if damage == "flip" else b"conten")
    with pytest.raises(IntegrityError, match=r"/a: expected sha256 [0-9a-f]{64}, found (sha256 [0-9a-f]{64}|no such file)") as caught:
        read_entry(store, made.root, made.file("a"))
    assert caught.value.file == path


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format": 2}', b'{"format": 3}', b'{"format": 2, "files": [{}]}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, data: bytes) -> None:
    store = Store(str(tmp_path))
    store.write("artifacts/stage/f/manifest.json", data)
    with pytest.raises(IntegrityError, match=r"artifacts/stage/f/manifest\.json: expected a manifest"):
        find(store, "stage", "f")


def test_a_manifest_of_an_earlier_version_is_no_damage(tmp_path: Path) -> None:
    """Setting it aside would lose what is sound."""
    store = Store(str(tmp_path))
    store.write("artifacts/stage/f/manifest.json", b'{"format": 1, "digest": "0"}')
    with pytest.raises(ConfigError, match=r"written by an earlier version of Caravan \(format 1, this one writes 2\): give the execution"):
        find(store, "stage", "f")


ENTRY = FileEntry("a", "t/a", 1, "11")
MANIFEST = Manifest("s", fingerprint_of({"p": [1]}), digest_of([ENTRY]), {"p": [1]}, (ENTRY,), {"n": 1}, {"by_rank": {10: 1, 9: 2}})


def test_manifests_go_through_json() -> None:
    read = Manifest.from_json(MANIFEST.to_json(), where="x")
    assert read == replace(MANIFEST, info={"by_rank": {"10": 1, "9": 2}})
    assert Manifest.from_json(read.to_json(), where="x") == read


def test_no_flipped_bit_of_a_manifest_is_believed() -> None:
    """Whatever it falls on: a digest, a count, a name, a blank."""
    data = MANIFEST.to_json()
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(IntegrityError, match=r"^x: expected a manifest"):
                Manifest.from_json(flipped, where="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "0" * 64}, r"expected digest 0{64}, which it says, found [0-9a-f]{64} of its files"),
        ({"fingerprint": "0" * 32}, r"expected fingerprint 0{32}, which it says, found [0-9a-f]{32} of its payload"),
        ({"payload": {"p": [2]}}, r"of its payload"),
        ({"files": ()}, r"of its files"),
    ],
)
def test_a_manifest_that_is_sealed_and_wrong_in_itself_is_refused(change: dict[str, Any], message: str) -> None:
    """By hand or by a fault of ours: digest and files, fingerprint and payload belong together."""
    with pytest.raises(IntegrityError, match=message):
        Manifest.from_json(replace(MANIFEST, **change).to_json(), where="x")


def test_the_manifest_of_another_artifact_is_not_taken_for_this_one(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    made = make(store, {"a": b"x"})
    store.write("artifacts/other/0/manifest.json", store.read(f"{made.root}/manifest.json"))
    with pytest.raises(IntegrityError, match="expected the manifest of other/0, found that of stage/"):
        find(store, "other", "0")


@given(st.lists(st.binary(max_size=50)))
def test_the_writer_counts_and_hashes_what_it_is_given(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("writer") / "x"
    with path.open("wb") as file:
        writer = HashingWriter(file)
        for n, piece in enumerate(pieces):
            assert writer.tell() == len(b"".join(pieces[:n]))
            assert writer.write(memoryview(piece) if n % 2 else piece) == len(piece)
    data = path.read_bytes()
    assert data == b"".join(pieces)
    assert (writer.size_bytes, writer.hexdigest()) == (len(data), hashlib.sha256(data).hexdigest())
