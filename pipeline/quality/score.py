"""`score(document) -> signals`: every number that a quality rule may be about, from one tokenisation. No threshold is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.classifier_steps import Fitted
from pipeline.quality import c4, fineweb, gopher, native_scripts
from pipeline.quality.config import Config
from pipeline.quality.datatrove_blocks import verdict
from pipeline.quality.dirty_words import WordList, count_matches, list_for
from pipeline.quality.eval_overlap import OVERLAPS, TaskIndex, batches, overlaps
from pipeline.quality.pii import pii_spans
from pipeline.quality.prose import prose_numbers
from pipeline.quality.ranks import scores
from pipeline.quality.view import FUNCTION_WORD, View, ratio, view
from pipeline.words import words
from storage.tables import ID

COUNTS = (*gopher.COUNTS, *c4.COUNTS, *native_scripts.COUNTS)
RATIOS = (*gopher.RATIOS, *c4.RATIOS, *fineweb.RATIOS, "stop_word_ratio", *native_scripts.RATIOS)
PII = pa.list_(pa.struct([pa.field("start", pa.int32()), pa.field("end", pa.int32()), pa.field("kind", pa.string())]))


def score(view: View) -> dict[str, float | None]:
    """The heuristic signals of a document, by name (`COUNTS` whole numbers, `RATIOS` otherwise; `NULLABLE_RATIOS` may be None)."""
    return {
        **gopher.quality_signals(view),
        **gopher.repetition_signals(view),
        **c4.signals(view),
        **fineweb.signals(view),
        "stop_word_ratio": ratio(view.count(FUNCTION_WORD), len(view.words)),
        **native_scripts.signals(view.text),
    }


def beyond_text(config: Config) -> tuple[str, ...]:
    """Signals that depend on more than the text, on its language or URL: documents of equal text do not share them. RULE 14."""
    words = ("dirty_words", "dirty_word_ratio") if config.dirty_words else ()
    return (*words, *(f"datatrove_{item.name}" for item in config.datatrove_filters))


def signals_schema(config: Config) -> pa.Schema:
    """Schema of the signals table, a row a document. Null: the recipe does not ask for it, or the text is in a script without it."""
    return pa.schema(
        [
            pa.field("id", ID, nullable=False),
            pa.field("text_size_bytes", pa.int64(), nullable=False),  # UTF-8, unedited
            *(pa.field(name, pa.int32(), nullable=False) for name in COUNTS),
            *(pa.field(name, pa.float32(), nullable=False) for name in RATIOS),
            *(pa.field(name, pa.float32()) for name in native_scripts.NULLABLE_RATIOS),
            pa.field("dirty_words", pa.int32()),  # matches in the list of the document's language
            pa.field("dirty_word_ratio", pa.float32()),  # per word
            pa.field("quality_score", pa.float32()),  # probability of the positive label
            pa.field("eval_overlap", OVERLAPS),  # the items of evaluation tasks with which it shares an n-gram, and the share of each
            *(pa.field(f"datatrove_{item.name}", pa.int32(), nullable=False) for item in config.datatrove_filters),
            pa.field("pii", PII, nullable=False),  # UTF-8 byte offsets
        ]
    )


@dataclass(frozen=True)
class Scorer:
    """All that scoring needs, opened: word lists by language, datatrove's blocks by signal, the quality models, the tasks' n-grams."""

    config: Config
    dirty_words: Mapping[str, WordList] | None = None
    blocks: Mapping[str, Any] = field(default_factory=dict)
    fitted: Fitted | None = None
    tasks: TaskIndex | None = None

    def table(self, documents: pa.Table, cluster_ids: Sequence[bytes] = ()) -> pa.Table:
        """Signals of documents (columns id, text, url, language, language_probability), in their order. One tokenisation each.

        `cluster_ids`: of each document, where there is a classifier.
        """
        schema = signals_schema(self.config)
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        numbers = list[list[float]]()
        for row in documents.to_pylist():
            seen = view(row["text"])
            values = self._signals(row, seen)
            for name, column in columns.items():
                column.append(values.get(name))
            if self.fitted is not None:
                numbers.append(prose_numbers(seen, values))
        if self.fitted is not None:
            columns["quality_score"] = scores(self.fitted, numbers, cluster_ids)
        if self.tasks is not None:
            texts = batches(documents["text"].to_pylist())
            columns["eval_overlap"] = [found for batch in texts for found in overlaps(batch, self.tasks)]
        return pa.table(columns, schema=schema)

    def own_table(self, documents: pa.Table) -> pa.Table:
        """The ids of documents and their `beyond_text` signals, in their order."""
        schema = signals_schema(self.config)
        rows = [{"id": row["id"], **self._own_signals(row, len(words(row["text"])))} for row in documents.to_pylist()]
        return pa.Table.from_pylist(rows, schema=pa.schema([schema.field(name) for name in ("id", *beyond_text(self.config))]))

    def _signals(self, row: Mapping[str, Any], seen: View) -> dict[str, Any]:
        text = seen.text
        values: dict[str, Any] = {
            **score(seen),
            "id": row["id"],
            "text_size_bytes": len(text.encode()),
            "pii": [span._asdict() for span in pii_spans(text)],
        }
        return values | self._own_signals(row, len(seen.words))

    def _own_signals(self, row: Mapping[str, Any], n_words: int) -> dict[str, Any]:
        values = dict[str, Any]()
        if self.dirty_words is not None:
            values["dirty_words"] = count_matches(row["text"], list_for(self.dirty_words, row["language"]))
            values["dirty_word_ratio"] = ratio(values["dirty_words"], n_words)
        for name, block in self.blocks.items():
            values[name] = verdict(
                block, **{k: row[k] for k in ("text", "url", "language", "language_probability")}, document=row["id"].hex()
            )
        return values
