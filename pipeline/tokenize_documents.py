"""Tokens: each document once, as BOS, its tokens, EOS. Two artifacts: what is trained on, by component, and what is evaluated, by domain.

A group is a partition: the documents of all sources in it, merged in id order, go to `train/<component>/part-%05d`, or of the held-out
documents those that `coverage` leaves to `held_out/<domain>/part-%05d` (format: storage/token_shards.py). Part after part, a component's
shards are its stream in id order (RULE 23). Nothing about held-out documents is an input of training (RULE 21).
`counts.json` holds token_size (bytes), vocab_size, bos_id (what begins a document), eos_id only where that ends it too, and under `train`
by component, or under `held_out` by domain: tokens (BOS and EOS among them), documents, bytes (UTF-8, of the edited texts) and
tokens_per_byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import numpy as np

from pipeline.coverage import evaluated
from pipeline.documents import Survivor, batched, parts_of, sources_of, survivors
from pipeline.partitions import Output, Results, RunGroups, Step, map_groups, run_stage
from pipeline.train_tokenizer import Loaded, load_tokenizer
from storage.artifact import Manifest, canonical_json
from storage.errors import ConfigError
from storage.store import Store
from storage.strict import Strict
from storage.token_shards import ShardWriter, Tokens, open_shard, token_size_for

NAME = "tokenize"
VERSION = 2
HELD_OUT_NAME = "held_out_tokens"
HELD_OUT_VERSION = 1

Split = Literal["train", "held_out"]
BATCH_CHARACTERS = 1 << 18  # encoded at once: enough for the tokenizer's threads, and some 25 MB of its working memory
TOKENIZER_NAME_DIGITS = 16


class Config(Strict):
    """Nothing to choose: documents, selection and tokenizer say it all."""


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the shards to train on. `inputs`: `documents.<source>`, `selection`, `tokenizer`.

    Raises ConfigError when the tokenizer puts BOS or EOS inside a document, IntegrityError.
    """
    return _run("train", NAME, VERSION, store, config, inputs, run_groups, info)


def run_held_out(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write the shards to evaluate on. `inputs`: as of `run`, and `coverage`. Raises as `run`."""
    return _run("held_out", HELD_OUT_NAME, HELD_OUT_VERSION, store, config, inputs, run_groups, info)


def _run(
    split: Split,
    name: str,
    version: int,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups,
    info: Mapping[str, Any] | None,
) -> Manifest:
    parts = parts_of(next(iter(sources_of(inputs).values())))
    steps = [
        Step("shards", lambda _: range(parts), partial(_tokenize_part, split=split, store=store, inputs=dict(inputs))),
        Step("counts", _add_up, partial(_write_counts, split=split, store=store, tokenizer=inputs["tokenizer"])),
    ]
    return run_stage(store=store, stage=name, version=version, config=config, inputs=inputs, steps=steps, run_groups=run_groups, info=info)


def _rows(split: Split, store: Store, inputs: Mapping[str, Manifest], part: int) -> Iterator[Survivor]:
    if split == "train":
        return survivors(store, inputs, inputs["selection"], part, split)
    return evaluated(store, inputs, inputs["selection"], inputs["coverage"], part)


def encode(loaded: Loaded, texts: Sequence[str]) -> list[Tokens]:
    """Each text as BOS, its tokens, EOS: 1-D, uint16 where the vocabulary fits, else uint32."""
    dtype = np.dtype(f"<u{token_size_for(loaded.vocab_size)}")
    bos, eos = np.array([loaded.bos_id], dtype), np.array([loaded.eos_id], dtype)
    encodings = loaded.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.concatenate([bos, np.array(encoding.ids, dtype), eos]) for encoding in encodings]


def _tokenize_part(part: int, output: Output, *, split: Split, store: Store, inputs: Mapping[str, Manifest]) -> None:
    loaded = load_tokenizer(store, inputs["tokenizer"])
    tokenizer, token_size = inputs["tokenizer"].digest[:TOKENIZER_NAME_DIGITS], token_size_for(loaded.vocab_size)
    counts: dict[str, Counter[str]] = {}
    with ExitStack() as open_shards:
        shards: dict[str, ShardWriter] = {}
        for batch in batched(_rows(split, store, inputs, part), BATCH_CHARACTERS):
            for row, tokens in zip(batch, encode(loaded, [row.text for row in batch]), strict=True):
                _check_ends(loaded, row, tokens)
                name, n_bytes = row.component or row.domain, len(row.text.encode())
                if name not in shards:
                    shard = open_shard(output.create, f"{split}/{name}/part-{part:05d}", tokenizer=tokenizer, token_size=token_size)
                    shards[name], counts[name] = open_shards.enter_context(shard), Counter()
                shards[name].append(row.id, tokens, n_bytes)
                counts[name].update(tokens=len(tokens), documents=1, bytes=n_bytes)
    output.note = {name: dict(count) for name, count in counts.items()}
    for count in counts.values():
        output.counts.update(count)


def _check_ends(loaded: Loaded, row: Survivor, tokens: Tokens) -> None:
    """Raises ConfigError when BOS or EOS stands inside a document: it would be cut there in training."""
    inside = tokens[1:-1]
    if np.any((inside == loaded.bos_id) | (inside == loaded.eos_id)):
        raise ConfigError(
            f"tokenizer.given: it encodes text of document {row.id.hex()} ({row.source}) to its BOS or EOS, which would cut the document"
            " there; name other tokens"
        )


def _add_up(results: Results) -> list[dict[str, dict[str, int]]]:
    """One group: the counts of every stream over all parts."""
    total: dict[str, Counter[str]] = {}
    for result in results["shards"]:
        for name, counts in result.note.items():
            total.setdefault(name, Counter()).update(counts)
    return [{name: dict(counts) for name, counts in sorted(total.items())}]


def _write_counts(group: dict[str, dict[str, int]], output: Output, *, split: Split, store: Store, tokenizer: Manifest) -> None:
    loaded = load_tokenizer(store, tokenizer)
    size = token_size_for(loaded.vocab_size)
    rows = {name: {**row, "tokens_per_byte": row["tokens"] / row["bytes"]} for name, row in group.items()}
    counts: dict[str, Any] = {"format": 1, "token_size": size, "vocab_size": loaded.vocab_size, "bos_id": loaded.bos_id, split: rows}
    if loaded.eos_id == loaded.bos_id:  # who reads tokens must tell a document's begin from another's end
        counts["eos_id"] = loaded.eos_id
    with output.create("counts.json") as file:
        file.write(canonical_json(counts))
