"""Token shards: datatrove's format to the byte, and a reader that verifies what it reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.errors import IntegrityError
from storage.store import Store
from storage.token_shards import PAGE_BYTES, DocumentSpan, TokenStream, open_shard, stream_names, token_size_for

Documents = list[tuple[bytes, list[int], int]]
PREFIX = "train/general"


def write(store: Store, parts: dict[int, Documents], token_size: int = 2, fingerprint: str = "f" * 32) -> Manifest:
    """A tokenize artifact of one component with these shards."""
    payload = {"name": fingerprint}
    attempt, entries = Attempt(store, "tokenize", fingerprint_of(payload)), list[FileEntry]()
    for part, documents in parts.items():
        with open_shard(
            lambda name: attempt.create(name, entries), f"{PREFIX}/part-{part:05d}", tokenizer="caravan", token_size=token_size
        ) as shard:
            for document, tokens, n_bytes in documents:
                shard.append(document, tokens, n_bytes)
    return attempt.publish(payload, entries, counts={}, info={})


def random_documents(seed: int, n: int, part: int = 0, vocab: int = 60_000, mean_tokens: int = 60) -> Documents:
    """Documents in id order with between 2 and 2 x `mean_tokens` tokens."""
    rng = np.random.default_rng(seed)
    ids = sorted(bytes([part]) + rng.bytes(15) for _ in range(n))
    return [(name, rng.integers(0, vocab, rng.integers(2, 2 * mean_tokens)).tolist(), int(rng.integers(1, 999))) for name in ids]


def local_file(store: Store, manifest: Manifest, name: str) -> Path:
    """Where a file of the artifact lies on disk."""
    return store.local_path(f"{manifest.root}/{manifest.file(name).path}")


@pytest.mark.parametrize("token_size", [2, 4])
def test_files_are_those_that_datatrove_writes(tmp_path: Path, token_size: int) -> None:
    """.ds, .ds.index and .ds.metadata are byte for byte datatrove's for the same documents."""
    store, documents = Store(str(tmp_path / "store")), random_documents(1, 40)
    manifest = write(store, {0: documents}, token_size)
    theirs = TokenizedFile(
        str(tmp_path / "theirs"), "x.ds", tokenizer_name_or_path="caravan", save_final_metadata=True, token_size=token_size
    )
    for _, tokens, _ in documents:
        theirs.write(tokens, None)
    theirs.close()
    for suffix in ("", ".index", ".metadata"):
        ours = local_file(store, manifest, f"{PREFIX}/part-00000.ds{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs/x.ds{suffix}").read_bytes(), suffix


@pytest.mark.parametrize("token_size", [2, 4])
def test_datatroves_loaders_read_ours(tmp_path: Path, token_size: int) -> None:
    """Windows of seq_len + 1 tokens, and positions from the index, through DatatroveFileDataset and, as nanotron does, the folder."""
    store, documents = Store(str(tmp_path)), random_documents(2, 30)
    manifest = write(store, {0: documents}, token_size)
    path = local_file(store, manifest, f"{PREFIX}/part-00000.ds")
    flat = np.concatenate([tokens for _, tokens, _ in documents])
    position = np.concatenate([np.arange(len(tokens)) for _, tokens, _ in documents])
    data = DatatroveFileDataset(str(path), seq_len=31, token_size=token_size, return_positions=True)
    assert len(data) == len(flat) // 32
    for item in range(len(data)):
        window = slice(item * 32, item * 32 + 32)
        assert data[item]["input_ids"].tolist() == flat[window].tolist()
        starts = np.flatnonzero(position[window] == 0)
        first = starts[0] if len(starts) else 32
        expected = np.concatenate([np.arange(first), position[window][first:]])
        assert data[item]["positions"].tolist() == expected.tolist()
    folder = DatatroveFolderDataset(str(path.parent), seq_len=31, filename_pattern="*.ds", recursive=False, token_size=token_size)
    assert folder[3]["input_ids"].tolist() == flat[96:128].tolist()


def test_golden_bytes(tmp_path: Path) -> None:
    """The format may not change: index, metadata and page digests of a shard written by hand."""
    store = Store(str(tmp_path))
    manifest = write(store, {3: [(b"a" * 16, [1, 2, 258], 5), (b"b" * 16, [7], 1)]})
    stem = f"{PREFIX}/part-00003"
    assert local_file(store, manifest, f"{stem}.ds").read_bytes() == bytes.fromhex("0100 0200 0201 0700")
    assert local_file(store, manifest, f"{stem}.ds.index").read_bytes() == bytes.fromhex("0300000000000000 0400000000000000")
    assert local_file(store, manifest, f"{stem}.ds.metadata").read_bytes() == b"caravan|2\n4\n4.00 T"
    digest = hashlib.blake2b(bytes.fromhex("0100020002010700"), digest_size=8).digest()
    assert local_file(store, manifest, f"{stem}.pages").read_bytes() == digest


def test_every_range_over_all_parts_reads_back(tmp_path: Path) -> None:
    """Ranges within a part, across parts and of no length; a cache of one page changes nothing."""
    store = Store(str(tmp_path))
    parts = {part: random_documents(part, 25, part) for part in (0, 1, 4)}
    manifest = write(store, parts)
    flat = np.concatenate([tokens for documents in parts.values() for _, tokens, _ in documents])
    streams = [TokenStream(store, manifest, PREFIX, cache_pages=n) for n in (1, 64)]
    assert streams[0].n_tokens == len(flat)
    rng = np.random.default_rng(0)
    for start, end in [(0, 0), (0, len(flat)), (len(flat), len(flat)), *np.sort(rng.integers(0, len(flat) + 1, (200, 2)))]:
        for stream in streams:
            assert stream.read(int(start), int(end)).tolist() == flat[start:end].tolist()
    for start, end in [(-1, 2), (0, len(flat) + 1), (3, 2)]:
        with pytest.raises(IndexError):
            streams[0].read(start, end)


@given(token_size=st.sampled_from([2, 4]), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_ranges_over_page_edges(tmp_path_factory: pytest.TempPathFactory, token_size: int, seed: int) -> None:
    """Shards of several pages: each byte belongs to one page, and the page's digest is of exactly these bytes."""
    store = Store(str(tmp_path_factory.mktemp("pages")))
    documents = random_documents(seed, 3, mean_tokens=60_000)
    manifest = write(store, {0: documents}, token_size)
    flat, stream = np.concatenate([tokens for _, tokens, _ in documents]), TokenStream(store, manifest, PREFIX, cache_pages=2)
    edge = PAGE_BYTES // token_size
    for start, end in [
        (edge - 1, edge),
        (edge, edge + 1),
        (edge - 3, edge + 3),
        (0, min(2 * edge + 1, len(flat))),
        (len(flat) - 1, len(flat)),
    ]:
        assert stream.read(start, end).tolist() == flat[start:end].tolist()
    data = local_file(store, manifest, f"{PREFIX}/part-00000.ds").read_bytes()
    digests = b"".join(hashlib.blake2b(data[at : at + PAGE_BYTES], digest_size=8).digest() for at in range(0, len(data), PAGE_BYTES))
    assert local_file(store, manifest, f"{PREFIX}/part-00000.pages").read_bytes() == digests


def test_a_flipped_byte_is_an_integrity_error_that_names_file_page_and_digests(tmp_path: Path) -> None:
    """Only ranges that touch the damaged page fail."""
    store = Store(str(tmp_path))
    manifest = write(store, {0: random_documents(5, 3, mean_tokens=60_000)})
    path = local_file(store, manifest, f"{PREFIX}/part-00000.ds")
    data = bytearray(path.read_bytes())
    good = hashlib.blake2b(data[PAGE_BYTES : 2 * PAGE_BYTES], digest_size=8).hexdigest()
    data[PAGE_BYTES + 5] ^= 1
    path.write_bytes(data)
    bad = hashlib.blake2b(data[PAGE_BYTES : 2 * PAGE_BYTES], digest_size=8).hexdigest()
    stream = TokenStream(store, manifest, PREFIX)
    edge = PAGE_BYTES // 2
    assert len(stream.read(0, edge)) == edge
    with pytest.raises(IntegrityError, match=rf"part-00000\.ds page 1: expected blake2b-64 {good}, found blake2b-64 {bad}"):
        stream.read(edge, edge + 1)


@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_shard_that_is_cut_or_gone_is_an_integrity_error(tmp_path: Path, damage: str) -> None:
    store = Store(str(tmp_path))
    manifest = write(store, {0: random_documents(5, 10)})
    path, stream = local_file(store, manifest, f"{PREFIX}/part-00000.ds"), TokenStream(store, manifest, PREFIX)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-2])
    else:
        path.unlink()
    with pytest.raises(IntegrityError, match=r"part-00000\.ds"):
        stream.read(0, 2)


@pytest.mark.parametrize("suffix", ["pages", "ids.parquet"])
def test_damage_beside_the_shard_is_an_integrity_error(tmp_path: Path, suffix: str) -> None:
    store = Store(str(tmp_path))
    manifest = write(store, {0: random_documents(5, 10)})
    path = local_file(store, manifest, f"{PREFIX}/part-00000.{suffix}")
    path.write_bytes(b"x" + path.read_bytes()[1:])
    stream = TokenStream(store, manifest, PREFIX)
    with pytest.raises(IntegrityError, match=suffix):
        _ = [stream.read(0, 2), list(stream.documents())]


def test_documents_and_locate_agree_with_what_was_written(tmp_path: Path) -> None:
    """Spans in the stream, from ids and from token ranges, across parts."""
    store = Store(str(tmp_path))
    parts = {part: random_documents(part, 9, part) for part in (0, 2, 3)}
    stream = TokenStream(store, write(store, parts), PREFIX)
    spans, at = [], 0
    for documents in parts.values():
        for document, tokens, n_bytes in documents:
            spans.append(DocumentSpan(document, at, at + len(tokens), n_bytes))
            at += len(tokens)
    assert list(stream.documents()) == spans
    for span in spans:
        assert stream.locate(span.id) == span
        assert list(stream.documents(span.start, span.end)) == [span]
        assert list(stream.documents(span.end - 1, span.end + 1)) == [s for s in spans if s.start < span.end + 1 and span.end - 1 < s.end]
    for absent in (b"\x00" * 16, b"\x02" + b"\x00" * 15, b"\xff" * 16):
        assert stream.locate(absent) is None


def test_stream_names_and_a_missing_stream(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    manifest = write(store, {0: random_documents(1, 2)})
    assert stream_names(manifest, "train") == ["general"]
    assert stream_names(manifest, "held_out") == []
    with pytest.raises(KeyError, match="no token shards 'train/code'"):
        TokenStream(store, manifest, "train/code")


@pytest.mark.parametrize(("vocab_size", "size"), [(300, 2), (65_536, 2), (65_537, 4), (128_000, 4)])
def test_token_size_fits_the_vocabulary(vocab_size: int, size: int) -> None:
    assert token_size_for(vocab_size) == size


def test_a_token_too_large_for_the_shard_is_refused(tmp_path: Path) -> None:
    """Nothing wraps around: 65,536 does not become 0."""
    with pytest.raises(OverflowError, match="65536"):
        write(Store(str(tmp_path)), {0: [(b"a" * 16, [1, 65_536], 1)]})


def test_ranges_are_read_from_s3(s3_store: Store) -> None:
    """The same stream on MinIO: ranges verify there too, and damage is found."""
    documents = random_documents(5, 3, mean_tokens=60_000)
    manifest = write(s3_store, {0: documents, 1: random_documents(6, 5, 1)})
    flat = np.concatenate([tokens for _, tokens, _ in documents])
    stream = TokenStream(s3_store, manifest, PREFIX, cache_pages=1)
    assert stream.read(40_000, 50_000).tolist() == flat[40_000:50_000].tolist()
    path = f"{manifest.root}/{manifest.file(f'{PREFIX}/part-00000.ds').path}"
    data = bytearray(s3_store.read(path))
    data[0] ^= 1
    s3_store.write(path, bytes(data))
    with pytest.raises(IntegrityError, match="page 0"):
        stream.read(0, 1)
