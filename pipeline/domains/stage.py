"""Stage `domains`: the probability of each domain beside the documents. It measures; select decides (RULE 17).

Files: `<source>/part-*.parquet` (schema: `documents.DOMAIN_SCORES`; all null for a text without a known word, and everywhere without
labels) and, with labels, of each half `domains-*.bin` and `trained_clusters-*` (sorted 16-byte ids of the clusters that trained it; the
other half's model judges them), `thresholds.json` (from where code and mathematics should be claimed: see `thresholds.propose`) and
`validation.json` (accuracy and confusion on whole sources kept out, by these thresholds, without the language).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.classifier_steps import (
    Classifier,
    Fitted,
    Trained,
    check_sources,
    label_step,
    open_fitted,
    part_groups,
    train_step,
    trained_files,
    validation_texts,
)
from pipeline.documents import DOMAIN_SCORES, DOMAINS, document_pieces, read_beside, read_documents
from pipeline.domains.config import Config
from pipeline.domains.logistic import Model, load, train
from pipeline.domains.signals import examples, features, read
from pipeline.domains.thresholds import CLAIMED, FILE, Histogram, claimed, histogram, propose
from pipeline.exact_copies import ask_steps, fill_step, wanted_files, write_scored
from pipeline.partitions import Output, Results, RunGroups, Step, map_groups, run_stage
from storage.artifact import FileEntry, Manifest
from storage.store import Store

NAME = "domains"
VERSION = 2
MODEL_NAME = "domains"
__all__ = ["NAME", "VERSION", "Config", "check_config", "run"]


def domain_classifier(config: Config) -> Classifier:
    """The classifier that a recipe describes."""
    return Classifier(
        where="domains.labels",
        model_name=MODEL_NAME,
        labels=config.labels,
        validation_labels=config.validation_sources,
        train_fraction=config.train_fraction,
        max_label_ratio=config.max_label_ratio,
        seed=config.seed,
        examples=partial(example_lines, config=config),
        train=partial(train, config=config.logistic),
        load=load,
        max_lines=config.logistic.max_examples,
    )


def check_config(config: Config, inputs: Mapping[str, Manifest]) -> None:
    """Raises ConfigError for a source that is not there."""
    check_sources(domain_classifier(config), inputs)


def run(
    *,
    store: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Train the classifier, if there are labels, and give every document its probabilities. `inputs`: `documents.<source>`, `clusters`.

    Raises ConfigError before any work for a source that is not there, and for a label without training text.
    """
    check_config(config, inputs)
    steps = [*ask_steps(store, inputs, "exact_id")]
    if config.labels:
        classifier = domain_classifier(config)
        steps += [label_step(store, inputs, classifier), train_step(store, classifier)]
    groups = part_groups(inputs)
    steps.append(Step("score", partial(_plan_scores, groups), partial(_score, store, config, dict(inputs)), final=False))
    if config.labels:
        steps.append(Step("propose", lambda results: [[result.note for result in results["score"] if result.note]], _propose))
        validate = partial(_validate, store, dict(inputs), config)
        steps.append(Step("validate", lambda results: [(trained_files(results), results["propose"][0].note)], validate))
    steps.append(fill_step(store, inputs))
    return run_stage(store=store, stage=NAME, version=VERSION, config=config, inputs=inputs, steps=steps, run_groups=run_groups, info=info)


def example_lines(text: str, config: Config) -> list[str]:
    """What a document trains with, each as a line of JSON."""
    return [json.dumps(example) for example in examples(text, config.piece_chars, config.max_examples)]


def score(fitted: Fitted, texts: Sequence[str], cluster_ids: Sequence[bytes], config: Config) -> list[list[float] | None]:
    """For each text the probabilities of `DOMAINS`, by the models that did not see its cluster; None where they know none of its words."""
    found = features([read(text, config.piece_chars, config.max_pieces) for text in texts])

    def predict(model: Model, rows: list[int]) -> NDArray[np.float64]:
        return model.probabilities(found, DOMAINS)[rows]

    return [None if np.isnan(row).any() else row.tolist() for row in fitted.scores(cluster_ids, predict)]


@dataclass(frozen=True)
class ScoreGroup:
    """A partition of a source, and the files of earlier steps that scoring reads."""

    source: str
    part: int
    wanted: FileEntry | None
    trained: Trained | None


def _plan_scores(groups: Sequence[tuple[str, int]], results: Results) -> list[ScoreGroup]:
    wanted, trained = wanted_files(results), trained_files(results) if "train" in results else None
    return [ScoreGroup(source, part, wanted.get(part), trained) for source, part in groups]


def _score(store: Store, config: Config, inputs: Mapping[str, Manifest], group: ScoreGroup, output: Output) -> None:
    documents = inputs[f"documents.{group.source}"]
    ids = read_documents(store, documents, group.part, ["id"])["id"]
    clusters = read_beside(store, inputs["clusters"], group.source, group.part, ids, ["cluster_id", "exact_id"])
    smallest = pc.equal(clusters["exact_id"], clusters["id"])
    rows, cluster_ids = list[list[float] | None](), clusters["cluster_id"].filter(smallest).to_pylist()
    if group.trained is None:
        rows = [None] * len(cluster_ids)
    else:
        fitted = open_fitted(store, output.attempt.root, group.trained, load)
        for piece in document_pieces(store, documents, group.part, ["text"], smallest):
            texts = piece["text"].to_pylist()
            rows += score(fitted, texts, cluster_ids[len(rows) : len(rows) + len(texts)], config)
        output.counts["scored"] += len(rows)
        if (label := config.labels.get(group.source)) is not None:
            judged = zip(cluster_ids, rows, strict=True)
            output.note = histogram(label, [row for name, row in judged if row is not None and fitted.trained(name)])
    columns = {f"p_{domain}": [None if row is None else row[i] for row in rows] for i, domain in enumerate(DOMAINS)}
    table = pa.table({"id": ids.filter(smallest), **columns}, schema=DOMAIN_SCORES)
    write_scored(store, output, group.source, group.part, table, group.wanted)


def _propose(histograms: Sequence[Histogram], output: Output) -> None:
    output.note = propose(histograms)
    with output.create(FILE) as file:
        file.write(json.dumps(output.note, indent=1, sort_keys=True).encode())


def _validate(
    store: Store, inputs: Mapping[str, Manifest], config: Config, group: tuple[Trained, Mapping[str, Any]], output: Output
) -> None:
    trained, proposed = group
    thresholds = {domain: proposed[domain]["threshold"] if domain in proposed else math.inf for domain in CLAIMED}
    fitted, chosen = open_fitted(store, output.attempt.root, trained, load), dict[str, Counter[str]]()
    for source, _, texts, cluster_ids in validation_texts(store, inputs, domain_classifier(config)):
        for row in score(fitted, texts, cluster_ids, config):
            chosen.setdefault(source, Counter())[choice(row, thresholds)] += 1
    with output.create("validation.json") as file:
        file.write(json.dumps(validation_report(chosen, config.validation_sources), indent=1, sort_keys=True).encode())


def choice(row: Sequence[float] | None, thresholds: Mapping[str, float]) -> str:
    """The domain of a document whose language nobody asks: code or mathematics where claimed, else the likelier of the rest."""
    if row is None:
        return "general"
    known = dict(zip(DOMAINS, row, strict=True))
    return claimed(known, thresholds) or max((domain for domain in DOMAINS if domain not in CLAIMED), key=lambda domain: known[domain])


def validation_report(chosen: Mapping[str, Mapping[str, int]], labels: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy over the documents of sources kept out, per domain and per source, and the confusion (declared -> chosen -> documents)."""

    def accuracy(right: int, documents: int) -> float | None:
        return round(right / documents, 4) if documents else None

    confusion = {label: Counter[str]() for label in sorted(set(labels.values()))}
    for source, counts in chosen.items():
        confusion[labels[source]].update(counts)
    return {
        "documents": sum(sum(counts.values()) for counts in confusion.values()),
        "accuracy": accuracy(sum(row[label] for label, row in confusion.items()), sum(sum(row.values()) for row in confusion.values())),
        "accuracy_by_domain": {label: accuracy(row[label], sum(row.values())) for label, row in confusion.items()},
        "confusion": {label: {domain: row[domain] for domain in DOMAINS} for label, row in confusion.items()},
        "sources": {
            source: {
                "domain": labels[source],
                "documents": sum(c.values()),
                "accuracy": accuracy(c.get(labels[source], 0), sum(c.values())),
            }
            for source, c in sorted(chosen.items())
        },
    }
