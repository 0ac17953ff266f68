"""tokenize: each kept document once, BOS and EOS around it, in id order, into its component; what is evaluated, an artifact of its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline import coverage, tokenize_documents, train_tokenizer
from pipeline.tokenize_documents import Config, encode
from pipeline.train_tokenizer import BOS, EOS, Loaded, load_tokenizer
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError
from storage.store import Store
from storage.token_shards import TokenStream, stream_names
from tests.pipeline.small_artifacts import Row, write_inputs

TEXTS = [topics[name] for name in sorted(topics)[:36]]


def rows() -> list[Row]:
    """Two sources, three components, edits, dropped and held-out documents (one covered), and one text that spells special tokens out."""
    made = []
    for n, text in enumerate(TEXTS):
        domain = "code" if n % 3 == 0 else "general"
        changes: dict[str, Any] = {"split": "held_out"} if n % 5 == 4 else {"keep": False} if n % 7 == 6 else {}
        component = "code_clean" if n % 6 == 0 and not changes else None
        edits = [(0, 1, "É"), (10, 20, "")] if n % 4 == 1 else []
        made.append(Row(f"k{n}", text, source="web" if n % 2 else "books", domain=domain, component=component, edits=edits, **changes))
    covered = Row("covered", f"As they say: {TEXTS[0][:2000]}", split="held_out", domain="code")
    return [*made, covered, Row("spelled", f"a {BOS} b {EOS} c")]


def edited(row: Row) -> str:
    """The text with its edits."""
    data = row.text.encode()
    for start, end, replacement in reversed(row.edits):
        data = data[:start] + replacement.encode() + data[end:]
    return data.decode()


Made = tuple[Store, dict[str, Manifest], dict[str, Manifest]]


def tokenized(store: Store, rows: Sequence[Row], config: train_tokenizer.Config, partitions: int = 4) -> Made:
    """Store, inputs, and the token artifacts by split."""
    inputs = write_inputs(store, rows, partitions)
    inputs["tokenizer"] = train_tokenizer.run(store=store, config=config, inputs=inputs)
    covered = {**inputs, "coverage": coverage.run(store=store, config=coverage.Config(), inputs=inputs)}
    trained = tokenize_documents.run(store=store, config=Config(), inputs=inputs)
    return store, covered, {"train": trained, "held_out": tokenize_documents.run_held_out(store=store, config=Config(), inputs=covered)}


TOKENIZER = train_tokenizer.Config(vocab_size=500, shares={"general": 0.5, "code": 0.5}, sample_bytes=100_000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Store, inputs and the token artifacts of `rows()`."""
    return tokenized(Store(str(tmp_path_factory.mktemp("store"))), rows(), TOKENIZER)


def expected_streams(made: Made) -> dict[str, list[Row]]:
    """The rows of every stream, in id order: what is kept to train on, what is left to evaluate on."""
    store, inputs, _ = made
    found = [row for part in range(4) for row in coverage.verdicts(store, inputs["coverage"], part).to_pylist()]
    left = {row["id"] for row in found if row["verdict"] == coverage.EVALUATED}
    assert 0 < len(left) < len(found)
    streams: dict[str, list[Row]] = {}
    for row in sorted(rows(), key=lambda row: row.id):
        if row.keep and (row.split == "train" or row.id in left):
            name = f"train/{row.component or row.domain}" if row.split == "train" else f"held_out/{row.domain}"
            streams.setdefault(name, []).append(row)
    assert all(row.key != "covered" for some in streams.values() for row in some)
    return streams


def test_each_kept_document_is_once_in_its_stream_in_id_order(made: Made) -> None:
    """BOS, the tokens of its edited text, EOS; sources merged; dropped and covered ones nowhere; each split in its own artifact."""
    store, inputs, manifests = made
    loaded, expected = load_tokenizer(store, inputs["tokenizer"]), expected_streams(made)
    streams = {(split, name) for split in manifests for name in stream_names(manifests[split], split)}
    assert streams == {("train", "code"), ("train", "code_clean"), ("train", "general"), ("held_out", "code"), ("held_out", "general")}
    assert stream_names(manifests["train"], "held_out") == stream_names(manifests["held_out"], "train") == []
    for name, wanted in expected.items():
        stream = TokenStream(store, manifests[name.partition("/")[0]], name)
        spans = list(stream.documents())
        assert [span.id for span in spans] == [row.id for row in wanted]
        for span, row in zip(spans, wanted, strict=True):
            tokens = stream.read(span.start, span.end).tolist()
            assert tokens == [loaded.bos_id, *loaded.tokenizer.encode(edited(row), add_special_tokens=False).ids, loaded.eos_id]
            assert span.n_bytes == len(edited(row).encode())
            assert (tokens.count(loaded.bos_id), tokens.count(loaded.eos_id)) == (1, 1)
            assert loaded.tokenizer.decode(tokens[1:-1], skip_special_tokens=False) == edited(row)


def test_counts_close(made: Made) -> None:
    """counts.json is what lies in the shards, and the manifest adds it up."""
    store, _, manifests = made
    for split, manifest in manifests.items():
        counts, wanted = json.loads(read_verified(store, manifest, "counts.json")), expected_streams(made)
        assert (counts["token_size"], counts["vocab_size"], counts["bos_id"]) == (2, 500, 498)
        assert {f"{split}/{name}" for name in counts[split]} == {name for name in wanted if name.startswith(split)}
        for stream, row in counts[split].items():
            name = f"{split}/{stream}"
            spans = list(TokenStream(store, manifest, name).documents())
            assert row["documents"] == len(wanted[name])
            assert row["tokens"] == sum(span.end - span.start for span in spans)
            assert row["bytes"] == sum(span.n_bytes for span in spans)
            assert row["tokens_per_byte"] == pytest.approx(row["tokens"] / row["bytes"])
        assert manifest.counts["documents"] == sum(row["documents"] for row in counts[split].values())


def test_held_out_documents_move_no_byte_of_what_is_trained_on(made: Made, tmp_path: Path) -> None:
    """Another held-out set: the same digest of the shards to train on (RULE 21)."""
    others = [row for row in rows() if row.split == "train"] + [Row(f"new{n}", f"{n} is new here", split="held_out") for n in range(3)]
    manifests = tokenized(Store(str(tmp_path)), others, TOKENIZER)[2]
    assert manifests["train"].digest == made[2]["train"].digest
    assert manifests["held_out"].digest != made[2]["held_out"].digest


def test_partitions_and_batches_change_no_stream(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition instead of four, and a document at a time: the same tokens in the same order."""
    store, inputs, manifests = made
    monkeypatch.setattr(tokenize_documents, "BATCH_CHARACTERS", 1)
    other, again, seconds = tokenized(Store(str(tmp_path)), rows(), TOKENIZER, partitions=1)
    assert again["tokenizer"].digest == inputs["tokenizer"].digest
    for name in expected_streams(made):
        split = name.partition("/")[0]
        ours, theirs = TokenStream(store, manifests[split], name), TokenStream(other, seconds[split], name)
        np.testing.assert_array_equal(ours.read(0, ours.n_tokens), theirs.read(0, theirs.n_tokens))


def test_golden_digests(tmp_path: Path) -> None:
    """Bytes of tokenizer and tokens may change only with VERSION, or with the library that the lock file pins."""
    texts = ["the cat sat on the mat; the dog sat on the log", "während der Reise sah die Katze den Hund", "def f(x):\n    return x + 1\n"]
    documents = [Row(f"k{n}", text, split="held_out" if n == 1 else "train") for n, text in enumerate(texts * 4)]
    documents.append(Row("own", "the dog saw the cat in the log", split="held_out"))  # the other one is a copy of what is trained on
    config = train_tokenizer.Config(vocab_size=270, shares={"general": 1.0}, sample_bytes=1000)
    _, inputs, manifests = tokenized(Store(str(tmp_path)), documents, config)
    assert (train_tokenizer.VERSION, inputs["tokenizer"].digest[:16]) == (1, "8d92375d1004789d")
    assert (tokenize_documents.VERSION, manifests["train"].digest[:16]) == (2, "a19e8d23b1b2b021")
    assert (tokenize_documents.HELD_OUT_VERSION, manifests["held_out"].digest[:16]) == (1, "b3eba7c70fe619c8")


def test_a_token_that_begins_and_ends_documents_is_told_to_readers(made: Made, tmp_path: Path) -> None:
    """Only there: the tokens of other tokenizers keep their bytes."""
    store, _, manifests = made
    assert all("eos_id" not in json.loads(read_verified(store, manifest, "counts.json")) for manifest in manifests.values())
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


def test_large_vocabularies_take_four_bytes(made: Made) -> None:
    store, inputs, _ = made
    small = load_tokenizer(store, inputs["tokenizer"])
    large = Loaded(small.tokenizer, small.bos_id, 99_999, 100_000)
    (tokens,) = encode(large, ["x"])
    assert tokens.dtype == np.uint32
    assert tokens[-1] == 99_999
