"""Steps that train a fastText classifier inside a scoring stage, shared by quality and domains. RULE 16.

It trains on the clusters, not held out, that a keyed hash gives to `train_fraction` of the sources named as labels. The ids of those
clusters are kept (`trained_clusters`), so that scoring leaves them without a score wherever their members lie.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.documents import keyed_fraction, parts_of, read_beside, read_documents, sources_of, texts_of
from pipeline.exact_copies import read_ids
from pipeline.fasttext_training import LABEL, FastTextConfig, load, train
from pipeline.partitions import Output, Results, Step
from storage.artifact import FileEntry, Manifest, read_entry
from storage.errors import ConfigError
from storage.store import Store

TRAINED = "trained_clusters"


@dataclass(frozen=True)
class Classifier:
    """What a classifier is trained from. `examples(text)` gives lines of words; `where` names the recipe's field in errors."""

    where: str
    model_name: str
    labels: Mapping[str, str]  # of each source that trains
    validation_labels: Mapping[str, str]  # of each whole source kept out
    train_fraction: float
    max_label_ratio: float
    fasttext: FastTextConfig
    seed: int
    examples: Callable[[str], list[str]]

    @property
    def key(self) -> str:
        """Keys every hash that chooses documents and lines."""
        return f"{self.where}:{self.seed}"

    def trains_on(self, cluster_id: bytes) -> bool:
        """Whether a cluster of a label source, not held out, is among those that train."""
        return keyed_fraction(self.key, cluster_id) < self.train_fraction


def check_sources(classifier: Classifier, inputs: Mapping[str, Manifest]) -> None:
    """Raises ConfigError when a source is not there, or both trains and validates."""
    known = sources_of(inputs)
    missing = sorted({*classifier.labels, *classifier.validation_labels} - set(known))
    if missing:
        raise ConfigError(f"{classifier.where}: no source is named {missing[0]!r}; there are {sorted(known)}")
    both = sorted(set(classifier.labels) & set(classifier.validation_labels))
    if both:
        raise ConfigError(f"{classifier.where}: {both[0]!r} trains and validates; a source kept out must be whole")


def label_step(store: Store, inputs: Mapping[str, Manifest], classifier: Classifier) -> Step:
    """Step `labels`: training lines and cluster ids, per label source and partition."""
    groups = [(source, part) for source in sorted(classifier.labels) for part in range(parts_of(inputs[f"documents.{source}"]))]
    return Step("labels", lambda _: groups, partial(_collect_labels, store, dict(inputs), classifier), final=False)


def _collect_labels(store: Store, inputs: Mapping[str, Manifest], classifier: Classifier, group: tuple[str, int], output: Output) -> None:
    source, part = group
    documents = inputs[f"documents.{source}"]
    ids = read_documents(store, documents, part, ["id"])["id"]
    clusters = read_beside(store, inputs["clusters"], source, part, ids, ["cluster_id", "split"])
    label, trained, lines = classifier.labels[source], set[bytes](), 0
    with output.create(f"labels/{source}/part-{part:05d}.txt") as file:
        for text, cluster in zip(texts_of(store, documents, part), clusters.to_pylist(), strict=True):
            if cluster["split"] != "held_out" and classifier.trains_on(cluster["cluster_id"]):
                trained.add(cluster["cluster_id"])
                for example in classifier.examples(text):
                    file.write(f"{LABEL}{label} {example}\n".encode())
                    lines += 1
    with output.create(f"trained/{source}/part-{part:05d}") as file:
        file.write(b"".join(sorted(trained)))
    output.note = {"label": label, "lines": lines}


def train_step(store: Store, classifier: Classifier) -> Step:
    """Step `train`: the model and the sorted ids of the clusters that trained it."""
    return Step("train", lambda results: [_plan_training(results)], partial(_train, store, classifier))


TrainGroup = tuple[tuple[str, int, FileEntry, FileEntry], ...]


def _plan_training(results: Results) -> TrainGroup:
    return tuple((result.note["label"], result.note["lines"], *result.files) for result in results["labels"])


def _train(store: Store, classifier: Classifier, group: TrainGroup, output: Output) -> None:
    lines = {label: sum(n for name, n, _, _ in group if name == label) for label in sorted(set(classifier.labels.values()))}
    if empty := [label for label, n in lines.items() if n == 0]:
        raise ConfigError(
            f"{classifier.where}: the label {empty[0]!r} has no training text; its sources' clusters are held out, empty, "
            f"or not among train_fraction = {classifier.train_fraction}"
        )
    most = classifier.max_label_ratio * min(lines.values())
    shares = {label: min(1.0, most / n) for label, n in lines.items()}
    model = train(_training_lines(store, output.attempt.root, group, shares, classifier.key), classifier.fasttext, classifier.key)
    with output.create(classifier.model_name) as file:
        file.write(model)
    trained = sorted({name for _, _, _, entry in group for name in read_ids(store, output.attempt.root, entry)})
    with output.create(TRAINED) as file:
        file.write(b"".join(trained))
    output.counts.update({"trained_clusters": len(trained)} | {f"training_lines:{label}": n for label, n in lines.items()})


def _training_lines(store: Store, root: str, group: TrainGroup, shares: Mapping[str, float], key: str) -> Iterator[str]:
    """The lines, of an abundant label only the share that a hash of the line keeps."""
    for label, _, entry, _ in group:
        for line in read_entry(store, root, entry).decode().split("\n")[:-1]:
            if shares[label] == 1.0 or keyed_fraction(f"balance:{key}", hashlib.sha256(line.encode()).digest()) < shares[label]:
                yield line


@dataclass(frozen=True)
class Trained:
    """Where the model and the ids of the clusters that trained it lie, within the stage's artifact."""

    model: FileEntry
    clusters: FileEntry


def trained_files(results: Results) -> Trained:
    """What the step `train` left."""
    model, clusters = results["train"][0].files
    return Trained(model, clusters)


@functools.lru_cache(maxsize=2)
def open_model(store: Store, root: str, entry: FileEntry) -> Any:
    """The fastText model, loaded once a process."""
    return load(read_entry(store, root, entry))


@functools.lru_cache(maxsize=2)
def trained_clusters(store: Store, root: str, entry: FileEntry) -> frozenset[bytes]:
    """Ids of the clusters that trained (16 bytes each: their number is bounded by what one fastText process can train on)."""
    return frozenset(read_ids(store, root, entry))


def validation_texts(
    store: Store, inputs: Mapping[str, Manifest], classifier: Classifier, trained: frozenset[bytes]
) -> Iterator[tuple[str, str, list[str]]]:
    """(source, label, texts) of the sources kept out, a partition at a time, without members of clusters that trained."""
    for source, label in sorted(classifier.validation_labels.items()):
        manifest = inputs[f"documents.{source}"]
        for part in range(parts_of(manifest)):
            documents = read_documents(store, manifest, part, ["id", "text"])
            clusters = read_beside(store, inputs["clusters"], source, part, documents["id"], ["cluster_id"])["cluster_id"].to_pylist()
            fresh = documents["text"].filter(pa.array([name not in trained for name in clusters], pa.bool_()))
            yield source, label, [text for text in fresh.to_pylist() if text.strip()]


def part_groups(inputs: Mapping[str, Manifest]) -> list[tuple[str, int]]:
    """(source, partition) of every table that a scoring stage writes."""
    return [(source, part) for source, documents in sources_of(inputs).items() for part in range(parts_of(documents))]
