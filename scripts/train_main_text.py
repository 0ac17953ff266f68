"""Trains the model that keeps or drops the blocks of a page, and writes its weights (`pipeline/ingest/main_text/weights.safetensors`).

    python -m scripts.train_main_text --corpus ../shared/corpus [--epochs 5] [--fold 0] [--out FILE]

Reads `web-crawl/*.warc.gz` and `web-crawl/extraction_gt.jsonl.gz` of a corpus (pages with their main text, or with snippets that belong to
it and snippets that do not). A block's label is the share of its words that align with the main text (longest common subsequence); the
loss of a page is the cross-entropy of its blocks, each weighed by its words ^ 0.75. An eighth of the registered domains (`--fold`) never
trains: the word F1 is printed on them, and `make accept-judgement` judges on them.

The network is `pipeline/ingest/main_text/network.py`'s in floating point; its weights are rounded to that file's units, and what is judged
is the rounded network. Training is repeatable on one machine, not across machines: the weights are what is kept.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.measure_extraction import FOLDS, JUDGED_FOLD, crawl_pages, fold_of, word_f1
from benchmarks.measure_extraction import Page as LabelledPage
from pipeline.ingest.main_text.blocks import Page, read_page
from pipeline.ingest.main_text.network import (
    HIDDEN_UNIT,
    LIMIT,
    MAX_PAGE_WORDS,
    PROBABILITY_UNIT,
    REGIONS,
    STEPS_PER_LOGIT,
    VECTOR_UNIT,
    WEIGHT_UNIT,
    WEIGHTS,
    kept,
    read_network,
    scores,
)
from pipeline.ingest.main_text.signals import Hashes, Signals, signals_of
from scripts.align import matched_words, words_of

VECTOR, HIDDEN, LAYERS = 16, 48, 4
BATCH_PAGES, LEARNING_RATE, WEIGHT_DECAY, WARMUP_STEPS = 8, 2e-3, 0.1, 100
DROPOUT, WORD_DROPOUT = 0.2, 0.4
MIN_DOMAINS_OF_CLASS_WORD, MIN_DOMAINS_OF_WORD = 12, 30  # rarer words are unknown: on how many registered domains
SNIPPET_WEIGHT = 0.5
TEMPERATURE = 1.75  # by which logits are divided: the network is surer than it is right on domains that it has not seen
LOGITS = 24  # on either side of 0 that the table of probabilities covers


@dataclass
class Labelled:
    """A page and its labels: where it has no main text,
    `labels` has 1, 0 or -1 (unknown) for each block, else the share of its words."""

    page: Page
    signals: Signals
    domain: str
    kind: str
    main_text: str
    n_words: NDArray[np.float32]
    labels: NDArray[np.float32]


def labelled_pages(corpus: Path) -> Iterator[Labelled]:
    """Every page with ground truth that has a block."""
    for labelled in crawl_pages(corpus):
        page = read_page(labelled.html)
        if not page.texts:
            continue
        kind, main_text = labelled.page_type or labelled.kind, labelled.main_text or ""
        n_words = np.array([len(words_of(text)) for text in page.texts], np.float32)
        if main_text:
            labels = (matched_words(page.texts, main_text) / np.maximum(n_words, 1)).astype(np.float32)
        else:
            labels = _snippet_labels(page.texts, labelled)
        if labels.max() >= 0:
            yield Labelled(page, signals_of(page), labelled.domain, kind, main_text, n_words, labels)


def _snippet_labels(texts: Sequence[str], labelled: LabelledPage) -> NDArray[np.float32]:
    flat = [" ".join(text.split()) for text in texts]
    labels = np.full(len(texts), -1, np.float32)
    for label, snippets in ((1, labelled.wanted), (0, labelled.unwanted)):
        for snippet in (" ".join(text.split()) for text in snippets):
            for block, text in enumerate(flat):
                if snippet in text or (len(text) > 20 and text in snippet):
                    labels[block] = label
    return labels


@dataclass(frozen=True)
class Vocabulary:
    """What the network has vectors for."""

    class_words: Hashes
    block_words: Hashes
    tags: tuple[str, ...]

    @classmethod
    def of(cls, found: Sequence[Labelled]) -> Vocabulary:
        """Words and tags on enough registered domains."""
        class_domains, word_domains, tags = defaultdict[int, set[str]](set), defaultdict[int, set[str]](set), Counter[str]()
        for one in found:
            for word in set(one.signals.names.tolist()):
                class_domains[word].add(one.domain)
            for word in set(one.signals.words.tolist()):
                word_domains[word].add(one.domain)
            tags.update(set(one.page.tags))
        return cls(
            _frequent(class_domains, MIN_DOMAINS_OF_CLASS_WORD),
            _frequent(word_domains, MIN_DOMAINS_OF_WORD),
            tuple(sorted(tag for tag, count in tags.items() if count >= 3)),
        )


def _frequent(domains: dict[int, set[str]], at_least: int) -> Hashes:
    return np.array(sorted(word for word, found in domains.items() if len(found) >= at_least), np.uint64)


Bag = tuple[Tensor, Tensor]  # indices of vectors, and where each block's or element's begin


@dataclass(frozen=True)
class Batch:
    """Several pages as one: indices of blocks and elements run on from page to page."""

    names: Bag
    inline: Tensor
    of_elements: Tensor
    words: Bag
    tags: Tensor
    numbers: Tensor
    end_order: Tensor
    ended_before: Tensor
    ancestors: Tensor
    first_block: Tensor
    end_block: Tensor
    page_first: Tensor
    page_end: Tensor
    page_of: Tensor
    weights: Tensor

    @classmethod
    def of(cls, found: Sequence[Labelled], vocabulary: Vocabulary) -> Batch:
        """The batch of these pages."""
        blocks = np.concatenate([[0], np.cumsum([len(one.page.texts) for one in found])])
        elements = np.concatenate([[0], np.cumsum([len(one.page.tags) for one in found])])
        names = np.concatenate([[0], np.cumsum([1 + max(one.signals.inline.max(), one.signals.of_elements.max()) for one in found])])
        numbers = {tag: n for n, tag in enumerate(vocabulary.tags, 1)}

        def joined(parts: Sequence[Any], starts: NDArray[np.int64] | None = None) -> Tensor:
            shifted = [np.asarray(part) + (0 if starts is None else starts[n]) for n, part in enumerate(parts)]
            return torch.from_numpy(np.concatenate(shifted))

        def bag(name: str, known: Hashes, starts: NDArray[np.int64]) -> Bag:
            hashes = np.concatenate([getattr(one.signals, name) for one in found])
            of = np.concatenate([getattr(one.signals, f"{name}_of") + starts[n] for n, one in enumerate(found)])
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            is_known = known[place] == hashes
            return torch.from_numpy(place[is_known] + 1), torch.from_numpy(np.searchsorted(of[is_known], np.arange(starts[-1])))

        return cls(
            bag("names", vocabulary.class_words, names), joined([one.signals.inline for one in found], names),
            joined([one.signals.of_elements for one in found], names),
            bag("words", vocabulary.block_words, blocks), joined([[numbers.get(tag, 0) for tag in one.page.tags] for one in found]),
            joined([one.signals.numbers for one in found]).float() / VECTOR_UNIT, joined([one.page.end_order for one in found], elements),
            joined([one.page.ended_before for one in found], elements), joined([one.signals.ancestors for one in found], elements),
            joined([one.page.first_block for one in found], blocks), joined([one.page.end_block for one in found], blocks),
            torch.from_numpy(blocks[:-1]), torch.from_numpy(blocks[1:]),
            torch.from_numpy(np.repeat(np.arange(len(found)), np.diff(blocks))),
            joined([np.minimum(one.signals.n_words, MAX_PAGE_WORDS) for one in found]).float(),
        )  # fmt: skip


class Model(nn.Module):
    """The network in floating point. See `pipeline/ingest/main_text/network.py`."""

    def __init__(self, n_numbers: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.class_vectors = nn.EmbeddingBag(len(vocabulary.class_words) + 1, VECTOR, mode="sum", padding_idx=0)
        self.block_vectors = nn.EmbeddingBag(len(vocabulary.block_words) + 1, VECTOR, mode="sum", padding_idx=0)
        self.tag_vectors = nn.Embedding(len(vocabulary.tags) + 1, VECTOR, padding_idx=0)
        for vectors in (self.class_vectors, self.block_vectors, self.tag_vectors):
            nn.init.normal_(vectors.weight, std=0.1)
        self.first = nn.Linear(n_numbers + 7 * VECTOR, HIDDEN)
        self.page = nn.Linear(2 * HIDDEN, HIDDEN)
        self.layers = nn.ModuleList(nn.Linear((4 + len(REGIONS)) * HIDDEN, HIDDEN) for _ in range(LAYERS))
        self.last = nn.Linear(HIDDEN, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, batch: Batch) -> Tensor:
        """The logit of each block."""
        names = self._bag(self.class_vectors, batch.names)
        own = names[batch.of_elements] + self.tag_vectors(batch.tags)
        chain = own.cumsum(0) - _sums(own[batch.end_order])[batch.ended_before]
        ancestors = batch.ancestors
        values = [batch.numbers, *(own[ancestors[:, level]] for level in range(4)), chain[ancestors[:, 0]].clamp(-LIMIT, LIMIT)]
        values.append(names[batch.inline].clamp(-LIMIT // 2, LIMIT // 2))
        values.append(self._bag(self.block_vectors, batch.words).clamp(-LIMIT, LIMIT))
        hidden = self.first(self.dropout(torch.cat(values, 1))).clamp(0, LIMIT)
        first, end, weights = batch.page_first, batch.page_end, batch.weights[:, None]
        weighed = (_sums(hidden * weights)[end] - _sums(hidden * weights)[first]) / (_sums(weights)[end] - _sums(weights)[first])
        page = self.page(torch.cat([_means(hidden, first, end), weighed], 1))
        hidden = (hidden + page[batch.page_of]).clamp(0, LIMIT)
        for number, layer in enumerate(self.layers):
            seen = torch.cat(_around(hidden, 1 << number, batch), 1)
            hidden = (hidden + layer(self.dropout(seen))).clamp(0, LIMIT)
        logits: Tensor = self.last(hidden)[:, 0]
        return logits

    def _bag(self, vectors: nn.EmbeddingBag, bag: Bag) -> Tensor:
        indices, starts = bag
        if self.training:
            indices = indices * (torch.rand(len(indices)) > WORD_DROPOUT)
        found: Tensor = vectors(indices, starts)
        return found


def _sums(values: Tensor) -> Tensor:
    """Sums of the rows before each, and of all."""
    return torch.cat([torch.zeros(1, values.shape[1]), values.cumsum(0)])


def _means(values: Tensor, first: Tensor, end: Tensor) -> Tensor:
    sums = _sums(values)
    return (sums[end] - sums[first]) / (end - first).clamp(min=1)[:, None]


def _around(hidden: Tensor, distance: int, batch: Batch) -> list[Tensor]:
    n = len(hidden)
    place, first, end = torch.arange(n), batch.page_first[batch.page_of], batch.page_end[batch.page_of]
    padded = torch.cat([hidden, torch.zeros(1, hidden.shape[1])])
    before = padded[torch.where(place - distance >= first, place - distance, n)]
    after = padded[torch.where(place + distance < end, place + distance, n)]
    regions = [batch.ancestors[:, level] for level in REGIONS]
    means = [_means(hidden, batch.first_block[region], batch.end_block[region]) for region in regions]
    return [hidden, before, after, *means, _means(hidden, batch.page_first, batch.page_end)[batch.page_of]]


def page_loss(logits: Tensor, one: Labelled) -> Tensor:
    """The loss of one page."""
    labels = torch.from_numpy(one.labels)
    if not one.main_text:
        known = labels >= 0
        return SNIPPET_WEIGHT * functional.binary_cross_entropy_with_logits(logits[known], labels[known])
    weights = torch.from_numpy(one.n_words).clamp(min=0.5) ** 0.75
    return (functional.binary_cross_entropy_with_logits(logits, labels, reduction="none") * weights).sum() / weights.sum()


def train(found: list[Labelled], vocabulary: Vocabulary, epochs: int, seed: int) -> Model:
    """A model of these pages."""
    torch.manual_seed(seed)
    order = random.Random(seed)
    model = Model(found[0].signals.numbers.shape[1], vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
    steps, step = epochs * len(found) // BATCH_PAGES, 0
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        order.shuffle(found)
        for start in range(0, len(found) - BATCH_PAGES + 1, BATCH_PAGES):
            rate = LEARNING_RATE * min(1, step / WARMUP_STEPS) * max(0.02, 1 - step / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            some = found[start : start + BATCH_PAGES]
            batch = Batch.of(some, vocabulary)
            pieces = model(batch).split([len(one.page.texts) for one in some])
            loss = torch.stack([page_loss(logits, one) for logits, one in zip(pieces, some, strict=True)]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step, total = step + 1, total + loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total * BATCH_PAGES / len(found):.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return model.eval()


def save(model: Model, vocabulary: Vocabulary, path: Path) -> None:
    """Write the weights in whole numbers. Raises ValueError when one does not fit 16 bits."""

    def whole(values: Tensor, unit: int, kind: type[np.int16 | np.int32]) -> NDArray[Any]:
        rounded = np.round(values.detach().double().numpy() * unit)
        if np.abs(rounded).max() > np.iinfo(kind).max:
            raise ValueError(f"a weight of {np.abs(rounded).max() / unit} is too large")
        return rounded.astype(kind)

    arrays: dict[str, NDArray[Any]] = {
        "class_words": vocabulary.class_words,
        "class_vectors": whole(model.class_vectors.weight[1:], VECTOR_UNIT, np.int16),
        "block_words": vocabulary.block_words,
        "block_vectors": whole(model.block_vectors.weight[1:], VECTOR_UNIT, np.int16),
        "tags": np.frombuffer(" ".join(vocabulary.tags).encode(), np.uint8),
        "tag_vectors": whole(model.tag_vectors.weight, VECTOR_UNIT, np.int16),
    }
    linears: dict[str, nn.Linear] = {"first": model.first, "page": model.page, "last": model.last}
    linears |= {f"layer{n}": layer for n, layer in enumerate(model.layers) if isinstance(layer, nn.Linear)}
    for name, layer in linears.items():
        unit_in = VECTOR_UNIT if name == "first" else HIDDEN_UNIT
        arrays[f"{name}.weight"] = whole(layer.weight, WEIGHT_UNIT, np.int16)
        arrays[f"{name}.bias"] = whole(layer.bias, WEIGHT_UNIT * unit_in, np.int32)
    steps = np.arange(-LOGITS * STEPS_PER_LOGIT, LOGITS * STEPS_PER_LOGIT + 1)
    arrays["probabilities"] = np.round(PROBABILITY_UNIT / (1 + np.exp(-steps / STEPS_PER_LOGIT / TEMPERATURE))).astype(np.uint16)
    save_file(arrays, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the weights, print the word F1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder that holds web-crawl/")
    parser.add_argument("--fold", type=int, default=JUDGED_FOLD, choices=range(FOLDS), help="these domains do not train, and are judged")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = list(labelled_pages(options.corpus))
    training = [one for one in found if fold_of(one.domain) != options.fold]
    vocabulary = Vocabulary.of(training)
    print(f"{len(training)} of {len(found)} pages train; {len(vocabulary.class_words)} class words, {len(vocabulary.block_words)} words")
    save(train(training, vocabulary, options.epochs, options.seed), vocabulary, options.out)
    report([one for one in found if one.main_text and fold_of(one.domain) == options.fold], options.out)


def report(judged: Sequence[Labelled], weights: Path) -> None:
    """Print the mean word F1 by kind of page."""
    net, values = read_network(weights), defaultdict[str, list[float]](list)
    for one in judged:
        keep = kept(scores(one.page, one.signals, net), one.signals.n_words, net)
        text = "\n".join(text for text, is_kept in zip(one.page.texts, keep, strict=True) if is_kept)
        for name in ("all", one.kind):
            values[name].append(word_f1(text, one.main_text))
    for name, some in sorted(values.items()):
        print(f"word F1, {name}: {sum(some) / len(some):.4f} of {len(some)} pages")


if __name__ == "__main__":
    main()
