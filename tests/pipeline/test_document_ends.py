"""No text is encoded to BOS or EOS, whatever it spells and however the tokenizer holds those tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from pipeline import train_tokenizer
from pipeline.document_ends import load_for_documents, randomness_of, text_taken_for_an_end
from pipeline.train_tokenizer import Config, Given, from_tiktoken, load_tokenizer
from storage.errors import ConfigError
from storage.store import Store

S, E = "<s>", "</s>"
RANKS = {bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257, b" the": 258, b"EO": 259}


def bytes_with_added(special: bool, *names: str, **flags: Any) -> Tokenizer:
    """Byte-level BPE whose `names` are added tokens of the model, none in its vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: n for n, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for name in names:
        tokenizer.add_tokens([AddedToken(name, special=special, normalized=False, **flags)])
    return tokenizer


def unigram() -> Tokenizer:
    """As sentence-piece models are shipped: BOS and EOS are pieces of the vocabulary, with a score that beats all others."""
    pieces = [("<unk>", 0.0), (S, 0.0), (E, 0.0), *((character, -9.0) for character in "abcdefghijklmnopqrstuvwxyz<>/▁ ")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<unk>", S, E)])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{S} $A {E}", special_tokens=[(S, 1), (E, 2)])
    return tokenizer


def merged() -> Tokenizer:
    """BPE whose merges lead to `EOS`, a token of letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: n for n, character in enumerate(alphabet)} | {"EO": 256, "EOS": 257, "EOSx": 258, "BOS": 259}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("E", "O"), ("EO", "S"), ("EOS", "x")], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


TOKENIZERS: dict[str, tuple[Tokenizer, tuple[str, str]]] = {
    "added, special": (bytes_with_added(True, S, E), (S, E)),
    "added, not special": (bytes_with_added(False, S, E, "<extra>"), (S, E)),
    "added, taking the white space beside them": (bytes_with_added(False, S, E, lstrip=True, rstrip=True), (S, E)),
    "one token for both, not special": (bytes_with_added(False, "<|endoftext|>"), ("<|endoftext|>", "<|endoftext|>")),
    "pieces of a unigram vocabulary": (unigram(), (S, E)),
    "reached by merges": (merged(), ("BOS", "EOS")),
    "words added to a tiktoken file": (from_tiktoken(RANKS, train_tokenizer.PATTERNS["llama3"], ["BOS", "EOS"]), ("BOS", "EOS")),
}
FRAGMENTS = st.sampled_from([S, E, "<s", ">", "</s", "EOS", "EO", "S", "BOS", "<|endoftext|>", "<extra>", " ", "\n", "the", "x", "é", "東"])


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(fragments=st.lists(FRAGMENTS, max_size=8))
def test_no_text_is_encoded_to_an_end(kind: str, fragments: list[str]) -> None:
    """And a byte-level tokenizer gives the text back."""
    tokenizer, ends = TOKENIZERS[kind]
    deaf, text = _deaf(kind), "".join(fragments)
    ids = deaf.encode(text, add_special_tokens=False).ids
    assert not {tokenizer.token_to_id(name) for name in ends} & set(ids)
    if "unigram" not in kind:
        assert deaf.decode(ids, skip_special_tokens=False) == text


_DEAF: dict[str, Tokenizer] = {}


def _deaf(kind: str) -> Tokenizer:
    if kind not in _DEAF:
        tokenizer, ends = TOKENIZERS[kind]
        _DEAF[kind] = load_for_documents(tokenizer.to_str(), ends)
    return _DEAF[kind]


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "added, special"])
def test_each_of_them_would_be_taken_for_an_end_otherwise(kind: str) -> None:
    """So that the property above can fail: the same tokenizer, only told to read special tokens as text."""
    tokenizer, ends = TOKENIZERS[kind]
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    texts = [f"a {name} b" for name in ends] + list(ends)
    found = {token for text in texts for token in plain.encode(text, add_special_tokens=False).ids}
    assert {tokenizer.token_to_id(name) for name in ends} & found


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_other_texts_and_other_tokens_are_encoded_as_before(kind: str) -> None:
    """Ids follow from places in the file: none may move."""
    tokenizer, _ = TOKENIZERS[kind]
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    for text in ("the river", "a <extra> b", "x = 1;\n\n  return", "EO", "naïve 東京"):
        assert _deaf(kind).encode(text, add_special_tokens=False).ids == plain.encode(text, add_special_tokens=False).ids


def take(tmp_path: Path, tokenizer: str, bos: str = S, eos: str = E) -> train_tokenizer.Loaded:
    """What the stage makes of a tokenizer.json."""
    raw, store, data = Store(str(tmp_path / "raw")), Store(str(tmp_path / "store")), tokenizer.encode()
    raw.write("t.json", data)
    fields = {"path": "t.json", "sha256": hashlib.sha256(data).hexdigest(), "format": "tokenizer.json", "bos_token": bos, "eos_token": eos}
    config = Config(given=Given.model_validate(fields))
    return load_tokenizer(store, train_tokenizer.run(store=store, config=config, inputs={}, raw=raw))


def test_the_stage_takes_what_can_be_read_as_text(tmp_path: Path) -> None:
    for n, (tokenizer, (bos, eos)) in enumerate(TOKENIZERS.values()):
        loaded = take(tmp_path / str(n), tokenizer.to_str(), bos, eos)
        assert (loaded.bos_id, loaded.eos_id) == (tokenizer.token_to_id(bos), tokenizer.token_to_id(eos))
        assert not {loaded.bos_id, loaded.eos_id} & set(loaded.tokenizer.encode(f"a{bos} {eos}", add_special_tokens=False).ids)


def test_an_end_that_stands_for_unknown_characters_is_refused(tmp_path: Path) -> None:
    """Every text in another script would be cut at each of its words."""
    tokenizer = Tokenizer(models.WordLevel({"The": 0, "river": 1, E: 2, S: 3}, unk_token=E))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert text_taken_for_an_end(tokenizer.to_str(), (S, E)) is not None
    with pytest.raises(ConfigError, match=r"tokenizer\.given: t\.json encodes the plain text .* which would cut documents there"):
        take(tmp_path, tokenizer.to_str())


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ({"dropout": 0.1}, "model.dropout 0.1"),
        ({"dropout": 1.0}, "model.dropout 1.0"),
        ({"nbest_size": 64, "alpha": 0.1}, "model.nbest_size 64"),
        ({"nbest_size": -1, "alpha": 0.1}, "model.nbest_size -1"),
    ],
)
def test_a_tokenizer_that_encodes_at_random_is_refused(model: dict[str, Any], setting: str, tmp_path: Path) -> None:
    whole = json.loads((unigram() if "alpha" in model else merged()).to_str())
    whole["model"].update(model)
    with pytest.raises(ConfigError, match=rf"t\.json encodes at random \({setting}\)"):
        take(tmp_path, json.dumps(whole), *((S, E) if "alpha" in model else ("BOS", "EOS")))


def test_settings_that_say_no_to_chance_are_taken() -> None:
    whole = json.loads(merged().to_str())
    for dropout in (None, 0, 0.0):
        whole["model"]["dropout"] = dropout
        assert randomness_of(json.dumps(whole)) is None
