"""The tokenizer: byte-level BPE trained on the selection, or a given one (`tokenizer.json` or a tiktoken rank file). RULE 22.

Trained: Llama 3's pre-tokenisation, merges learnt from a sample of the kept training documents that holds the byte shares given here, so
that a changed mixture of training changes no token; held-out documents never enter. A document enters by a keyed hash of its id, and a
domain that is short of bytes enters repeatedly, so the sample does not depend on order or on workers; nor do the trained bytes.

Writes `tokenizer.json` (Hugging Face tokenizers; its post-processor puts BOS first, as Llama 3's does) and `special_tokens.json`
(bos_token, bos_id, eos_token, eos_id, vocab_size). BOS and EOS have the last two ids of a trained vocabulary, as in Llama 3.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from pipeline.document_ends import load_for_documents, randomness_of, text_taken_for_an_end
from pipeline.documents import keyed_fraction, parts_of, sources_of, survivors
from pipeline.partitions import Output, Results, RunGroups, Step, map_groups, run_stage
from storage.artifact import Manifest, canonical_json, read_verified
from storage.errors import ConfigError, IntegrityError
from storage.store import Store
from storage.strict import Strict

NAME = "train_tokenizer"
VERSION = 1

MAX_RANK = (1 << 21) - 1  # twice the largest vocabulary that is trained: an embedding has a row for each id, used or not

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"  # Llama 3's

# Splits of text before BPE. The same language as tiktoken's patterns, without the possessive forms that Oniguruma reads otherwise.
PATTERNS = {
    "llama3": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}

# How files begin that were compressed.
COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}


class Given(Strict):
    """A tokenizer that exists."""

    path: str = Field(description="file, relative to the execution file's raw_root")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the file, hex")
    format: Literal["tokenizer.json", "tiktoken"] = Field(description="Hugging Face tokenizers, or lines of base64 token and rank")
    pattern: Literal["llama3", "gpt2"] = Field(
        "llama3", description="split before BPE of a tiktoken file: llama3 (also cl100k) or gpt2 (r50k, p50k)"
    )
    bos_token: str = Field(BOS, min_length=1, description="in a tokenizer.json it must exist; to a tiktoken file it is added")
    eos_token: str = Field(EOS, min_length=1, description="in a tokenizer.json it must exist; to a tiktoken file it is added")


class Config(Strict):
    """Either `given`, or what is to be trained."""

    given: Given | None = Field(None, description="take this tokenizer and train none")
    vocab_size: int | None = Field(None, gt=258, le=1 << 20, description="tokens, with 256 bytes, BOS and EOS")
    shares: dict[str, float] | None = Field(None, description="share of the sample's bytes by domain, summing to 1")
    sample_bytes: int | None = Field(None, gt=0, description="UTF-8 bytes of text to learn from; bounds the memory it takes")
    seed: int = Field(0, ge=0, description="keys which documents are sampled")

    @model_validator(mode="after")
    def _one_way(self) -> Config:
        asked = {"vocab_size": self.vocab_size, "shares": self.shares, "sample_bytes": self.sample_bytes}
        named = [name for name, value in asked.items() if value is not None]
        if self.given is not None and named:
            raise ValueError(f"a given tokenizer is not trained: leave out {', '.join(named)}")
        if self.given is None and len(named) < len(asked):
            raise ValueError(f"{', '.join(sorted(set(asked) - set(named)))} missing, or a given tokenizer")
        if self.shares is not None and (abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values()) < 0):
            raise ValueError(f"shares sum to {sum(self.shares.values()):g}; each must be at least 0, and they must sum to 1")
        return self


class Loaded(NamedTuple):
    """A tokenizer ready to encode documents. Special tokens, BOS and EOS that a text spells out are encoded as plain text."""

    tokenizer: Tokenizer
    bos_id: int
    eos_id: int
    vocab_size: int


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    raw: Store | None = None,
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Make the tokenizer. `inputs`: `documents.<source>` and `selection`, none when it is given; `raw`: where a given file lies.

    Raises ConfigError when the sample cannot be taken or yields fewer tokens than asked, or a given file is none; IntegrityError.
    """
    steps = (
        [Step("take", lambda _: [None], partial(_take, raw=raw, config=config))] if config.given else _training_steps(store, config, inputs)
    )
    return run_stage(store=store, stage=NAME, version=VERSION, config=config, inputs=inputs, steps=steps, run_groups=run_groups, info=info)


def load_tokenizer(store: Store, manifest: Manifest) -> Loaded:
    """The tokenizer of an artifact of this stage, verified. Raises IntegrityError."""
    special = json.loads(read_verified(store, manifest, "special_tokens.json"))
    ends = (special["bos_token"], special["eos_token"])
    tokenizer = load_for_documents(read_verified(store, manifest, "tokenizer.json").decode(), ends)
    return Loaded(tokenizer, special["bos_id"], special["eos_id"], special["vocab_size"])


# --- trained -------------------------------------------------------------------------------------------------------------------------


def _training_steps(store: Store, config: Config, inputs: Mapping[str, Manifest]) -> list[Step]:
    sources = sources_of(inputs)
    parts = parts_of(next(iter(sources.values())))
    return [
        Step("measure", lambda _: range(parts), partial(_measure, store=store, inputs=dict(inputs)), final=False),
        Step(
            "train",
            partial(_plan_training, config=config, parts=parts),
            partial(_train, config=config, store=store, inputs=dict(inputs)),
        ),
    ]


def _measure(part: int, output: Output, *, store: Store, inputs: Mapping[str, Manifest]) -> None:
    """Count the UTF-8 bytes that could be sampled, by domain."""
    n_bytes: Counter[str] = Counter()
    for row in survivors(store, inputs, inputs["selection"], part, "train"):
        n_bytes[row.domain] += len(row.text.encode())
    output.note = dict(n_bytes)


def _plan_training(results: Results, *, config: Config, parts: int) -> list[dict[str, Any]]:
    """One group: how often to take a document of each domain, on average."""
    available: Counter[str] = Counter()
    for result in results["measure"]:
        available.update(result.note)
    return [{"parts": parts, "rates": sampling_rates(config, available)}]


def sampling_rates(config: Config, available_bytes: Mapping[str, int]) -> dict[str, float]:
    """How often a document of each domain enters the sample: below 1 some do, above 1 all do, some once more.

    Raises ConfigError when a domain with a share has no training text.
    """
    assert config.shares is not None
    assert config.sample_bytes is not None
    wanted = {domain: share * config.sample_bytes for domain, share in config.shares.items() if share > 0}
    if missing := [domain for domain in wanted if not available_bytes.get(domain)]:
        raise ConfigError(f"tokenizer.shares: no training text of {', '.join(missing)}; there is {_listed_bytes(available_bytes)}")
    total = min(config.sample_bytes, sum(available_bytes.values()))  # of less text than asked, all of it is enough
    return {domain: n_bytes / config.sample_bytes * total / available_bytes[domain] for domain, n_bytes in sorted(wanted.items())}


def _listed_bytes(available_bytes: Mapping[str, int]) -> str:
    return ", ".join(f"{domain} {n:,} bytes" for domain, n in sorted(available_bytes.items())) or "none"


def copies_of(document: bytes, rate: float, seed: int) -> int:
    """How often the document enters the sample, `rate` on average over documents."""
    return int(rate) + (keyed_fraction(f"train_tokenizer {seed}", document) < rate % 1)


def _train(group: dict[str, Any], output: Output, *, config: Config, store: Store, inputs: Mapping[str, Manifest]) -> None:
    assert config.vocab_size is not None
    taken: Counter[str] = Counter()

    def texts() -> Iterator[str]:
        for part in range(group["parts"]):
            for row in survivors(store, inputs, inputs["selection"], part, "train"):
                copies = copies_of(row.id, group["rates"].get(row.domain, 0.0), config.seed)
                taken[f"sample_bytes:{row.domain}"] += copies * len(row.text.encode())
                yield from [row.text] * copies

    tokenizer = train_bpe(texts(), config.vocab_size)
    output.counts.update(taken)
    _write(output, tokenizer.to_str().encode(), tokenizer, BOS, EOS)


def train_bpe(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of exactly `vocab_size` tokens, the same for any order of `texts`.

    Raises ConfigError when they yield fewer.
    """
    tokenizer = _byte_level(models.BPE(), PATTERNS["llama3"])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 2, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (BOS, EOS)])
    if (found := tokenizer.get_vocab_size()) < vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size: {vocab_size:,} tokens asked, the sample yields {found:,}; ask for fewer or sample more bytes"
        )
    _begin_with(tokenizer, BOS)
    return tokenizer


def _byte_level(model: models.BPE, pattern: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _begin_with(tokenizer: Tokenizer, bos: str) -> None:
    """Let an encoding with special tokens begin with BOS; documents are encoded without."""
    bos_id = tokenizer.token_to_id(bos)
    template = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)])
    tokenizer.post_processor = template


def _write(output: Output, data: bytes, tokenizer: Tokenizer, bos: str, eos: str) -> None:
    vocab_size = vocab_size_of(tokenizer)
    ids = {"bos_id": tokenizer.token_to_id(bos), "eos_id": tokenizer.token_to_id(eos)}
    special = {"bos_token": bos, "eos_token": eos, **ids, "vocab_size": vocab_size}
    output.counts["vocab_size"] = vocab_size
    with output.create("tokenizer.json") as file:
        file.write(data)
    with output.create("special_tokens.json") as file:
        file.write(canonical_json(special))


# --- given ---------------------------------------------------------------------------------------------------------------------------


def _take(_: None, output: Output, *, raw: Store | None, config: Config) -> None:
    given = config.given
    assert given is not None
    assert raw is not None, "a given tokenizer needs the store of raw files"
    data, tokenizer = read_given(raw, given)
    _write(output, data, tokenizer, given.bos_token, given.eos_token)


def read_given(raw: Store, given: Given) -> tuple[bytes, Tokenizer]:
    """The given tokenizer as the bytes of a tokenizer.json, and ready to use. Raises ConfigError when it is none, IntegrityError."""
    try:
        data = raw.read(given.path)
    except FileNotFoundError as error:
        raise ConfigError(f"tokenizer.given.path: {given.path} is not under raw_root {raw.uri}") from error
    if (actual := hashlib.sha256(data).hexdigest()) != given.sha256:
        raise IntegrityError(given.path, expected=f"sha256 {given.sha256}", actual=f"sha256 {actual}")
    if packed := next((name for magic, name in COMPRESSIONS.items() if data.startswith(magic)), None):
        raise ConfigError(
            f"tokenizer.given.path: {given.path} is compressed ({packed}): unpack it, and give path and sha256 of what comes out"
        )
    if given.format == "tokenizer.json":
        tokenizer = _parse_tokenizer_json(data, given)
    else:
        ends = list(dict.fromkeys([given.bos_token, given.eos_token]))
        tokenizer = from_tiktoken(parse_tiktoken(data, given.path), PATTERNS[given.pattern], ends)
        data = tokenizer.to_str().encode()
    if (text := text_taken_for_an_end(data.decode(), (given.bos_token, given.eos_token))) is not None:
        raise ConfigError(
            f"tokenizer.given: {given.path} encodes the plain text {text!r} to its {given.bos_token!r} or {given.eos_token!r}, which would"
            " cut documents there; name other tokens"
        )
    return data, tokenizer


def vocab_size_of(tokenizer: Tokenizer) -> int:
    """One more than the largest token id: the rows that an embedding needs."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def _parse_tokenizer_json(data: bytes, given: Given) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the binding raises plain Exception
        raise ConfigError(f"tokenizer.given.path: {given.path} is no tokenizer.json ({error})") from error
    if setting := randomness_of(data.decode()):
        raise ConfigError(
            f"tokenizer.given.path: {given.path} encodes at random ({setting}): set it to null, or no two runs give the same tokens"
        )
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        raise ConfigError(f"tokenizer.given.path: {given.path} cuts or pads texts; set its truncation and padding to null")
    for field, token in (("bos_token", given.bos_token), ("eos_token", given.eos_token)):
        if tokenizer.token_to_id(token) is None:
            special = sorted(token.content for token in tokenizer.get_added_tokens_decoder().values())
            raise ConfigError(
                f"tokenizer.given.{field}: {given.path} has no token {token!r}; its added tokens are {', '.join(special[:8])}"
            )
    return tokenizer


def parse_tiktoken(data: bytes, path: str) -> dict[bytes, int]:
    """Ranks by token of a tiktoken file: lines of base64 token, space, rank (0 to MAX_RANK). Raises ConfigError, naming the line."""
    ranks: dict[bytes, int] = {}
    for n, line in enumerate(data.splitlines(), start=1):
        if line:
            try:
                spelled, written = line.split()
                token, rank = base64.b64decode(spelled, validate=True), int(written)
            except (ValueError, binascii.Error) as error:
                raise ConfigError(f"tokenizer.given.path: {path} line {n} is not a base64 token and a rank") from error
            if not 0 <= rank <= MAX_RANK:
                raise ConfigError(f"tokenizer.given.path: {path} line {n}: its rank is not from 0 to {MAX_RANK:,}")
            ranks[token] = rank
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing or len(set(ranks.values())) < len(ranks):
        raise ConfigError(f"tokenizer.given.path: {path} must hold every single byte and each rank once")
    return ranks


def from_tiktoken(ranks: Mapping[bytes, int], pattern: str, special: Sequence[str]) -> Tokenizer:
    """The tokenizer of a tiktoken file as Hugging Face tokenizers has it: the same ids for the same text.

    Special tokens take ids that no rank has, the lowest first. tiktoken merges by rank, so each token's own merge is the pair that merging
    its bytes by lower ranks leaves; a piece that is a token is taken whole (`ignore_merges`), as tiktoken does.
    """
    spelling = _byte_spelling()
    vocab = {"".join(spelling[byte] for byte in token): rank for token, rank in ranks.items()}
    used, free = set(ranks.values()), iter(range(len(ranks) + len(special)))
    for name in special:
        if name not in vocab:
            vocab[name] = next(rank for rank in free if rank not in used)
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            parts = _merge_below(ranks, token, rank)
            if len(parts) == 2:  # others are reached whole only
                merges.append(("".join(spelling[b] for b in parts[0]), "".join(spelling[b] for b in parts[1])))
    tokenizer = _byte_level(models.BPE(vocab=vocab, merges=merges, ignore_merges=True), pattern)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    _begin_with(tokenizer, special[0])
    return tokenizer


def _merge_below(ranks: Mapping[bytes, int], token: bytes, limit: int) -> list[bytes]:
    """The token's bytes, merged by the lowest rank first while it is below `limit`."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        lowest = min(pairs)
        if lowest >= limit:
            break
        at = pairs.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _byte_spelling() -> list[str]:
    """The character that stands for each byte in byte-level BPE (GPT-2's table): itself if printable, else the next from U+0100."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256))
    return [chr(byte) if byte in printable else chr(256 + next(others)) for byte in range(256)]
