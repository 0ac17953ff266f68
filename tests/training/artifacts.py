"""Small real artifacts for tests of what follows training: a tokenizer, a checkpoint, token shards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from storage.artifact import Attempt, FileEntry, Manifest, fingerprint_of
from storage.store import Store
from storage.token_shards import open_shard, token_size_for
from training.checkpoint import Checkpointer, model_state
from training.config import ModelConfig
from training.model import Llama, init_weights

TEXTS = [f"Document {n}: the quick brown fox jumps over {n} lazy dogs, and then it rests.\n" * 3 for n in range(40)]
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


def tokenizer_artifact(store: Store, vocab_size: int = 300) -> tuple[Manifest, Tokenizer]:
    """A byte-level BPE tokenizer as the stage train_tokenizer leaves it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([BOS, EOS])
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    special = {"bos_token": BOS, "bos_id": bos, "eos_token": EOS, "eos_id": eos, "vocab_size": tokenizer.get_vocab_size()}
    payload = {"name": "t" * 32}
    attempt, entries = Attempt(store, "train_tokenizer", fingerprint_of(payload)), list[FileEntry]()
    for name, text in (("tokenizer.json", tokenizer.to_str()), ("special_tokens.json", json.dumps(special))):
        with attempt.create(name, entries) as file:
            file.write(text.encode())
    return attempt.publish(payload, entries, counts={}, info={}), tokenizer


def tokens_artifact(store: Store, tokenizer: Tokenizer, end: str = EOS) -> Manifest:
    """Token shards to train on: most documents, in the component `general`. `end` ends each."""
    return _shard_artifact(store, tokenizer, "tokenize", "train/general/part-00000", TEXTS[:30], end)


def held_out_artifact(store: Store, tokenizer: Tokenizer, end: str = EOS) -> Manifest:
    """Token shards to evaluate on: the others, of the domain `general`."""
    return _shard_artifact(store, tokenizer, "held_out_tokens", "held_out/general/part-00000", TEXTS[30:], end)


def _shard_artifact(store: Store, tokenizer: Tokenizer, stage: str, stem: str, texts: list[str], end: str) -> Manifest:
    payload = {"name": "k" * 32}
    attempt, entries = Attempt(store, stage, fingerprint_of(payload)), list[FileEntry]()
    size = token_size_for(tokenizer.get_vocab_size())
    eos = tokenizer.token_to_id(end)
    with open_shard(lambda name: attempt.create(name, entries), stem, tokenizer="test", token_size=size) as shard:
        for document, text in sorted((hashlib.sha256(text.encode()).digest()[:16], text) for text in texts):
            shard.append(document, np.array([*tokenizer.encode(text).ids, eos]), len(text.encode()))
    return attempt.publish(payload, entries, counts={}, info={})


def bos_id(tokenizer: Tokenizer) -> int:
    """The id of BOS."""
    found = tokenizer.token_to_id(BOS)
    assert found is not None
    return found


def checkpoint_artifact(store: Store, config: ModelConfig, scratch: Path) -> tuple[Manifest, Llama]:
    """A model with its initial weights, as a finished checkpoint."""
    model = Llama(config)
    init_weights([model], seed=7, n_layers=config.n_layers)
    checkpointer = Checkpointer(store=store, stage="pretrain", fingerprint=fingerprint_of({}), payload={}, scratch=scratch)
    checkpointer.save(1, model_state([model]))
    return checkpointer.finish(1), model
