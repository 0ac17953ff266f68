"""tokenize: each kept document once, BOS and EOS around it, in id order, into its component; held out apart."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline import tokenize_documents, train_tokenizer
from pipeline.tokenize_documents import Config, encode
from pipeline.train_tokenizer import BOS, EOS, Loaded, load_tokenizer
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
from storage.store import Store
from storage.token_shards import TokenStream, stream_names
from tests.pipeline.small_artifacts import Row, write_inputs

TEXTS = [topics[name] for name in sorted(topics)[:36]]


def rows() -> list[Row]:
    """Two sources, three components, edits, dropped and held-out documents, and one text that spells special tokens out."""
    made = []
    for n, text in enumerate(TEXTS):
        domain = "code" if n % 3 == 0 else "general"
        changes: dict[str, Any] = {"split": "held_out"} if n % 5 == 4 else {"keep": False} if n % 7 == 6 else {}
        component = "code_clean" if n % 6 == 0 and not changes else None
        edits = [(0, 1, "É"), (10, 20, "")] if n % 4 == 1 else []
        made.append(Row(f"k{n}", text, source="web" if n % 2 else "books", domain=domain, component=component, edits=edits, **changes))
    return [*made, Row("spelled", f"a {BOS} b {EOS} c")]


def edited(row: Row) -> str:
    """The text with its edits."""
    data = row.text.encode()
    for start, end, replacement in reversed(row.edits):
        data = data[:start] + replacement.encode() + data[end:]
    return data.decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Manifest], Manifest]:
    """Store, inputs and the token artifact."""
    store = Store(str(tmp_path_factory.mktemp("store")))
    inputs = write_inputs(store, rows())
    config = train_tokenizer.Config(vocab_size=500, shares={"general": 0.5, "code": 0.5}, sample_bytes=100_000)
    inputs["tokenizer"] = train_tokenizer.run(store=store, config=config, inputs=inputs)
    return store, inputs, tokenize_documents.run(store=store, config=Config(), inputs=inputs)


def expected_streams() -> dict[str, list[Row]]:
    """The kept rows of every stream, in id order."""
    streams: dict[str, list[Row]] = {}
    for row in sorted(rows(), key=lambda row: row.id):
        if row.keep:
            name = f"train/{row.component or row.domain}" if row.split == "train" else f"held_out/{row.domain}"
            streams.setdefault(name, []).append(row)
    return streams


def test_each_kept_document_is_once_in_its_stream_in_id_order(made: tuple[Store, dict[str, Manifest], Manifest]) -> None:
    """BOS, the tokens of its edited text, EOS; sources merged; dropped ones nowhere."""
    store, inputs, manifest = made
    loaded, expected = load_tokenizer(store, inputs["tokenizer"]), expected_streams()
    assert stream_names(manifest, "train") == ["code", "code_clean", "general"]
    assert stream_names(manifest, "held_out") == ["code", "general"]
    for name, wanted in expected.items():
        stream = TokenStream(store, manifest, name)
        spans = list(stream.documents())
        assert [span.id for span in spans] == [row.id for row in wanted]
        for span, row in zip(spans, wanted, strict=True):
            tokens = stream.read(span.start, span.end).tolist()
            assert tokens == [loaded.bos_id, *loaded.tokenizer.encode(edited(row), add_special_tokens=False).ids, loaded.eos_id]
            assert span.n_bytes == len(edited(row).encode())
            assert (tokens.count(loaded.bos_id), tokens.count(loaded.eos_id)) == (1, 1)
            assert loaded.tokenizer.decode(tokens[1:-1], skip_special_tokens=False) == edited(row)


def test_counts_close(made: tuple[Store, dict[str, Manifest], Manifest]) -> None:
    """counts.json is what lies in the shards, and the manifest adds it up."""
    store, _, manifest = made
    counts = json.loads(read_verified(store, manifest, "counts.json"))
    assert (counts["token_size"], counts["vocab_size"], counts["bos_id"]) == (2, 500, 498)
    for name, wanted in expected_streams().items():
        split, _, stream = name.partition("/")
        row, spans = counts[split][stream], list(TokenStream(store, manifest, name).documents())
        assert row["documents"] == len(wanted)
        assert row["tokens"] == sum(span.end - span.start for span in spans)
        assert row["bytes"] == sum(span.n_bytes for span in spans)
        assert row["tokens_per_byte"] == pytest.approx(row["tokens"] / row["bytes"])
    assert manifest.counts["documents"] == sum(row.keep for row in rows())


def test_partitions_and_batches_change_no_stream(
    made: tuple[Store, dict[str, Manifest], Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition instead of four, and a document at a time: the same tokens in the same order."""
    store, inputs, manifest = made
    monkeypatch.setattr(tokenize_documents, "BATCH_CHARACTERS", 1)
    other = Store(str(tmp_path))
    again = write_inputs(other, rows(), partitions=1)
    config = train_tokenizer.Config(vocab_size=500, shares={"general": 0.5, "code": 0.5}, sample_bytes=100_000)
    again["tokenizer"] = train_tokenizer.run(store=other, config=config, inputs=again)
    assert again["tokenizer"].digest == inputs["tokenizer"].digest
    second = tokenize_documents.run(store=other, config=Config(), inputs=again)
    for name in expected_streams():
        ours, theirs = TokenStream(store, manifest, name), TokenStream(other, second, name)
        np.testing.assert_array_equal(ours.read(0, ours.n_tokens), theirs.read(0, theirs.n_tokens))


def test_golden_digests(tmp_path: Path) -> None:
    """Bytes of tokenizer and tokens may change only with VERSION, or with the library that the lock file pins."""
    store = Store(str(tmp_path))
    texts = ["the cat sat on the mat; the dog sat on the log", "während der Reise sah die Katze den Hund", "def f(x):\n    return x + 1\n"]
    inputs = write_inputs(store, [Row(f"k{n}", text, split="held_out" if n == 1 else "train") for n, text in enumerate(texts * 4)])
    config = train_tokenizer.Config(vocab_size=270, shares={"general": 1.0}, sample_bytes=1000)
    inputs["tokenizer"] = train_tokenizer.run(store=store, config=config, inputs=inputs)
    assert (train_tokenizer.VERSION, inputs["tokenizer"].digest[:16]) == (1, "8d92375d1004789d")
    assert (tokenize_documents.VERSION, tokenize_documents.run(store=store, config=Config(), inputs=inputs).digest[:16]) == (
        2,
        "3239cd0d6549305c",
    )


def test_a_token_that_begins_and_ends_documents_is_told_to_readers(
    made: tuple[Store, dict[str, Manifest], Manifest], tmp_path: Path
) -> None:
    """Only there: the tokens of other tokenizers keep their bytes."""
    store, _, manifest = made
    assert "eos_id" not in json.loads(read_verified(store, manifest, "counts.json"))
    both = Store(str(tmp_path))
    again = write_inputs(both, rows())
    again["tokenizer"] = given_tokenizer(both, tmp_path / "raw", bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    told = json.loads(read_verified(both, tokenize_documents.run(store=both, config=Config(), inputs=again), "counts.json"))
    assert told["eos_id"] == told["bos_id"]


def given_tokenizer(store: Store, raw_root: Path, **tokens: str) -> Manifest:
    """A tiktoken file of single bytes, taken with BOS and EOS of these names."""
    data = b"".join(base64.b64encode(bytes([n])) + f" {n}\n".encode() for n in range(256))
    raw = Store(str(raw_root))
    raw.write("bytes.tiktoken", data)
    given = {"path": "bytes.tiktoken", "sha256": hashlib.sha256(data).hexdigest(), "format": "tiktoken", **tokens}
    return train_tokenizer.run(store=store, config=train_tokenizer.Config.model_validate({"given": given}), inputs={}, raw=raw)


def test_a_document_cut_by_its_own_text_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a tokenizer does that nobody foresaw; here, one whose special tokens were left on."""
    store = Store(str(tmp_path))
    inputs = write_inputs(store, [Row("spelled", f"a {BOS} b")])
    inputs["tokenizer"] = given_tokenizer(store, tmp_path / "raw")
    load = train_tokenizer.load_tokenizer

    def hearing(store: Store, manifest: Manifest) -> Loaded:
        tokenizer = Tokenizer.from_str(read_verified(store, manifest, "tokenizer.json").decode())
        return load(store, manifest)._replace(tokenizer=tokenizer)

    monkeypatch.setattr(tokenize_documents, "load_tokenizer", hearing)
    with pytest.raises(ConfigError, match=rf"document {Row('spelled', '').id.hex()} \(web\) to its BOS or EOS"):
        tokenize_documents.run(store=store, config=Config(), inputs=inputs)


def test_large_vocabularies_take_four_bytes(made: tuple[Store, dict[str, Manifest], Manifest]) -> None:
    store, inputs, _ = made
    small = load_tokenizer(store, inputs["tokenizer"])
    large = Loaded(small.tokenizer, small.bos_id, 99_999, 100_000)
    (tokens,) = encode(large, ["x"])
    assert tokens.dtype == np.uint32
    assert tokens[-1] == 99_999
