"""train_tokenizer: RULE 22, determinism, given tokenizers, and equality with tiktoken."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import random
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import tiktoken
import zstandard
from pydantic import ValidationError
from tokenizers import Tokenizer

from pipeline import train_tokenizer
from pipeline.train_tokenizer import (
    BOS,
    EOS,
    PATTERNS,
    Config,
    Given,
    copies_of,
    from_tiktoken,
    load_tokenizer,
    parse_tiktoken,
    sampling_rates,
)
from storage.artifact import Manifest, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from tests.pipeline.small_artifacts import Row, write_inputs

TOKENIZERS = Path("/work/shared/corpus/tokenizers")
HARD_TEXTS = [
    "",
    " ",
    "\n\n  \r\n\t x",
    "don't DON'T we'll 'Sx",
    "naïve façade 東京タワー 🎉🎉 \u0301a",
    "1234567 ٣٤٥ x=3.14;\n\n\n    return",
    "\x00\x01 \u2028 \u3000end  ",
    "<|begin_of_text|> and <|end_of_text|><|endoftext|>",
]


def rows(split: str = "train") -> list[Row]:
    """Paragraphs of real English in two domains, one of them short."""
    paragraphs = [text for name in sorted(topics)[:40] for text in topics[name].split("\n\n") if len(text) > 40][:900]
    return [Row(f"{split}-{n}", text, domain="code" if n % 8 == 0 else "general", split=split) for n, text in enumerate(paragraphs)]


def config(**changes: Any) -> Config:
    """A small trained tokenizer."""
    return Config.model_validate({"vocab_size": 600, "shares": {"general": 0.5, "code": 0.5}, "sample_bytes": 120_000, "seed": 1} | changes)


def tokenizer_bytes(store: Store, manifest: Manifest) -> bytes:
    """Its tokenizer.json."""
    return read_verified(store, manifest, "tokenizer.json")


def test_vocabulary_has_the_asked_size_with_bos_and_eos_last(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    manifest = train_tokenizer.run(store=store, config=config(), inputs=write_inputs(store, rows()))
    loaded = load_tokenizer(store, manifest)
    assert (loaded.vocab_size, loaded.bos_id, loaded.eos_id) == (600, 598, 599)
    assert json.loads(read_verified(store, manifest, "special_tokens.json")) == {
        "bos_token": BOS,
        "bos_id": 598,
        "eos_token": EOS,
        "eos_id": 599,
        "vocab_size": 600,
    }
    assert manifest.counts["vocab_size"] == 600


def test_every_text_comes_back_and_spelled_out_special_tokens_stay_text(tmp_path: Path) -> None:
    """Byte-level: nothing is lost; a document that spells BOS gets no BOS. With special tokens, an encoding begins with BOS alone."""
    store = Store(str(tmp_path))
    loaded = load_tokenizer(store, train_tokenizer.run(store=store, config=config(), inputs=write_inputs(store, rows())))
    for text in HARD_TEXTS:
        ids = loaded.tokenizer.encode(text, add_special_tokens=False).ids
        assert loaded.tokenizer.decode(ids, skip_special_tokens=False) == text
        assert not {loaded.bos_id, loaded.eos_id} & set(ids)
        assert loaded.tokenizer.encode(text).ids == [loaded.bos_id, *ids]


def test_bytes_depend_on_nothing_but_the_documents_and_the_config(tmp_path: Path) -> None:
    """Partitions, order of input and a second run: the same bytes; another seed or other shares: others."""
    digests = []
    for n, (documents, partitions) in enumerate([(rows(), 1), (rows()[::-1], 4), (rows(), 4)]):
        store = Store(str(tmp_path / str(n)))
        digests.append(train_tokenizer.run(store=store, config=config(), inputs=write_inputs(store, documents, partitions)).digest)
    assert len(set(digests)) == 1
    store = Store(str(tmp_path / "other"))
    inputs = write_inputs(store, rows())
    changed = [config(seed=2), config(shares={"general": 0.9, "code": 0.1})]
    assert len({digests[0], *(train_tokenizer.run(store=store, config=c, inputs=inputs).digest for c in changed)}) == 3


def test_held_out_and_dropped_documents_never_enter(tmp_path: Path) -> None:
    """With other held-out or dropped texts the tokenizer has the same bytes."""
    made = []
    for n, extra in enumerate([[], rows("held_out"), [Row("x", "zzyzx " * 5000, keep=False)]]):
        store = Store(str(tmp_path / str(n)))
        made.append(tokenizer_bytes(store, train_tokenizer.run(store=store, config=config(), inputs=write_inputs(store, rows() + extra))))
    assert made[0] == made[1] == made[2]


def test_sample_holds_the_shares_in_bytes_and_repeats_what_is_short(tmp_path: Path) -> None:
    """Half of the sample is code, though there is little of it; the rest is thinned."""
    store = Store(str(tmp_path))
    counts = train_tokenizer.run(store=store, config=config(), inputs=write_inputs(store, rows())).counts
    total = counts["sample_bytes:general"] + counts["sample_bytes:code"]
    assert counts["sample_bytes:code"] / total == pytest.approx(0.5, abs=0.05)
    assert total == pytest.approx(120_000, rel=0.1)


def test_rates_follow_the_shares_exactly() -> None:
    rates = sampling_rates(
        config(sample_bytes=1000, shares={"general": 0.75, "code": 0.25, "math": 0.0}), {"general": 3000, "code": 100, "math": 9}
    )
    assert rates == {"code": 2.5, "general": 0.25}
    short = sampling_rates(config(sample_bytes=10_000), {"general": 300, "code": 100})
    assert {name: rate * n for (name, rate), n in zip(short.items(), (100, 300), strict=True)} == pytest.approx(
        {"code": 200, "general": 200}
    )


def test_copies_average_to_the_rate() -> None:
    ids = [hashlib.sha256(bytes([n % 256, n // 256])).digest()[:16] for n in range(4000)]
    for rate in (0.0, 0.3, 1.0, 2.25):
        copies = [copies_of(name, rate, 7) for name in ids]
        assert set(copies) <= {int(rate), int(rate) + 1}
        assert sum(copies) / len(ids) == pytest.approx(rate, abs=0.03)


def test_a_share_without_text_and_a_sample_too_small_are_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    inputs = write_inputs(store, rows())
    with pytest.raises(ConfigError, match=r"no training text of math; there is code [\d,]+ bytes, general"):
        train_tokenizer.run(store=store, config=config(shares={"general": 0.5, "math": 0.5}), inputs=inputs)
    with pytest.raises(ConfigError, match=r"vocab_size: 50,000 tokens asked, the sample yields [\d,]+; ask for fewer"):
        train_tokenizer.run(store=store, config=config(vocab_size=50_000), inputs=inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "sample_bytes, shares, vocab_size missing, or a given tokenizer"),
        ({"vocab_size": 600}, "sample_bytes, shares missing"),
        ({"given": {"path": "t", "sha256": "0" * 64, "format": "tiktoken"}, "vocab_size": 600}, "leave out vocab_size"),
        ({"vocab_size": 258, "shares": {"a": 1.0}, "sample_bytes": 1}, "greater than 258"),
        ({"vocab_size": 600, "shares": {"a": 0.5}, "sample_bytes": 1}, "shares sum to 0.5"),
        ({"given": {"path": "t", "sha256": "abc", "format": "tiktoken"}}, "sha256"),
        ({"given": {"path": "t", "sha256": "0" * 64, "format": "sentencepiece"}}, "tiktoken"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(fields)


# --- given tokenizers ----------------------------------------------------------------------------------------------------------------


def small_ranks() -> dict[bytes, int]:
    """A rank file learnt by tiktoken's own rules: bytes, then pairs of pairs, with a gap at rank 260."""
    tokens = [b"th", b"the", b" the", b"in", b"ing", b"\xe6\x9d", b"  ", b"    "]
    ranks = {bytes([byte]): byte for byte in range(256)}
    return ranks | {token: rank for token, rank in zip(tokens, [256, 257, 258, 259, 261, 262, 263, 264], strict=True)}


def tiktoken_file(ranks: dict[bytes, int]) -> bytes:
    """The ranks as a tiktoken file."""
    return b"".join(base64.b64encode(token) + f" {rank}\n".encode() for token, rank in ranks.items())


def given_config(data: bytes, **fields: Any) -> Config:
    """A recipe that takes the file `given`."""
    return Config(given=Given.model_validate({"path": "given", "sha256": hashlib.sha256(data).hexdigest(), "format": "tiktoken", **fields}))


def test_a_tiktoken_file_becomes_a_tokenizer_json_with_special_tokens_on_free_ids(tmp_path: Path) -> None:
    """The gap at 260 is taken first, then the end."""
    data, raw, store = tiktoken_file(small_ranks()), Store(str(tmp_path / "raw")), Store(str(tmp_path / "store"))
    raw.write("given", data)
    manifest = train_tokenizer.run(store=store, config=given_config(data), inputs={}, raw=raw)
    loaded = load_tokenizer(store, manifest)
    assert (loaded.bos_id, loaded.eos_id, loaded.vocab_size) == (260, 265, 266)
    encoding = tiktoken.Encoding("small", pat_str=PATTERNS["llama3"], mergeable_ranks=small_ranks(), special_tokens={})
    for text in [*HARD_TEXTS, "the thing in  the    breathing 杜"]:
        assert loaded.tokenizer.encode(text, add_special_tokens=False).ids == encoding.encode_ordinary(text)


def test_the_largest_rank_is_taken() -> None:
    ranks = small_ranks() | {b"zz": (1 << 21) - 1}
    tokenizer = from_tiktoken(parse_tiktoken(tiktoken_file(ranks), "given"), PATTERNS["llama3"], ["<s>"])
    assert tokenizer.encode("zz", add_special_tokens=False).ids == [(1 << 21) - 1]


def test_a_given_tokenizer_json_is_kept_byte_for_byte(tmp_path: Path) -> None:
    raw, store = Store(str(tmp_path / "raw")), Store(str(tmp_path / "store"))
    data = from_tiktoken(small_ranks(), PATTERNS["gpt2"], ["<s>", "</s>"]).to_str(pretty=True).encode()
    raw.write("given", data)
    fields = {"format": "tokenizer.json", "bos_token": "<s>", "eos_token": "</s>"}
    manifest = train_tokenizer.run(store=store, config=given_config(data, **fields), inputs={}, raw=raw)
    assert tokenizer_bytes(store, manifest) == data
    assert load_tokenizer(store, manifest)[1:] == (260, 265, 266)
    cutting = Tokenizer.from_str(data.decode())
    cutting.enable_truncation(8)  # as sentence encoders ship theirs: every document would end after 8 tokens
    raw.write("given", cutting.to_str().encode())
    with pytest.raises(ConfigError, match="given cuts or pads texts"):
        train_tokenizer.run(store=store, config=given_config(cutting.to_str().encode(), **fields), inputs={}, raw=raw)
    raw.write("given", data)
    with pytest.raises(ConfigError, match=r"given\.eos_token: given has no token '<eos>'; its added tokens are </s>, <s>"):
        train_tokenizer.run(store=store, config=given_config(data, **fields | {"eos_token": "<eos>"}), inputs={}, raw=raw)


@pytest.mark.parametrize(
    ("data", "fields", "error", "message"),
    [
        (b"aGk= 1\nnot a line\n", {}, ConfigError, "given line 2 is not a base64 token and a rank"),
        (b"aGk= 1\n", {}, ConfigError, "must hold every single byte"),
        (tiktoken_file({b"zz": -1} | small_ranks()), {}, ConfigError, r"given line 1: its rank is not from 0 to 2,097,151"),
        (tiktoken_file(small_ranks() | {b"zz": 1 << 21}), {}, ConfigError, r"given line 265: its rank is not from 0 to 2,097,151"),
        (tiktoken_file(small_ranks() | {b"zz": 10**18}), {}, ConfigError, r"given line 265: its rank is not from 0"),
        (b"aGk= " + b"1" * 5000, {}, ConfigError, "given line 1 is not a base64 token and a rank"),
        (tiktoken_file(small_ranks() | {b"zz": 256}), {}, ConfigError, "each rank once"),
        (b"{}", {"format": "tokenizer.json"}, ConfigError, "is no tokenizer.json"),
        (gzip.compress(tiktoken_file(small_ranks()), mtime=0), {}, ConfigError, r"given is compressed \(gzip\): unpack it"),
        (gzip.compress(b"{}", mtime=0), {"format": "tokenizer.json"}, ConfigError, r"given is compressed \(gzip\): unpack it"),
        (zstandard.compress(b"aGk= 1"), {}, ConfigError, r"given is compressed \(zstd\)"),
        (bz2.compress(b"aGk= 1"), {}, ConfigError, r"given is compressed \(bzip2\)"),
        (lzma.compress(b"aGk= 1"), {}, ConfigError, r"given is compressed \(xz\)"),
        (b"x", {"sha256": "0" * 64}, IntegrityError, "given: expected sha256 000"),
        (b"x", {"path": "elsewhere"}, ConfigError, "elsewhere is not under raw_root"),
    ],
)
def test_a_wrong_given_file_is_refused(tmp_path: Path, data: bytes, fields: dict[str, Any], error: type[Exception], message: str) -> None:
    raw, store = Store(str(tmp_path / "raw")), Store(str(tmp_path / "store"))
    raw.write("given", data)
    with pytest.raises(error, match=message):
        train_tokenizer.run(store=store, config=given_config(data, **fields), inputs={}, raw=raw)


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason="the shared corpus is not here")
@pytest.mark.parametrize(("name", "pattern"), [("cl100k_base", "llama3"), ("r50k_base", "gpt2"), ("p50k_base", "gpt2")])
def test_published_rank_files_give_tiktokens_tokens(name: str, pattern: str) -> None:
    """On prose, code, mathematics, 75 languages and random mixtures of characters, with tiktoken's own (possessive) patterns."""
    published = {
        "llama3": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    }
    ranks = parse_tiktoken(gzip.decompress((TOKENIZERS / f"{name}.tiktoken.gz").read_bytes()), name)
    converted = Tokenizer.from_str(from_tiktoken(ranks, PATTERNS[pattern], [BOS, EOS]).to_str())
    converted.encode_special_tokens = True
    encoding = tiktoken.Encoding(name, pat_str=published[pattern], mergeable_ranks=ranks, special_tokens={})
    texts = [*HARD_TEXTS, *corpus_texts(), *random_texts(300)]
    ours = converted.encode_batch_fast(texts, add_special_tokens=False)
    assert [text for text, mine in zip(texts, ours, strict=True) if mine.ids != encoding.encode_ordinary(text)] == []


def corpus_texts() -> list[str]:
    """Some text of every kind in the shared corpus."""
    files = ["langid/lingua-75langs", "code/packages", "math/planetmath-tex", "general/wikitext2-valid"]
    texts = []
    for name in files:
        with gzip.open(TOKENIZERS.parent / f"{name}.jsonl.gz", "rt") as lines:
            texts += [json.loads(line)["text"][:3000] for line, _ in zip(lines, range(60), strict=False)]
    return texts


def random_texts(n: int) -> list[str]:
    """Characters that regular expressions disagree about, at random."""
    rng, characters = random.Random(0), [*" \n\r\t\x00a3!É٣中ſ🎉", "'s", "'S", "\u00a0", "\u3000", "\u0301", "\u2028", "<|endoftext|>"]
    return ["".join(rng.choices(characters, k=30)) for _ in range(n)]
