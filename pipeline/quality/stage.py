"""Stage `quality`: signals beside the documents. It measures; select decides.

Files: `<source>/part-*.parquet` (schema: `score.signals_schema`); with evaluation tasks `eval_tasks.json` (how many items each task
file has, and how much of them documents can cover: see `eval_overlap.totals_of`); with a classifier, of each half `quality-*.bin` and
`trained_clusters-*` (sorted 16-byte ids of the clusters that trained it; the other half's model judges them), and `validation.json`
(accuracy and AUC on whole sources kept out, and on the pages that taught by contrast, by the half that did not see them).
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.classifier_steps import (
    HALVES,
    Trained,
    check_sources,
    is_taken,
    label_of,
    label_step,
    open_fitted,
    part_groups,
    train_step,
    trained_files,
    validation_texts,
)
from pipeline.documents import document_pieces, read_beside, read_documents
from pipeline.exact_copies import ask_steps, fill_step, wanted_files, write_own, write_scored
from pipeline.partitions import Output, Results, RunGroups, Step, map_groups, run_stage
from pipeline.quality.classifier import NEGATIVE, POSITIVE, auc, quality_classifier
from pipeline.quality.config import EVAL_TASKS_FILE, Config, DatatroveFilter, QualityClassifier, resolve_files
from pipeline.quality.datatrove_blocks import block_class, build
from pipeline.quality.dirty_words import read_lists
from pipeline.quality.eval_overlap import task_index, task_tables
from pipeline.quality.prose import SIGNALS, prose_numbers
from pipeline.quality.ranks import load, numbers_of_line, scores
from pipeline.quality.score import Scorer, beyond_text, score
from pipeline.quality.view import view
from storage.artifact import FileEntry, Manifest, read_entry
from storage.store import Store
from storage.tables import parse_table

BASELINES = {"stop_word_ratio": "stop_word_ratio", "gopher_word_count": "word_count"}  # of `prose.SIGNALS`, and what they are called
NAME = "quality"
VERSION = 6
__all__ = ["NAME", "VERSION", "Config", "check_config", "resolve_files", "run"]


def check_config(config: Config, inputs: Mapping[str, Manifest] | None = None) -> None:
    """Raises ConfigError for what no validator of the model can see: datatrove blocks and, given the inputs, names of sources."""
    for item in config.datatrove_filters:
        block_class(item)
    if config.classifier is not None and inputs is not None:
        check_sources(quality_classifier(config.classifier), inputs)


def run(
    *,
    store: Store,
    raw: Store,
    config: Config,
    inputs: Mapping[str, Manifest],
    run_groups: RunGroups = map_groups,
    info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Score every document. `inputs`: `documents.<source>`, `clusters`, and `dropped.<source>` of those that teach by
    contrast. `raw` is raw_root; `config` comes from `resolve_files`.

    Raises ConfigError before any work for a datatrove block or a source that is not there, and for a label without training text.
    """
    check_config(config, inputs)
    ask, wanted = ask_steps(store, inputs, "exact_id")
    tasks = Step("tasks", lambda _: [0] if config.eval_tasks else [], partial(_collect_tasks, raw, config), final=False)
    steps = [ask, wanted, tasks, Step("task_totals", lambda results: [result.note for result in results["tasks"]], _write_totals)]
    if config.classifier is not None:
        classifier = quality_classifier(config.classifier)
        validate_all = partial(_validate, store, dict(inputs), config.classifier)
        validate = Step("validate", partial(_plan_validation, config.classifier), validate_all)
        steps += [label_step(store, inputs, classifier), train_step(store, classifier), validate]
    groups = part_groups(inputs)
    score_all = Step("score", partial(_plan_scores, groups), partial(_score, store, raw, config, dict(inputs)), final=False)
    steps += [score_all, fill_step(store, inputs)]
    return run_stage(store=store, stage=NAME, version=VERSION, config=config, inputs=inputs, steps=steps, run_groups=run_groups, info=info)


def _collect_tasks(raw: Store, config: Config, _: int, output: Output) -> None:
    """The items of the tasks, and their n-grams; a note of how many items each task has."""
    items, ngrams, output.note = task_tables(raw, config.eval_tasks)
    output.table("task_items", items)
    output.table("task_ngrams", ngrams)


def _write_totals(totals: Mapping[str, Mapping[str, int]], output: Output) -> None:
    with output.create(EVAL_TASKS_FILE) as file:
        file.write(json.dumps(totals, indent=1, sort_keys=True).encode())


@dataclass(frozen=True)
class ScoreGroup:
    """A partition of a source, and the files of earlier steps that scoring reads."""

    source: str
    part: int
    wanted: FileEntry | None
    tasks: tuple[FileEntry, ...]  # items and n-grams; none without tasks
    trained: Trained | None


def _plan_scores(groups: Sequence[tuple[str, int]], results: Results) -> list[ScoreGroup]:
    wanted = wanted_files(results)
    tasks = results["tasks"][0].files if results["tasks"] else ()
    trained = trained_files(results) if "train" in results else None
    return [ScoreGroup(source, part, wanted.get(part), tasks, trained) for source, part in groups]


def _score(store: Store, raw: Store, config: Config, inputs: Mapping[str, Manifest], group: ScoreGroup, output: Output) -> None:
    columns = ["id", "text", "url", "language", "language_probability"]
    documents = inputs[f"documents.{group.source}"]
    ids = read_documents(store, documents, group.part, ["id"])["id"]
    clusters = read_beside(store, inputs["clusters"], group.source, group.part, ids, ["cluster_id", "exact_id"])
    smallest = pc.equal(clusters["exact_id"], clusters["id"])
    scorer = _scorer(store, raw, config, output.attempt.root, group)
    cluster_ids, tables = clusters["cluster_id"].filter(smallest).to_pylist(), list[pa.Table]()
    for piece in document_pieces(store, documents, group.part, columns, smallest):
        position = sum(table.num_rows for table in tables)
        tables.append(scorer.table(piece, cluster_ids[position : position + piece.num_rows]))
    table = pa.concat_tables(tables).combine_chunks()
    write_scored(store, output, group.source, group.part, table, group.wanted)
    if beyond_text(config) and table.num_rows < len(ids):
        others = document_pieces(store, documents, group.part, columns, pc.invert(smallest))
        write_own(output, group.source, group.part, pa.concat_tables(map(scorer.own_table, others)).combine_chunks())
    output.counts["scored"] += table.num_rows


def _scorer(store: Store, raw: Store, config: Config, root: str, group: ScoreGroup) -> Scorer:
    tasks = [parse_table(read_entry(store, root, entry), entry.name) for entry in group.tasks]
    return Scorer(
        config=config,
        dirty_words=read_lists(raw, config.dirty_words) if config.dirty_words else None,
        blocks={f"datatrove_{item.name}": _block(item.model_dump_json()) for item in config.datatrove_filters},
        fitted=None if group.trained is None else open_fitted(store, root, group.trained, load),
        tasks=task_index(*tasks) if tasks else None,
    )


@functools.lru_cache(maxsize=64)
def _block(wanted: str) -> Any:
    """A datatrove block, made once a process (URLFilter takes seconds and 800 MB)."""
    return build(DatatroveFilter.model_validate_json(wanted))


@dataclass(frozen=True)
class Validation:
    """The models, and the examples of the pages that taught by contrast, of each half those that it saw. `shares`: of a label's examples,
    those that a hash of each takes, so that no more are judged than train."""

    trained: Trained
    pages: tuple[tuple[FileEntry, ...], ...]
    n_pages: int
    shares: Mapping[str, float]


def _plan_validation(config: QualityClassifier, results: Results) -> list[Validation]:
    folders = [f"labels/{source}/" for source in (config.contrast.sources if config.contrast else ())]
    files, lines = list[FileEntry](), Counter[str]()
    for result in results["labels"]:
        if found := [file for file in result.files if file.name.startswith(tuple(folders))]:
            files += found
            for of_half in result.note["lines"]:
                lines.update(of_half)
    pages = tuple(tuple(file for file in files if f"/half-{half}/" in file.name) for half in range(HALVES))
    n_pages = sum(result.counts.get("contrast_pages", 0) for result in results["labels"])
    shares = {label: min(1.0, config.ranks.max_examples / n) for label, n in lines.items()}
    return [Validation(trained_files(results), pages, n_pages, shares)]


def _validate(store: Store, inputs: Mapping[str, Manifest], config: QualityClassifier, group: Validation, output: Output) -> None:
    fitted, found = open_fitted(store, output.attempt.root, group.trained, load), dict[str, dict[str, Any]]()
    for source, label, texts, cluster_ids in validation_texts(store, inputs, quality_classifier(config)):
        numbers = [prose_numbers(seen, score(seen)) for seen in map(view, texts)]
        _add(found.setdefault(source, _rows(label)), numbers, scores(fitted, numbers, cluster_ids))
    report = validation_report(found)
    if config.contrast is not None:
        by_label = {label: _rows(label) for label in (NEGATIVE, POSITIVE)}
        for half, entries in enumerate(group.pages):
            for entry in entries:
                texts = read_entry(store, output.attempt.root, entry).decode().split("\n")[:-1]
                lines = [numbers_of_line(line) for line in texts if is_taken(f"validate:{config.seed}", line, group.shares[label_of(line)])]
                for label, rows in by_label.items():
                    numbers = [row for name, row in lines if name == label]
                    if numbers:  # judged by the half that did not see them
                        _add(rows, numbers, fitted.models[1 - half].probabilities(np.array(numbers, np.float64)).tolist())
        report["contrast"] = {"pages": group.n_pages, **_figures(by_label)}
    with output.create("validation.json") as file:
        file.write(json.dumps(report, indent=1, sort_keys=True).encode())


def _rows(label: str) -> dict[str, Any]:
    return {"label": label, "scores": [], **{name: [] for name in BASELINES}}


def _add(rows: dict[str, Any], numbers: Sequence[Sequence[float]], found: Sequence[float]) -> None:
    rows["scores"] += found
    for name in BASELINES:
        rows[name] += [row[SIGNALS.index(name)] for row in numbers]


def validation_report(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of the sources kept out, together and each: see `_figures`."""
    return {
        **_figures(found),
        "sources": {
            source: {
                "label": rows["label"],
                "documents": len(rows["scores"]),
                "accuracy": _rounded(_right(rows) / len(rows["scores"])) if rows["scores"] else None,
                "mean_score": _rounded(float(np.mean(rows["scores"]))) if rows["scores"] else None,
            }
            for source, rows in sorted(found.items())
        },
    }


def _figures(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy at 0.5 and AUC, beside the AUC of what costs nothing: the stop-word ratio and the number of words. None where a side is
    empty. 4 decimals. `no_better_than` names the baselines that the classifier does not beat."""

    def values(column: str, positive: bool) -> list[float]:
        return [value for rows in found.values() if (rows["label"] == POSITIVE) == positive for value in rows[column]]

    documents = sum(len(rows["scores"]) for rows in found.values())
    aucs = {column: _rounded(auc(values(column, True), values(column, False))) for column in ("scores", *BASELINES)}
    own = aucs["scores"]
    return {
        "documents": documents,
        "accuracy": _rounded(sum(map(_right, found.values())) / documents) if documents else None,
        "auc": own,
        **{f"{name}_auc": aucs[column] for column, name in BASELINES.items()},
        "no_better_than": [] if own is None else [name for column, name in BASELINES.items() if (aucs[column] or 0.0) >= own],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _right(rows: Mapping[str, Any]) -> int:
    return sum((value >= 0.5) == (rows["label"] == POSITIVE) for value in rows["scores"])
