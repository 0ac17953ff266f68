"""training/evaluate.py: bits per byte are what a plain loop over documents gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from storage.store import Store
from storage.token_shards import TokenStream
from tests.training.artifacts import BOS, EOS, bos_id, checkpoint_artifact, held_out_artifact, tokenizer_artifact, tokens_artifact
from training.config import ModelConfig
from training.evaluate import Config, held_out_scores, load_model, unigram_model

MODEL = ModelConfig(n_layers=2, dim=32, ffn_dim=64, n_heads=2, n_kv_heads=1, vocab_size=304)
BITS = np.linspace(4, 12, 304)  # of a unigram model


@pytest.mark.parametrize("end", [EOS, BOS])
def test_bits_per_byte_equal_a_plain_loop_over_documents(end: str, tmp_path: Path) -> None:
    """With windows longer than the stream: the sum of -log2 softmax over each document alone, its end included, over its bytes.

    Also where BOS ends documents too.
    """
    store = Store(str(tmp_path / "store"))
    _, tokenizer = tokenizer_artifact(store)
    held_out = held_out_artifact(store, tokenizer, end)
    checkpoint, model = checkpoint_artifact(store, MODEL, tmp_path / "scratch")
    bos = bos_id(tokenizer)
    stream = TokenStream(store, held_out, "held_out/general")
    bits, n_bytes = 0.0, 0
    for document in stream.documents():
        ids = torch.from_numpy(stream.read(document.start, document.end).astype(np.int64))[None]
        positions = torch.arange(ids.shape[1])[None]
        with torch.inference_mode():
            log_p = model(ids, positions, torch.zeros_like(ids))[0, :-1].log_softmax(-1)
        bits -= float(log_p.gather(1, ids[0, 1:, None]).sum()) / math.log(2)
        n_bytes += document.n_bytes
    config = Config(model=MODEL, seq_len=stream.n_tokens)
    loaded = load_model(store, MODEL, checkpoint)
    said = list[tuple[int, int, str]]()
    scores = held_out_scores(store, config, held_out, loaded, BITS, bos_id=bos, bos_is_eos=end == BOS, report=lambda *row: said.append(row))
    assert said == [(0, stream.n_tokens, "held-out general")]
    assert scores["bits_per_byte"]["general"] == pytest.approx(bits / n_bytes, rel=1e-5)
    assert scores["bits_per_byte"]["all"] == scores["bits_per_byte"]["general"]
    assert scores["held_out"]["general"]["bytes"] == n_bytes
    assert scores["held_out"]["general"]["tokens"] == stream.n_tokens - 10  # ten documents, whose BOS is no target


@pytest.mark.parametrize("end", [EOS, BOS])
def test_windows_count_every_target_once(end: str, tmp_path: Path) -> None:
    """Short windows lose context, never tokens: the unigram score, which has no context, does not depend on the window."""
    store = Store(str(tmp_path / "store"))
    _, tokenizer = tokenizer_artifact(store)
    held_out = held_out_artifact(store, tokenizer, end)
    checkpoint, _ = checkpoint_artifact(store, MODEL, tmp_path / "scratch")
    loaded = load_model(store, MODEL, checkpoint)
    bos = bos_id(tokenizer)
    results = [
        held_out_scores(store, Config(model=MODEL, seq_len=n, batch_size=b), held_out, loaded, BITS, bos_id=bos, bos_is_eos=end == BOS)
        for n, b in ((7, 3), (64, 2), (1000, 1))
    ]
    stream = TokenStream(store, held_out, "held_out/general")
    assert results[0]["held_out"]["general"]["tokens"] == stream.n_tokens - 10
    assert len({round(r["unigram_bits_per_byte"]["all"], 9) for r in results}) == 1
    assert len({r["held_out"]["general"]["tokens"] for r in results}) == 1


def test_a_domain_is_judged_on_whole_documents_at_its_start(tmp_path: Path) -> None:
    """At most `max_held_out_tokens`, at least one document; and every batch is reported before it is judged."""
    store = Store(str(tmp_path / "store"))
    _, tokenizer = tokenizer_artifact(store)
    held_out = held_out_artifact(store, tokenizer)
    checkpoint, _ = checkpoint_artifact(store, MODEL, tmp_path / "scratch")
    loaded = load_model(store, MODEL, checkpoint)
    ends = [document.end for document in TokenStream(store, held_out, "held_out/general").documents()]
    for limit, n_documents in ((1, 1), (ends[2], 3), (ends[2] + 1, 3), (ends[3] - 1, 3), (None, len(ends)), (10**9, len(ends))):
        said = list[tuple[int, int, str]]()
        config = Config(model=MODEL, seq_len=16, batch_size=2, max_held_out_tokens=limit)
        report = lambda done, total, beside, said=said: said.append((done, total, beside))  # noqa: E731
        scores = held_out_scores(store, config, held_out, loaded, BITS, bos_id=bos_id(tokenizer), report=report)
        assert scores["held_out"]["general"]["documents"] == n_documents
        assert scores["held_out"]["general"]["tokens"] == ends[n_documents - 1] - n_documents
        assert [done for done, _, _ in said] == [32 * n for n in range(len(said))]
        assert {(total, beside) for _, total, beside in said} == {(ends[n_documents - 1], "held-out general")}
        assert len(said) == -(-(ends[n_documents - 1] - 1) // 32)


def test_unigram_probabilities_are_add_one_counts(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    _, tokenizer = tokenizer_artifact(store)
    tokens = tokens_artifact(store, tokenizer)
    bits = unigram_model(store, tokens, 304, 10**9)
    stream = TokenStream(store, tokens, "train/general")
    counts = np.bincount(stream.read(0, stream.n_tokens), minlength=304)
    assert np.exp2(-bits).sum() == pytest.approx(1.0)
    assert bits[0] == pytest.approx(-math.log2((counts[0] + 1) / (stream.n_tokens + 304)))
