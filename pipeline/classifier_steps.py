"""Steps that train a classifier inside a scoring stage, shared by quality and domains, and cross-fitting. RULE 16.

It trains on the clusters, not held out, that a keyed hash gives to `train_fraction` of the sources named as labels, and of the pages whose
text is contrasted with what extraction left out of them (which are one cluster, so in one half). A second keyed hash cuts these clusters
into two halves, and each trains a model. The ids of both halves are kept (`trained_clusters-*`), so that a document is scored by the models
that did not see its cluster, wherever its members lie: by the other half's where it trained one, else by both.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.documents import document_pieces, keyed_fraction, parts_of, read_beside, read_documents, sources_of, texts_of
from pipeline.exact_copies import read_ids
from pipeline.language_tags import covers
from pipeline.partitions import Output, Results, Step
from storage.artifact import FileEntry, Manifest, read_entry
from storage.errors import ConfigError
from storage.store import Store

LABEL = "__label__"  # before the label of a training line
HALVES = 2
TRAINED = "trained_clusters"


@dataclass(frozen=True)
class Contrast:
    """Sources whose pages teach by themselves, what extraction left out of them beside their text (`dropped.<source>`).

    `examples(text, left out)` gives (label, line) pairs; each of `labels` may come out of it. `languages`: tags of the pages that teach.
    """

    sources: tuple[str, ...]
    languages: tuple[str, ...] | None
    labels: tuple[str, ...]
    examples: Callable[[str, str], list[tuple[str, str]]]


@dataclass(frozen=True)
class Classifier:
    """What a classifier is trained from, and how. `where` names the recipe's field in errors.

    `examples(text)` gives lines without line ends; `train(lines, key)` turns lines `__label__x example` into a model's
    bytes, whatever their order; `load` opens them.
    """

    where: str
    model_name: str  # the halves' models are `<model_name>-0.bin` and `-1.bin`
    labels: Mapping[str, str]  # of each source that trains
    validation_labels: Mapping[str, str]  # of each whole source kept out
    train_fraction: float
    max_label_ratio: float
    seed: int
    examples: Callable[[str], list[str]]
    train: Callable[[Iterable[str], str], bytes]
    load: Callable[[bytes], Any]
    max_lines: float = math.inf  # of a label that train a model
    contrast: Contrast | None = None

    @property
    def sources(self) -> list[str]:
        """The sources that train."""
        return sorted({*self.labels, *(self.contrast.sources if self.contrast else ())})

    @property
    def all_labels(self) -> list[str]:
        """The labels that it learns."""
        return sorted({*self.labels.values(), *(self.contrast.labels if self.contrast else ())})

    @property
    def key(self) -> str:
        """Keys every hash that chooses documents and lines."""
        return f"{self.where}:{self.seed}"

    def trains_on(self, cluster_id: bytes) -> bool:
        """Whether a cluster of a label source, not held out, is among those that train."""
        return keyed_fraction(self.key, cluster_id) < self.train_fraction

    def half_of(self, cluster_id: bytes) -> int:
        """Which of the models such a cluster trains: 0 or 1."""
        return int(keyed_fraction(f"half:{self.key}", cluster_id) * HALVES)


def check_sources(classifier: Classifier, inputs: Mapping[str, Manifest]) -> None:
    """Raises ConfigError when a source is not there, both trains and validates, or keeps nothing to contrast its pages with."""
    known = sources_of(inputs)
    missing = sorted({*classifier.sources, *classifier.validation_labels} - set(known))
    if missing:
        raise ConfigError(f"{classifier.where}: no source is named {missing[0]!r}; there are {sorted(known)}")
    both = sorted(set(classifier.sources) & set(classifier.validation_labels))
    if both:
        raise ConfigError(f"{classifier.where}: {both[0]!r} trains and validates; a source kept out must be whole")
    for source in classifier.contrast.sources if classifier.contrast else ():
        if f"dropped.{source}" not in inputs:
            raise ConfigError(
                f"{classifier.where}.contrast.sources: {source!r} keeps nothing of what extraction leaves out of its pages; "
                "that needs `extractor: blocks` and a dropped_fraction above 0"
            )


def label_step(store: Store, inputs: Mapping[str, Manifest], classifier: Classifier) -> Step:
    """Step `labels`: training lines and cluster ids, per source, partition and half."""
    groups = [(source, part) for source in classifier.sources for part in range(parts_of(inputs[f"documents.{source}"]))]
    return Step("labels", lambda _: groups, partial(_collect_labels, store, dict(inputs), classifier), final=False)


def _collect_labels(store: Store, inputs: Mapping[str, Manifest], classifier: Classifier, group: tuple[str, int], output: Output) -> None:
    source, part = group
    documents = inputs[f"documents.{source}"]
    ids = read_documents(store, documents, part, ["id"])["id"]
    clusters = read_beside(store, inputs["clusters"], source, part, ids, ["cluster_id", "split"])
    trained, lines = [set[bytes]() for _ in range(HALVES)], [Counter[str]() for _ in range(HALVES)]
    if source in classifier.labels:
        found = _labelled(store, documents, part, classifier.labels[source], classifier)
    else:
        assert classifier.contrast is not None
        found = _contrasted(store, documents, inputs[f"dropped.{source}"], part, classifier.contrast)
    with ExitStack() as stack:
        files = [stack.enter_context(output.create(f"labels/{source}/half-{half}/part-{part:05d}.txt")) for half in range(HALVES)]
        for cluster, make in zip(clusters.to_pylist(), found, strict=True):
            if make is None or cluster["split"] == "held_out" or not classifier.trains_on(cluster["cluster_id"]):
                continue
            half, examples = classifier.half_of(cluster["cluster_id"]), make()
            if examples or source in classifier.labels:
                trained[half].add(cluster["cluster_id"])
            for label, example in examples:
                files[half].write(f"{LABEL}{label} {example}\n".encode())
                lines[half][label] += 1
            output.counts["contrast_pages"] += bool(examples) and source not in classifier.labels
    for half in range(HALVES):
        with output.create(f"trained/{source}/half-{half}/part-{part:05d}") as file:
            file.write(b"".join(sorted(trained[half])))
    output.note = {"lines": [dict(sorted(counts.items())) for counts in lines]}


Make = Callable[[], list[tuple[str, str]]]  # the (label, line) pairs of a document, made where it trains


def _labelled(store: Store, documents: Manifest, part: int, label: str, classifier: Classifier) -> Iterator[Make | None]:
    """For each document of a partition what it teaches, all under its source's label."""
    for text in texts_of(store, documents, part):
        yield partial(_under, label, classifier.examples, text)


def _under(label: str, examples: Callable[[str], list[str]], text: str) -> list[tuple[str, str]]:
    return [(label, example) for example in examples(text)]


def _contrasted(store: Store, documents: Manifest, dropped: Manifest, part: int, contrast: Contrast) -> Iterator[Make | None]:
    """For each document of a partition what it teaches beside what was left out of it; None where nothing is known of that."""
    left_out = (row for piece in document_pieces(store, dropped, part, ["id", "text"]) for row in piece.to_pylist())
    following = next(left_out, None)
    for piece in document_pieces(store, documents, part, ["id", "text", "language"]):
        for row in piece.to_pylist():
            while following is not None and following["id"] < row["id"]:
                following = next(left_out, None)
            is_asked = contrast.languages is None or any(covers(wanted, row["language"]) for wanted in contrast.languages)
            if is_asked and following is not None and following["id"] == row["id"]:
                yield partial(contrast.examples, row["text"], following["text"])
            else:
                yield None


@dataclass(frozen=True)
class LabelFiles:
    """What a group of the step `labels` left for one half: lines by label, and the ids of their clusters."""

    lines: Mapping[str, int]
    examples: FileEntry
    clusters: FileEntry


TrainGroup = tuple[int, tuple[LabelFiles, ...]]  # a half, and what it trains on


def train_step(store: Store, classifier: Classifier) -> Step:
    """Step `train`: of each half the model, and the sorted ids of the clusters that trained it."""
    return Step("train", _plan_training, partial(_train, store, classifier))


def _plan_training(results: Results) -> list[TrainGroup]:
    def of_half(half: int) -> Iterator[LabelFiles]:
        for result in results["labels"]:
            examples, clusters = (
                next(e for e in result.files if e.name.startswith(f"{kind}/") and f"/half-{half}/" in e.name)
                for kind in ("labels", "trained")
            )
            yield LabelFiles(result.note["lines"][half], examples, clusters)

    return [(half, tuple(of_half(half))) for half in range(HALVES)]


def _train(store: Store, classifier: Classifier, group: TrainGroup, output: Output) -> None:
    half, files = group
    lines = {label: sum(file.lines.get(label, 0) for file in files) for label in classifier.all_labels}
    if empty := [label for label, n in lines.items() if n == 0]:
        raise ConfigError(
            f"{classifier.where}: the label {empty[0]!r} has no training text in one of its two halves; its sources' "
            f"clusters are held out, empty, too few, or not among train_fraction = {classifier.train_fraction}"
            + ("; or no page of contrast.languages has min_main_words, and min_dropped_words left out" if classifier.contrast else "")
        )
    most = min(classifier.max_label_ratio * min(lines.values()), classifier.max_lines)
    shares = {label: min(1.0, most / n) for label, n in lines.items()}
    model = classifier.train(_training_lines(store, output.attempt.root, files, shares, classifier.key), classifier.key)
    with output.create(f"{classifier.model_name}-{half}.bin") as file:
        file.write(model)
    trained = sorted({name for file in files for name in read_ids(store, output.attempt.root, file.clusters)})
    with output.create(f"{TRAINED}-{half}") as file:
        file.write(b"".join(trained))
    output.counts.update({"trained_clusters": len(trained)} | {f"training_lines:{label}": n for label, n in lines.items()})


def _training_lines(store: Store, root: str, files: Iterable[LabelFiles], shares: Mapping[str, float], key: str) -> Iterator[str]:
    """The lines, of an abundant label only the share that a hash of the line keeps."""
    for file in files:
        for line in read_entry(store, root, file.examples).decode().split("\n")[:-1]:
            if is_taken(f"balance:{key}", line, shares[label_of(line)]):
                yield line


def is_taken(key: str, line: str, share: float) -> bool:
    """Whether a training line is among the share of them that a hash takes."""
    return share == 1.0 or keyed_fraction(key, hashlib.sha256(line.encode()).digest()) < share


def label_of(line: str) -> str:
    """The label of a training line."""
    return line.split(" ", 1)[0].removeprefix(LABEL)


@dataclass(frozen=True)
class Trained:
    """Where the halves' models and the ids of the clusters that trained them lie, within the stage's artifact."""

    models: tuple[FileEntry, ...]
    clusters: tuple[FileEntry, ...]


def trained_files(results: Results) -> Trained:
    """What the step `train` left."""
    models, clusters = zip(*(result.files for result in results["train"]), strict=True)
    return Trained(models, clusters)


@dataclass(frozen=True)
class Fitted:
    """The halves' models, and the ids of the clusters that trained each."""

    models: tuple[Any, ...]
    clusters: tuple[frozenset[bytes], ...]

    def trained(self, cluster_id: bytes) -> bool:
        """Whether a cluster trained one of the models."""
        return any(cluster_id in some for some in self.clusters)

    def scores(self, cluster_ids: Sequence[bytes], predict: Callable[[Any, list[int]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """A row of scores for each document, the mean of the models that did not see its cluster; NaN where none of them says anything.

        `predict(model, rows)` judges the documents of those places: an array of a row each, a column per label, NaN for no vote.
        """
        votes = list[tuple[list[int], NDArray[np.float64]]]()
        for model, seen in zip(self.models, self.clusters, strict=True):
            rows = [i for i, cluster_id in enumerate(cluster_ids) if cluster_id not in seen]
            votes.append((rows, predict(model, rows)))
        total = np.zeros((len(cluster_ids), votes[0][1].shape[1]))
        voters = np.zeros((len(cluster_ids), 1))
        for rows, found in votes:
            silent = np.isnan(found).any(axis=1, keepdims=True)
            total[rows] += np.where(silent, 0.0, found)
            voters[rows] += ~silent
        return np.where(voters > 0, total / np.maximum(voters, 1), np.nan)


@functools.lru_cache(maxsize=2)
def open_fitted(store: Store, root: str, trained: Trained, load: Callable[[bytes], Any]) -> Fitted:
    """The models of `trained`, loaded once a process, and the ids of the clusters that trained them (some 100 bytes
    each in memory: all that `train_fraction` gives, also where a label has more lines than train)."""
    models = tuple(load(read_entry(store, root, entry)) for entry in trained.models)
    return Fitted(models, tuple(frozenset(read_ids(store, root, entry)) for entry in trained.clusters))


def validation_texts(
    store: Store, inputs: Mapping[str, Manifest], classifier: Classifier
) -> Iterator[tuple[str, str, list[str], list[bytes]]]:
    """(source, label, texts, their cluster ids) of the sources kept out, a piece of a partition at a time, without blank texts."""
    for source, label in sorted(classifier.validation_labels.items()):
        manifest = inputs[f"documents.{source}"]
        for part in range(parts_of(manifest)):
            ids = read_documents(store, manifest, part, ["id"])["id"]
            clusters = read_beside(store, inputs["clusters"], source, part, ids, ["cluster_id"])["cluster_id"].to_pylist()
            position = 0
            for piece in document_pieces(store, manifest, part, ["text"]):
                texts = piece["text"].to_pylist()
                rows = [(text, name) for text, name in zip(texts, clusters[position : position + len(texts)], strict=True) if text.strip()]
                position += len(texts)
                yield source, label, [text for text, _ in rows], [name for _, name in rows]


def part_groups(inputs: Mapping[str, Manifest]) -> list[tuple[str, int]]:
    """(source, partition) of every table that a scoring stage writes."""
    return [(source, part) for source, documents in sources_of(inputs).items() for part in range(parts_of(documents))]
